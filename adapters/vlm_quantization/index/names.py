"""The rows of an index whose items are named exactly as a text."""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import workbench as wb
from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from adapters.vlm_quantization.index.blocks import CheckedRows
    from adapters.vlm_quantization.index.items import Items


#: Of an index that was built before names were stored, the names of more items than this are not read: it
#: would hold up its first search for seconds.
MOST_NAMED = 100_000

#: Names that are sorted in memory at a time, 12 bytes each.
RUN = 1 << 21

#: The type of the stored rows.
ROW = np.dtype("<u4")

#: The type of the stored keys.
KEY = np.dtype("<u8")


def name_key(text: str) -> str:
    """Return a text in the form in which names are compared: its words, or itself if it has none."""
    return " ".join(words_of(text)) or unicodedata.normalize("NFC", text.strip())


def number_of(key: str) -> int:
    """Return the 64-bit number under which a name is stored; two names have the same by chance never."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


class Named(Protocol):
    """Finds items by their names."""

    def rows(self, text: str) -> NDArray[np.int64]:
        """Return the rows of the items with a name, in order."""


class Names:
    """The names of one side's items, read from the items: of an index that has no file of them.

    Parameters
    ----------
    items : Items
        The items; none of them has a name here if there are more than :data:`MOST_NAMED`.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        pairs = [
            (zlib.crc32(key.encode()), row)
            for row in range(len(items) if len(items) <= MOST_NAMED else 0)
            for key in keys_of(items[row])
        ]
        both = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        self._keys, self._rows = both[:, 0], both[:, 1]

    def rows(self, text: str) -> NDArray[np.int64]:
        """Return the rows of the items with a name, in order."""
        key = name_key(text)
        number = zlib.crc32(key.encode())
        found = self._rows[np.searchsorted(self._keys, number) : np.searchsorted(self._keys, number, "right")]
        kept = [row for row in found if key in keys_of(self._items[row])]
        return np.array(kept, np.int64)


class NameFile:
    """The names of one side's items in two files: their numbers, sorted, and the row of each.

    Parameters
    ----------
    keys : CheckedRows, uint64, shape (m,)
        Numbers of the names, ascending.
    rows : CheckedRows, uint32, shape (m,)
        The rows of the items, ascending among equal numbers.
    count : int
        Number of items.
    """

    def __init__(self, keys: CheckedRows, rows: CheckedRows, count: int) -> None:
        self._keys = keys
        self._rows = rows
        self._count = count

    def rows(self, text: str) -> NDArray[np.int64]:
        """Return the rows of the items with a name, in order."""
        number = number_of(name_key(text))
        first = self._place(lambda key: key >= number)
        last = self._place(lambda key: key > number)
        found = self._rows[first:last].astype(np.int64)
        if len(found) and (found[-1] >= self._count or (np.diff(found) <= 0).any()):
            raise wb.CorruptFile(
                self._rows.file.path,
                "a name has rows that no item has",
                hint="Build the index again.",
            )
        return found

    def _place(self, reached: Callable[[int], bool]) -> int:
        """Return the place of the first key for which something holds."""
        low, high = 0, len(self._keys)
        while low < high:
            middle = (low + high) // 2
            if reached(int(self._keys[middle])):
                high = middle
            else:
                low = middle + 1
        return low

    def check(self) -> None:
        """Check that the keys ascend.

        Raises
        ------
        workbench.CorruptFile
            They do not.
        """
        for start in range(0, len(self._keys), RUN):
            part = self._keys[max(0, start - 1) : start + RUN]
            if (part[1:] < part[:-1]).any():
                raise wb.CorruptFile(
                    self._keys.file.path, "the names are not in order", hint="Build the index again."
                )


class NameWriter:
    """Sorts the names of any number of items in bounded memory.

    Parameters
    ----------
    folder : Path
        Where sorted runs are kept until they are merged, as files without a name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = array("Q")
        self._rows = array("I")
        self._runs: list[tuple[NDArray[np.uint64], NDArray[np.uint32]]] = []

    def add(self, row: int, item: Mapping[str, Any]) -> None:
        """Add the names of an item; rows ascend."""
        for key in keys_of(item):
            if key:
                self._numbers.append(number_of(key))
                self._rows.append(row)
        if len(self._numbers) >= RUN:
            self._spill()

    def _spill(self) -> None:
        numbers, rows = _in_order(np.array(self._numbers, KEY), np.array(self._rows, ROW))
        self._runs.append((_kept(numbers, self._folder), _kept(rows, self._folder)))
        self._numbers, self._rows = array("Q"), array("I")

    def merged(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32]]]:
        """Yield all names in parts, ascending: their numbers, and the row of each."""
        if not self._runs:
            yield _in_order(np.array(self._numbers, KEY), np.array(self._rows, ROW))
            return
        if self._numbers:
            self._spill()
        yield from self._between([(0, len(numbers)) for numbers, _ in self._runs], 0, 1 << 64)

    def _between(
        self, places: list[tuple[int, int]], low: int, high: int
    ) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32]]]:
        """Yield the names whose numbers are from ``low`` to below ``high``, which are in these places."""
        if sum(last - first for first, last in places) <= RUN:
            numbers = [run[first:last] for (run, _), (first, last) in zip(self._runs, places, strict=True)]
            rows = [run[first:last] for (_, run), (first, last) in zip(self._runs, places, strict=True)]
            yield _in_order(np.concatenate(numbers), np.concatenate(rows))
        elif high - low == 1:  # one name of very many items, whose rows ascend from run to run
            for run, (first, last) in zip(self._runs, places, strict=True):
                yield run[0][first:last], run[1][first:last]
        else:
            middle = (low + high) // 2
            cuts = [
                first + int(np.searchsorted(numbers[first:last], np.uint64(middle)))
                for (numbers, _), (first, last) in zip(self._runs, places, strict=True)
            ]
            lower = [(first, cut) for (first, _), cut in zip(places, cuts, strict=True)]
            upper = [(cut, last) for (_, last), cut in zip(places, cuts, strict=True)]
            yield from self._between(lower, low, middle)
            yield from self._between(upper, middle, high)


def _in_order(
    numbers: NDArray[np.uint64], rows: NDArray[np.uint32]
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Sort names by number, then row."""
    order = np.lexsort((rows, numbers))
    return numbers[order], rows[order]


def _kept(values: NDArray[Any], folder: Path) -> NDArray[Any]:
    """Return an array memory-mapped from a file that disappears with it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(values.tobytes())
        file.flush()
        return np.memmap(file, values.dtype, mode="r")


def keys_of(item: Mapping[str, Any]) -> set[str]:
    """Return the names of an item, each once."""
    texts = [item["caption"], *(text for texts in item.get("captions", {}).values() for text in texts)]
    return {name_key(text) for text in texts}
