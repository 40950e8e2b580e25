"""The scan of code columns, compiled by numba.

It is imported only when there is enough to do: importing numba and loading the compiled code takes about half
a second, compiling it for the first time on a machine some seconds more.

A code is read as columns of 1, 2, 4 or 8 bytes, given by their addresses: so one compilation serves every
length and every number of columns. The caller keeps the arrays alive.

What touches every item works on 64 of them at once, as vectors of LLVM, which become the instructions that
the processor has. Left to itself, LLVM spends most of the time on shortening counts of several bytes to one.
"""

# mypy: ignore-errors
# numba gives these functions their types, of its own kinds.

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if numba.config.DISABLE_JIT:
    raise ImportError("numba is switched off by NUMBA_DISABLE_JIT")
if sys.byteorder != "little":
    raise ImportError("the compiled scan is for processors with the lowest byte first")

#: Items whose distances are computed together; they fit in the first-level cache.
BLOCK: Final = 8_192

#: Items that are looked at together: if the nearest of them is too far, none of them is read one by one.
GROUP: Final = 256

#: Items of one vector instruction, or a few.
LANES: Final = 64

#: Items whose columns are read in turn, so that a processor reads from all columns at once.
STRIDE: Final = 512

#: Items ahead of the ones that are read which a scan for a single query asks for. Several queries find all
#: columns of a block but the first time in the cache, and asking would only take time.
AHEAD: Final = 2_048

#: The value of a distance that marks an item that is left out.
_FAR: Final = np.uint8(255)

#: Blocks that are read whole after one in which too few groups were spared.
PATIENCE: Final = 15


_INT8, _INT16, _INT32, _INT64 = (ir.IntType(width) for width in (8, 16, 32, 64))


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, and keep the result on disk if a folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True, boundscheck=False)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return numba.njit(nogil=True, boundscheck=False)(function)


@intrinsic
def _pointer(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@intrinsic
def _next(context: Any, address: Any) -> Any:
    """Return the number at an address and add 1 to it, in one step for all threads."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", place, _INT64(1), "seq_cst")

    return types.int64(types.int64), generate


@intrinsic
def _publish(context: Any, address: Any, value: Any) -> Any:
    """Set the number at an address, after everything that this thread has written before."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], _INT64.as_pointer())
        builder.atomic_rmw("xchg", place, values[1], "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _published(context: Any, address: Any) -> Any:
    """Return the number at an address, and see everything that was written before it was set."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", place, _INT64(0), "seq_cst")

    return types.int64(types.int64), generate


@intrinsic
def _plus_differing(context: Any, total: Any, one: Any, other: Any) -> Any:
    """Return ``total`` plus the number of bits in which two words differ, in the type of ``total``.

    numba would widen small integers to 64 bits, and one vector instruction would do an eighth of the work.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        total, one, other = values
        count = builder.ctpop(builder.xor(one, other))
        if count.type.width > total.type.width:
            count = builder.trunc(count, total.type)
        elif count.type.width < total.type.width:
            count = builder.zext(count, total.type)
        return builder.add(total, count)

    return total(total, one, one), generate


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector of one value."""
    kind = ir.VectorType(value.type, lanes)
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, value, _INT32(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))


def _differing(builder: Any, column: Any, word: Any) -> Any:
    """Return the numbers of bits in which 64 values at an address differ from a word, as bytes."""
    width = word.type.width // 8
    lanes = LANES // 2 // width
    kind, half = ir.VectorType(word.type, lanes), ir.VectorType(_INT8, LANES // 2)
    count = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind]), f"llvm.ctpop.v{lanes}i{8 * width}"
    )
    words = _spread(builder, word, lanes)
    halves = []
    for first in range(0, LANES, LANES // 2):
        # Counts of one byte in values of ``width`` bytes: that many vectors fit in one, byte beside byte.
        packed = None
        for at in range(width):
            place = builder.add(column, _INT64((first + at * lanes) * width))
            items = builder.load(builder.inttoptr(place, kind.as_pointer()), align=1)
            counts = builder.call(count, [builder.xor(items, words)])
            moved = builder.shl(counts, ir.Constant(kind, [8 * at] * lanes)) if at else counts
            packed = builder.or_(packed, moved) if at else moved
        halves.append(builder.bitcast(packed, half))
    order = [lane * width + at for at in range(width) for lane in range(lanes)]
    order += [LANES // 2 + place for place in order]
    return builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(_INT32, LANES), order))


def _added(builder: Any, address: Any, values: Any) -> None:
    """Add a vector to the one at an address."""
    place = builder.inttoptr(address, values.type.as_pointer())
    builder.store(builder.add(builder.load(place, align=1), values), place, align=1)


@intrinsic
def _add_lanes(context: Any, totals: Any, column: Any, word: Any) -> Any:
    """Add the numbers of bits in which 64 values at an address differ from a word to 64 bytes at another."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        totals, column, word = values
        _added(builder, totals, _differing(builder, column, word))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, word), generate


@intrinsic
def _add_digits(context: Any, totals: Any, keys: Any, column: Any, word: Any, step: Any) -> Any:
    """Do as :func:`_add_lanes`, and add the same numbers times ``step`` to 64 keys of two bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        totals, keys, column, word, step = values
        differing = _differing(builder, column, word)
        _added(builder, totals, differing)
        wide = builder.zext(differing, ir.VectorType(_INT16, LANES))
        _added(builder, keys, builder.mul(wide, _spread(builder, step, LANES)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, word, types.uint16), generate


@intrinsic
def _nearer(context: Any, distances: Any, limit: Any) -> Any:
    """Return which of the 64 bytes at an address are below a limit, one bit each, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], ir.VectorType(_INT8, LANES).as_pointer())
        near = builder.icmp_unsigned("<", builder.load(place, align=1), _spread(builder, values[1], LANES))
        return builder.bitcast(near, _INT64)

    return types.uint64(types.int64, types.uint8), generate


@intrinsic
def _lowest(context: Any, word: Any) -> Any:
    """Return the place of the lowest bit that is set in a word other than 0."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


@intrinsic
def _ask_for(context: Any, address: Any) -> Any:
    """Have the cache line at an address loaded meanwhile; an address beyond the end does no harm."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT32, _INT32, _INT32])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.inttoptr(values[0], cgutils.voidptr_t)
        builder.call(ask, [place, _INT32(0), _INT32(3), _INT32(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(types.int64), generate


@_compiled
def _add_column(distances, column, word):
    for item in range(distances.shape[0]):
        distances[item] = _plus_differing(distances[item], column[item], word)


@_compiled
def _measure(addresses, widths, words, first, last, start, distances, ahead):
    """Add what the columns from ``first`` to ``last`` contribute to the distances of items from ``start``.

    With ``ahead``, the columns are asked for some way ahead.
    """
    size = distances.shape[0]
    totals = distances.ctypes.data
    whole = size // LANES * LANES
    for low in range(0, whole, STRIDE):
        high = min(whole, low + STRIDE)
        for at in range(first, last):
            width = widths[at]
            column = addresses[at] + start * width
            if ahead:
                for line in range(low * width, high * width, 64):
                    _ask_for(column + AHEAD * width + line)
            if width == 8:
                for item in range(low, high, LANES):
                    _add_lanes(totals + item, column + 8 * item, words[at])
            elif width == 4:
                for item in range(low, high, LANES):
                    _add_lanes(totals + item, column + 4 * item, np.uint32(words[at]))
            elif width == 2:
                for item in range(low, high, LANES):
                    _add_lanes(totals + item, column + 2 * item, np.uint16(words[at]))
            else:
                for item in range(low, high, LANES):
                    _add_lanes(totals + item, column + item, np.uint8(words[at]))
    if whole == size:
        return
    rest = distances[whole:]
    for at in range(first, last):
        width = widths[at]
        place = _pointer(addresses[at] + (start + whole) * width)
        if width == 8:
            _add_column(rest, numba.carray(place, (size - whole,), np.uint64), words[at])
        elif width == 4:
            _add_column(rest, numba.carray(place, (size - whole,), np.uint32), np.uint32(words[at]))
        elif width == 2:
            _add_column(rest, numba.carray(place, (size - whole,), np.uint16), np.uint16(words[at]))
        else:
            _add_column(rest, numba.carray(place, (size - whole,), np.uint8), np.uint8(words[at]))


@_compiled
def _smallest(distances):
    nearest = _FAR
    for item in range(distances.shape[0]):
        nearest = min(nearest, distances[item])
    return nearest


@_compiled
def _leave_out(distances, mask):
    for item in range(distances.shape[0]):
        distances[item] = distances[item] if mask[item] else _FAR


@_compiled
def _any(mask):
    found = np.uint8(0)
    for item in range(mask.shape[0]):
        found |= mask[item]
    return found != 0


@_compiled
def _cut(rows, distances, count, k, histogram):
    """Keep the k nearest of ``count`` items, in order of rows, and return the distance of the farthest."""
    histogram[:] = 0
    for item in range(count):
        histogram[distances[item]] += 1
    limit = 0
    below = 0
    while below + histogram[limit] < k:
        below += histogram[limit]
        limit += 1
    ties = k - below
    kept = 0
    for item in range(count):
        distance = distances[item]
        if distance < limit or (distance == limit and ties > 0):
            if distance == limit:
                ties -= 1
            rows[kept] = rows[item]
            distances[kept] = distance
            kept += 1
    return limit


@_compiled
def scan(columns, words, split, start, stop, mask, limits, k, rows, distances, counts):
    """Gather the items of a range that are nearer than each query's limit, and lower the limits.

    Parameters
    ----------
    columns : ndarray, int64, shape (2, columns)
        Where each column begins, and the bytes of one of its values.
    words : ndarray, uint64, shape (queries, columns)
        The columns of the queries.
    split : int
        Columns from here on are read only for groups of items that may still be near enough, as long as that
        spares half of them.
    start, stop : int
        The range of rows.
    mask : ndarray, uint8, shape (n,) or (0,)
        1 for the items that may be found; empty for all.
    limits : ndarray, int64, shape (queries,)
        Items at this distance or beyond are not gathered. Lowered to the distance of the k-th best.
    k : int
        Items to keep per query; 0 keeps all, and stops when the next block might not fit.
    rows, distances : ndarray, int64 and uint8, shape (queries, room)
        What is gathered, in order of rows; ``room`` is more than k, for k = 0 at least a block.
    counts : ndarray, int64, shape (queries,)
        How much of them is filled.

    Returns
    -------
    int
        The row up to which everything was looked at.
    """
    addresses = columns[0]
    widths = columns[1]
    total = addresses.shape[0]
    room = rows.shape[1]
    scratch = np.empty(BLOCK, np.uint8)
    place = scratch.ctypes.data
    histogram = np.empty(256, np.int64)
    masked = mask.shape[0] > 0
    ahead = words.shape[0] == 1
    patience = np.zeros(words.shape[0], np.int64)
    for first in range(start, stop, BLOCK):
        size = min(BLOCK, stop - first)
        if masked and not _any(mask[first : first + size]):
            continue
        searching = False
        for query in range(words.shape[0]):
            limit = limits[query]
            if limit == 0:  # k equal codes are found, and later rows come after them
                continue
            searching = True
            count = counts[query]
            if k == 0 and count + size > room:
                return first
            before = count
            block = scratch[:size]
            block[:] = 0
            staged = split < total and patience[query] == 0
            _measure(addresses, widths, words[query], 0, split if staged else total, first, block, ahead)
            if masked:
                _leave_out(block, mask[first : first + size])
            patience[query] = max(0, patience[query] - 1)
            read = 0
            for low in range(0, size, GROUP):
                high = min(size, low + GROUP)
                if staged:
                    group = block[low:high]
                    if _smallest(group) >= limit:
                        continue
                    read += high - low
                    _measure(addresses, widths, words[query], split, total, first + low, group, False)
                    if masked:
                        _leave_out(group, mask[first + low : first + high])
                for lane in range(low, high, LANES):
                    near = _nearer(place + lane, np.uint8(limit))
                    if high - lane < LANES:
                        near &= (np.uint64(1) << np.uint64(high - lane)) - np.uint64(1)
                    while near != 0:
                        item = lane + _lowest(near)
                        near &= near - np.uint64(1)
                        distance = block[item]
                        if distance >= limit:  # the limit is lower by now
                            continue
                        rows[query, count] = first + item
                        distances[query, count] = distance
                        count += 1
                        if k > 0 and count == room:
                            limit = _cut(rows[query], distances[query], count, k, histogram)
                            count = k
            if 2 * read > size:
                patience[query] = PATIENCE
            if k > 0 and count > k and count > before:
                limit = _cut(rows[query], distances[query], count, k, histogram)
                count = k
            limits[query] = limit
            counts[query] = count
        if not searching:
            break
    return stop


@_compiled
def nearest(
    columns,
    words,
    split,
    n,
    piece,
    mask,
    limits,
    k,
    rows,
    distances,
    counts,
    state,
    helping,
    out_rows,
    out_distances,
):
    """Find the k nearest items of each query, or help another thread that does.

    The thread that asks never waits for another one: a piece that another thread has begun, and not finished
    when no others are left, is scanned again. So a thread that gets no processor costs nothing.

    Parameters
    ----------
    columns, words, split, mask, k
        As in :func:`scan`; k is at least 1, and at least k items may be found.
    n, piece : int
        Number of items, and how many of them are one piece.
    limits : ndarray, int64, shape (queries,)
        More than the largest distance; lowered.
    rows, distances, counts : ndarray, shapes (slots, queries, room), the same, and (slots, queries)
        Room for what is gathered: two slots per piece, or one if there is one piece.
    state : ndarray, int64, shape (pieces + 1,)
        Zeros: the next piece, and whether each is done.
    helping : bool
        Scan pieces that no other thread has begun, until there are none, and do nothing else.
    out_rows, out_distances : ndarray, int64, shape (queries, k)
        The results, by (distance, row).

    Returns
    -------
    int
        How many pieces this thread has scanned.
    """
    pieces = state.shape[0] - 1
    address = state.ctypes.data
    slots = np.arange(pieces)
    done = 0
    left = 0
    while True:
        at = _next(address)
        slot = at
        if at >= pieces:
            if helping:
                return done
            while left < pieces and _published(address + 8 * (left + 1)) != 0:
                left += 1
            if left == pieces:
                break
            at = left
            slot = slots[at] = pieces + at
            left += 1
        # An earlier row wins a tie, so items as far away as the farthest of another piece may still count.
        mine = limits.copy()
        counts[slot] = 0
        start = at * piece
        stop = min(n, start + piece)
        scan(columns, words, split, start, stop, mask, mine, k, rows[slot], distances[slot], counts[slot])
        for query in range(words.shape[0]):
            if mine[query] + 1 < limits[query]:
                limits[query] = mine[query] + 1
        if slot == at:
            _publish(address + 8 * (at + 1), 1)
        done += 1
    histogram = np.empty(256, np.int64)
    for query in range(words.shape[0]):
        # A counting sort: pieces come in order of rows, and so do the items of each.
        histogram[:] = 0
        for at in slots:
            for item in range(counts[at, query]):
                histogram[distances[at, query, item]] += 1
        place = 0
        for distance in range(histogram.shape[0]):
            here = histogram[distance]
            histogram[distance] = place
            place += here
        for at in slots:
            for item in range(counts[at, query]):
                distance = distances[at, query, item]
                place = histogram[distance]
                histogram[distance] += 1
                if place < k:
                    out_rows[query, place] = rows[at, query, item]
                    out_distances[query, place] = distance
    return done


@_compiled
def _first_digits(keys, distances, grades, levels):
    for item in range(keys.shape[0]):
        keys[item] = np.uint16(distances[item]) * levels + grades[item]


@_compiled
def _next_digits(addresses, widths, words, first, last, start, distances, keys, step):
    """Do as :func:`_measure`, and add what is added to the distances, times ``step``, to the keys."""
    size = distances.shape[0]
    whole = size // LANES * LANES
    totals = distances.ctypes.data
    digits = keys.ctypes.data
    for at in range(first, last):
        width = widths[at]
        column = addresses[at] + start * width
        for item in range(0, whole, LANES):
            if width == 8:
                _add_digits(totals + item, digits + 2 * item, column + 8 * item, words[at], step)
            elif width == 4:
                _add_digits(totals + item, digits + 2 * item, column + 4 * item, np.uint32(words[at]), step)
            elif width == 2:
                _add_digits(totals + item, digits + 2 * item, column + 2 * item, np.uint16(words[at]), step)
            else:
                _add_digits(totals + item, digits + 2 * item, column + item, np.uint8(words[at]), step)
    if whole < size:
        added = np.zeros(size - whole, np.uint8)
        _measure(addresses, widths, words, first, last, start + whole, added, False)
        for item in range(size - whole):
            distances[whole + item] += added[item]
            keys[whole + item] += np.uint16(added[item]) * step


@_compiled
def _count(keys, histogram):
    for item in range(keys.shape[0]):
        histogram[keys[item]] += 1


@_compiled
def _fold(joint, other, lengths, levels, counts):
    """Sum a joint histogram over all digits but one length's, for each of its lengths.

    Parameters
    ----------
    joint, other : ndarray, uint32, shape (bins,)
        The joint histogram, which is overwritten, and as much room.
    lengths : ndarray, int64, shape (lengths, 2)
        Number of columns and bits of each length that it holds.
    counts : ndarray, int64, shape (sum of levels * (bits + 1),)
        Receives the counts by distance and grade, of one length after the other.
    """
    total = joint.shape[0]
    inner = levels * (lengths[0, 1] + 1)
    to = 0
    for at in range(lengths.shape[0]):
        if at > 0:  # what this length adds, and the distance at the one before, become its distance
            steps = lengths[at, 1] - lengths[at - 1, 1] + 1
            wider = inner + levels * (steps - 1)
            outer = total // (inner * steps)
            other[: outer * wider] = 0
            for high in range(outer):
                for step in range(steps):
                    into = other[high * wider + levels * step :]
                    values = joint[(high * steps + step) * inner :]
                    for low in range(inner):
                        into[low] += values[low]
            joint, other = other, joint
            inner = wider
            total = outer * wider
        here = counts[to : to + inner]
        here[:] = 0
        for high in range(0, total, inner):
            values = joint[high : high + inner]
            for low in range(inner):
                here[low] += values[low]
        to += inner


@_compiled
def count_pairs(columns, words, n, lengths, runs, grades, levels, histograms):
    """Count the items at each distance and grade, for each query and length.

    Parameters
    ----------
    columns, words
        As in :func:`scan`.
    n : int
        Number of items.
    lengths : ndarray, int64, shape (lengths, 2)
        The number of columns of each length, and its bits.
    runs : ndarray, int64, shape (runs, 4)
        First and last length of those that are counted in one joint histogram, where its bins begin, and
        where the counts of its lengths begin. A bin is, last digit first: the grade, the distance at the
        first length, and what each further length adds to it.
    grades : ndarray, uint8, shape (queries, n)
        Below ``levels``.
    histograms : ndarray, int64, shape (queries, counts)
        Receives the counts: for each length, a table (bits + 1, levels).
    """
    near = np.empty(BLOCK, np.uint8)
    digits = np.empty(BLOCK, np.uint16)
    ends = np.empty(runs.shape[0], np.int64)
    for run in range(runs.shape[0]):
        ends[run] = levels * (lengths[runs[run, 0], 1] + 1)
        for at in range(runs[run, 0] + 1, runs[run, 1]):
            ends[run] *= lengths[at, 1] - lengths[at - 1, 1] + 1
        ends[run] += runs[run, 2]
    # As narrow as can be, so that the bins of a run stay in the first-level cache.
    counts = np.empty(ends[-1], np.uint32)
    other = np.empty(ends[-1], np.uint32)
    for query in range(words.shape[0]):
        counts[:] = 0
        for first in range(0, n, BLOCK):
            size = min(BLOCK, n - first)
            distances = near[:size]
            distances[:] = 0
            keys = digits[:size]
            done = 0
            for run in range(runs.shape[0]):
                step = levels
                for at in range(runs[run, 0], runs[run, 1]):
                    until = lengths[at, 0]
                    length = lengths[at, 1]
                    if at == runs[run, 0]:
                        _measure(columns[0], columns[1], words[query], done, until, first, distances, False)
                        _first_digits(keys, distances, grades[query, first : first + size], np.uint16(levels))
                        step *= length + 1
                    else:
                        _next_digits(
                            columns[0],
                            columns[1],
                            words[query],
                            done,
                            until,
                            first,
                            distances,
                            keys,
                            np.uint16(step),
                        )
                        step *= length - lengths[at - 1, 1] + 1
                    done = until
                _count(keys, counts[runs[run, 2] : ends[run]])
        for run in range(runs.shape[0]):
            begin = runs[run, 2]
            end = ends[run]
            of_run = lengths[runs[run, 0] : runs[run, 1]]
            _fold(counts[begin:end], other[begin:end], of_run, levels, histograms[query, runs[run, 3] :])
