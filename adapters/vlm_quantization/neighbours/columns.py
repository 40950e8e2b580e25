"""Codes cut into columns, so that a search at a length reads the bytes of that length and no others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ALL = slice(None)


class Cut(NamedTuple):
    """Where one column of a code lies: bytes ``first`` to ``last``, the last not included."""

    first: int
    last: int

    @property
    def width(self) -> int:
        """Bytes of one value: 1, 2, 4 or 8."""
        return self.last - self.first

    @property
    def name(self) -> str:
        """The bits that it holds, counted from 1, such as ``"17-32"``."""
        return f"{8 * self.first + 1}-{8 * self.last}"


def cuts_of(lengths: Sequence[int]) -> tuple[Cut, ...]:
    """Return the columns of a code: cut at every length, and in between in the widest words that fit.

    Parameters
    ----------
    lengths : sequence of int
        Code lengths in bits, ascending multiples of 8. Lengths of 8, 16, 32, 64 and 128 bits have one column
        each, which holds what the length adds to the one before it.
    """
    cuts = []
    done = 0
    for length in lengths:
        while done < length // 8:
            width = next(width for width in (8, 4, 2, 1) if done + width <= length // 8)
            cuts.append(Cut(done, done + width))
            done += width
    return tuple(cuts)


class Columns:
    """The codes of n items, column by column.

    Indexing gives codes by row, as the packed table does: ``columns[3]`` is uint8 (bytes,).

    Parameters
    ----------
    lengths : sequence of int
        The lengths at which codes are cut; see :func:`cuts_of`.
    parts : sequence of ndarray, uint8, shape (n, width)
        One contiguous array per column, which may be a memory map.
    before_use : callable, optional
        Called as ``before_use(column, rows)`` before rows of a column are used: a slice, numbers or bools. It
        may raise an error, such as for a file that was altered.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        parts: Sequence[NDArray[np.uint8]],
        before_use: Callable[[int, Any], None] | None = None,
    ) -> None:
        self.lengths = tuple(lengths)
        self.cuts = cuts_of(lengths)
        self._parts: list[NDArray[np.uint8] | None] = list(parts)
        self._table: NDArray[np.uint8] | None = None
        self._lock = threading.Lock()
        self._before_use = before_use
        self.shape = (len(parts[0]), self.cuts[-1].last)

    @classmethod
    def of_table(cls, codes: NDArray[np.uint8], lengths: Sequence[int]) -> Columns:
        """Return the columns of packed codes, uint8 (n, bytes); each is copied when it is first used."""
        columns = cls.__new__(cls)
        columns.lengths = tuple(lengths)
        columns.cuts = cuts_of(lengths)
        columns._parts = [None] * len(columns.cuts)
        columns._table = codes
        columns._lock = threading.Lock()
        columns._before_use = None
        columns.shape = (len(codes), columns.cuts[-1].last if columns.cuts else 0)
        return columns

    def __len__(self) -> int:
        return self.shape[0]

    def count(self, bits: int) -> int:
        """Return how many columns a length has."""
        return sum(cut.last <= bits // 8 for cut in self.cuts)

    def words(self, at: int) -> NDArray[np.unsignedinteger[Any]]:
        """Return a column as machine words, uint8, uint16, uint32 or uint64 (n,)."""
        if self._before_use is not None:
            self._before_use(at, _ALL)
        part = self._parts[at]
        if part is None:
            with self._lock:
                part = self._parts[at]
                if part is None:
                    first, last = self.cuts[at]
                    assert self._table is not None  # noqa: S101 (a column is given, or the table is)
                    part = self._parts[at] = np.ascontiguousarray(self._table[:, first:last])
        words: NDArray[np.unsignedinteger[Any]] = part.view(f"u{self.cuts[at].width}")[:, 0]
        return words

    def query_words(self, queries: NDArray[np.uint8], count: int) -> NDArray[np.uint64]:
        """Return the first columns of packed queries as words, uint64 (queries, count)."""
        out = np.empty((len(queries), count), np.uint64)
        for at, (first, last) in enumerate(self.cuts[:count]):
            out[:, at] = np.ascontiguousarray(queries[:, first:last]).view(f"u{last - first}")[:, 0]
        return out

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if self._table is not None:
            return np.asarray(self._table[rows])
        if self._before_use is not None:
            for at in range(len(self.cuts)):
                self._before_use(at, rows)
        return np.concatenate([np.asarray(part[rows]) for part in self._given()], axis=-1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def _given(self) -> Iterator[NDArray[np.uint8]]:
        for part in self._parts:
            assert part is not None  # noqa: S101 (without a table, every column is given)
            yield part
