"""Rows whose values do not have the form of their columns, and what is shown of them.

An older version, another program or a damaged disk may have stored anything. One value must not make all rows
unreadable, so it is shown as missing, or as :data:`workbench.store.records.DAMAGED`. ``workbench doctor``
names such rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, String, TypeDecorator

from workbench.store.records import DAMAGED

#: Seconds since 1970 at the beginning of year 1 and after year 9999: other times have no date.
FIRST_MOMENT, LAST_MOMENT = -62_135_596_800.0, 253_402_300_800.0

#: The values of each type of column, and what replaces others in a column that is never empty.
_KINDS: tuple[tuple[type, tuple[type, ...], Any], ...] = (
    (Boolean, (bool,), False),
    (Integer, (int,), 0),
    (Float, (float, int), 0.0),
    (String, (str,), DAMAGED),
    (LargeBinary, (bytes,), b""),
)

#: At most this many combinations of types are remembered as sound.
_REMEMBERED = 256


class RowCheck:
    """Checks the rows of a query; costs under a microsecond for a sound row.

    Parameters
    ----------
    columns : sequence of Column
        The columns of the query. JSON columns check themselves.
    """

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        self._kinds: list[tuple[frozenset[type], Any] | None] = [_kind(column) for column in columns]
        self._times = [
            at for at, column in enumerate(columns) if column.name.endswith("_at") and self._kinds[at]
        ]
        self._sound: set[tuple[type, ...]] = set()

    def problems(self, row: Sequence[Any]) -> list[int]:
        """Return the places of the values that do not have the form of their column."""
        places = [
            at
            for at, (kind, value) in enumerate(zip(self._kinds, row, strict=True))
            if kind is not None and type(value) not in kind[0]
        ]
        return places + [at for at in self._times if at not in places and not _has_date(row[at])]

    def instead(self, at: int) -> Any:
        """Return what is shown instead of a damaged value of a column."""
        kind = self._kinds[at]
        return None if kind is None else kind[1]

    def mended(self, row: Sequence[Any]) -> tuple[Any, ...] | None:
        """Return a damaged row with what can be shown of it; None if it is sound."""
        kinds = tuple(map(type, row))
        if kinds in self._sound:
            for at in self._times:
                if not _has_date(row[at]):
                    break
            else:
                return None
        if places := self.problems(row):
            values = list(row)
            for at in places:
                values[at] = self.instead(at)
            return tuple(values)
        if len(self._sound) < _REMEMBERED:
            self._sound.add(kinds)
        return None


def _kind(column: Column[Any]) -> tuple[frozenset[type], Any] | None:
    stored = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    for kind, values, instead in _KINDS:
        if isinstance(stored, kind):
            empty = (NoneType,) if column.nullable else ()
            return frozenset((*values, *empty)), None if column.nullable else instead
    return None


def _has_date(seconds: float | None) -> bool:
    return seconds is None or FIRST_MOMENT <= seconds < LAST_MOMENT
