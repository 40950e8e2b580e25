"""Which runs to list, and in which order: a condition in the language of search filters, as SQL.

::

    config.lr < 0.01 and tag:baseline         a setting (nested: config.model.width), a tag
    metric.val/mAP > 0.5                      the last value; .best, .min, .max or .count for another one
    status:(failed, lost) or not experiment:old
    name:nested*   created >= 2026-05         begins with; dates, as short as a year
    tag.owner:kim  seed:3  seconds > 3600     the value of a tag; what else a run has

The grammar is that of :mod:`workbench.search.filters`. The database evaluates all of it, over all runs.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, false, func, or_, select

from workbench.errors import BadInput
from workbench.search.filters import Condition, Filter, FilterValue, parse_filter
from workbench.store.tables import EXPERIMENTS, RUNS, SUMMARIES
from workbench.text import listed, nearest

#: States of a run.
STATUSES = ("running", "succeeded", "failed", "cancelled", "lost")

#: The values of a metric that can be compared; the first one if none is named.
STATISTICS = ("last", "best", "min", "max", "count")

#: Fields whose names are followed by a dot and the name of a setting, a metric or a tag.
_PREFIXES = ("config", "metric", "tag")

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    ":": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_SECONDS = RUNS.c.finished_at - RUNS.c.created_at

#: Fields that are text, numbers and times.
_TEXTS: Mapping[str, Any] = {
    "name": RUNS.c.name,
    "experiment": EXPERIMENTS.c.name,
    "status": RUNS.c.status,
    "notes": RUNS.c.notes,
    "origin": RUNS.c.origin,
}
_NUMBERS: Mapping[str, Any] = {"id": RUNS.c.id, "job": RUNS.c.job_id, "seconds": _SECONDS}
_TIMES: Mapping[str, Any] = {"created": RUNS.c.created_at, "finished": RUNS.c.finished_at}

_FIELDS = (*_TEXTS, *_NUMBERS, *_TIMES, "seed", "tag", "archived", *(f"{name}.…" for name in _PREFIXES))

#: What a path into JSON cannot hold in SQLite.
_UNSAFE = re.compile(r'["\\]')

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?)?)?Z?")


def parsed(where: str) -> Filter:
    """Read a condition.

    Raises
    ------
    BadOptions
        It cannot be read; the message shows where.
    """
    if not isinstance(where, str):
        raise BadInput(
            f"where must be text, got a {type(where).__name__}", hint='For example "config.lr < 0.01".'
        )
    return parse_filter(where)


def fields_of(one: Filter) -> set[str]:
    """Return the first parts of the fields that a condition names."""
    return {condition.field.partition(".")[0] for condition in one.conditions()}


def clause(one: Filter, *, sqlite: bool, experiments: Iterable[str] = ()) -> Any:
    """Return a condition as SQL over the tables ``run`` and ``experiment``.

    Parameters
    ----------
    one : Filter
        The condition.
    sqlite : bool
        Whether the database is SQLite, which reads JSON by other functions than PostgreSQL.
    experiments : iterable of str
        The names of the experiments: another one is an error.

    Raises
    ------
    BadOptions
        It names an unknown field, state or experiment, or compares what has no order.
    """
    names = tuple(experiments)

    def sql_of(condition: Condition) -> Any:
        made = _condition(one, condition, sqlite, names)
        # NULL is neither true nor false, and `not` leaves it so: what is missing does not match.
        return func.coalesce(made, false())

    # `&`, `|` and `~` of clauses are `and`, `or` and `not`.
    return one.combine(sql_of)


def order(sort: str | Sequence[str] | None, *, sqlite: bool) -> list[Any]:
    """Return the order of runs as SQL: ``"metric.val/loss"``, ``"-created"`` (descending), or several.

    Runs without the value come last; the newest of equals first.

    Raises
    ------
    BadInput
        An unknown field.
    """
    out: list[Any] = []
    for name in [sort] if isinstance(sort, str) else sort or ():
        if not isinstance(name, str):
            raise BadInput(
                f"sort must be text, got a {type(name).__name__}", hint='For example "-metric.val/mAP".'
            )
        field = name.removeprefix("-")
        for value in _sorted_by(field, sqlite):
            out += [value.is_(None), value.desc() if name.startswith("-") else value.asc()]
    return [*out, RUNS.c.id.desc()]


def metrics_of(one: Filter) -> list[tuple[Condition, str]]:
    """Return the conditions on metrics, with the metric's name."""
    pairs = ((condition, condition.field.partition(".")) for condition in one.conditions())
    return [(condition, _metric(rest)[0]) for condition, (first, _, rest) in pairs if first == "metric"]


def settings_of(one: Filter) -> list[tuple[Condition, str]]:
    """Return the conditions on settings, with the setting's name."""
    pairs = ((condition, condition.field.partition(".")) for condition in one.conditions())
    return [(condition, rest) for condition, (first, _, rest) in pairs if first == "config"]


def _condition(one: Filter, condition: Condition, sqlite: bool, experiments: tuple[str, ...]) -> Any:
    first, dot, rest = condition.field.partition(".")
    if dot and first in _PREFIXES and rest:
        if first == "metric":
            name, statistic = _metric(rest)
            return _any(condition, lambda value: _number(one, condition, value, _summary(name, statistic)))
        column = RUNS.c.config if first == "config" else RUNS.c.tags
        places = _places(one, condition, rest, len(first) + 1)
        reads = [_Json(column, place, sqlite) for place in places]
        return _any(condition, lambda value: or_(*(_setting(one, condition, value, read) for read in reads)))
    if condition.field == "tag":
        _only_equal(one, condition)
        return _any(condition, lambda value: _tagged(one, condition, value, sqlite))
    if condition.field in _TEXTS:
        _only_equal(one, condition)
        column = _TEXTS[condition.field]
        _check_known(one, condition, {"status": STATUSES, "experiment": experiments}.get(condition.field, ()))
        return _any(condition, lambda value: _text(column, value))
    if condition.field in _NUMBERS:
        column = _NUMBERS[condition.field]
        return _any(condition, lambda value: _number(one, condition, value, column))
    if condition.field in _TIMES:
        column = _TIMES[condition.field]
        return _any(condition, lambda value: _time(one, condition, value, column))
    if condition.field == "seed":
        _only_equal(one, condition)
        return _any(condition, lambda value: _seed(value))
    if condition.field == "archived":
        _only_equal(one, condition)
        return _any(condition, lambda value: _archived(one, value))
    message = f"'{condition.field}' is no field of a run"
    raise one.unknown(message, condition.field, condition.at, what="Fields", known=_FIELDS)


def _any(condition: Condition, sql_of: Callable[[FilterValue], Any]) -> Any:
    return or_(*(sql_of(value) for value in condition.values))


def _only_equal(one: Filter, condition: Condition) -> None:
    if condition.comparison != ":":
        raise one.refused(
            f"'{condition.field}' has no order: compare it by ':'",
            condition.at,
            hint="For example status:failed.",
        )


def _check_known(one: Filter, condition: Condition, known: Sequence[str]) -> None:
    for value in condition.values if known else ():
        if not value.prefix and value.text not in (unicodedata.normalize("NFC", name) for name in known):
            problem = f"no {condition.field} '{value.text}'"
            raise one.unknown(problem, value.text, value.at, what="Known", known=known)


def _forms(text: str) -> list[str]:
    """Return a text in the forms in which it may be stored: a Mac writes names in other letters."""
    return list(dict.fromkeys((text, unicodedata.normalize("NFD", text))))


def _text(column: Any, value: FilterValue) -> Any:
    if value.prefix:
        if not value.text:
            return and_(column.is_not(None), column != "")
        return or_(*(column.startswith(form, autoescape=True) for form in _forms(value.text)))
    return column.in_(_forms(value.text))


def _number(one: Filter, condition: Condition, value: FilterValue, column: Any) -> Any:
    if value.prefix and not value.text:
        return column.is_not(None)
    number = _as_number(value)
    if number is None:
        raise one.refused(f"'{condition.field}' is a number, got '{value}'", value.at)
    return _COMPARE[condition.comparison](column, number)


def _as_number(value: FilterValue) -> float | int | None:
    if value.prefix:
        return None
    try:
        return int(value.text) if re.fullmatch(r"[+-]?\d{1,18}", value.text) else float(value.text)
    except ValueError:
        return None


def _time(one: Filter, condition: Condition, value: FilterValue, column: Any) -> Any:
    if value.prefix and not value.text:
        return column.is_not(None)
    span = None if value.prefix else _span(value.text)
    if span is None:
        raise one.refused(
            f"'{condition.field}' is a time, got '{value}'",
            value.at,
            hint="For example 2026-05 or 2026-05-31T12:00.",
        )
    begin, end = span
    if condition.comparison == ":":
        return and_(column >= begin, column < end)
    # Of a period: after it, from its beginning, before it, up to its end.
    limit = begin if condition.comparison in ("<", ">=") else end
    return column >= limit if condition.comparison in (">", ">=") else column < limit


def _span(text: str) -> tuple[float, float] | None:
    """Return the period that a date names, in seconds since 1970 (UTC): its beginning and its end."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    given = [int(part) for part in match.groups() if part is not None]
    try:
        begin = datetime(*[*given, 1, 1][: max(len(given), 3)], tzinfo=UTC)  # type: ignore[misc,arg-type]
        if len(given) == 1:
            end = begin.replace(year=begin.year + 1)
        elif len(given) == 2:
            end = (begin + timedelta(days=31)).replace(day=1)
        else:
            end = begin + {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}[len(given)]
    except (ValueError, OverflowError):
        return None
    return begin.timestamp(), end.timestamp()


def _seed(value: FilterValue) -> Any:
    if value.prefix and not value.text:
        return RUNS.c.seed.is_not(None)
    return cast(RUNS.c.seed, Text) == value.text


def _archived(one: Filter, value: FilterValue) -> Any:
    if value.prefix or value.text not in ("true", "false"):
        raise one.refused(f"'archived' is true or false, got '{value}'", value.at)
    hidden = or_(RUNS.c.archived_at.is_not(None), EXPERIMENTS.c.archived_at.is_not(None))
    return hidden if value.text == "true" else ~hidden


# Metrics -------------------------------------------------------------------------------------------


def _metric(rest: str) -> tuple[str, str]:
    """Return the name of a metric, and the statistic that its last part names."""
    name, dot, last = rest.rpartition(".")
    return (name, last) if dot and name and last in STATISTICS else (rest, STATISTICS[0])


def _summary(name: str, statistic: str) -> Any:
    """Return a value of a run's metric as SQL: one look-up by an index."""
    mine = (SUMMARIES.c.run_id == RUNS.c.id) & (SUMMARIES.c.name == name)
    return select(SUMMARIES.c[statistic]).where(mine).correlate(RUNS).scalar_subquery()


# Settings and tags ---------------------------------------------------------------------------------


class _Json:
    """A value in a JSON column, as SQL.

    Parameters
    ----------
    column : Column
        The column.
    place : tuple of str
        The keys that lead to the value.
    sqlite : bool
        Whether the database is SQLite.
    """

    def __init__(self, column: Any, place: tuple[str, ...], sqlite: bool) -> None:
        self._kind: Any
        self._value: Any
        self.numbers: tuple[str, ...]
        if sqlite:
            path = "$" + "".join(f'."{key}"' for key in place)
            # Damaged text would end the whole query.
            valid = func.json_valid(column) == 1
            self._kind = case((valid, func.json_type(column, path)))
            self._value = case((valid, func.json_extract(column, path)))
            self.numbers, self.text_kind = ("integer", "real"), "text"
        else:
            value = func.json_extract_path(column, *place)
            self._kind = func.json_typeof(value)
            self._value = func.json_extract_path_text(column, *place)
            self.numbers, self.text_kind = ("number",), "string"
        self._sqlite = sqlite

    def exists(self) -> Any:
        return and_(self._kind.is_not(None), self._kind != "null")

    def present(self) -> Any:
        return self._kind.is_not(None)

    def number(self) -> Any:
        """Return the value if it is a number, else NULL."""
        from sqlalchemy import Double

        number = self._value if self._sqlite else cast(self._value, Double)
        return case((self._kind.in_(self.numbers), number))

    def text(self) -> Any:
        """Return the value if it is text, else NULL."""
        return case((self._kind == self.text_kind, self._value))

    def is_word(self, word: str) -> Any:
        """Return whether the value is true, false or null."""
        if self._sqlite or word == "null":
            return self._kind == word
        return and_(self._kind == "boolean", self._value == word)


def _places(one: Filter, condition: Condition, name: str, offset: int) -> list[tuple[str, ...]]:
    """Return where a setting may be: in nested dictionaries, or under the whole name."""
    if _UNSAFE.search(name):
        problem = "the name of a setting cannot contain a quote or a backslash here"
        raise one.refused(problem, condition.at + offset)
    nested = tuple(name.split("."))
    return [nested] if len(nested) == 1 or "" in nested else [nested, (name,)]


def _setting(one: Filter, condition: Condition, value: FilterValue, read: _Json) -> Any:
    number = _as_number(value)
    if condition.comparison != ":":
        if number is None:
            raise one.refused(f"'{condition.comparison}' takes a number, got '{value}'", value.at)
        return _COMPARE[condition.comparison](read.number(), number)
    if value.prefix:
        if not value.text:
            return read.exists()
        return or_(*(read.text().startswith(form, autoescape=True) for form in _forms(value.text)))
    ways = [read.text().in_(_forms(value.text))]
    if number is not None:
        ways.append(read.number() == number)
    if value.text in ("true", "false", "null"):
        ways.append(read.is_word(value.text))
    return or_(*ways)


def _tagged(one: Filter, condition: Condition, value: FilterValue, sqlite: bool) -> Any:
    """Return whether a run has a tag; one that is false does not count."""
    if value.prefix:
        raise one.refused("'tag' takes a whole name", value.at, hint="The value of a tag: tag.owner:k*")
    if _UNSAFE.search(value.text):
        raise one.refused("the name of a tag cannot contain a quote or a backslash here", value.at)
    reads = [_Json(RUNS.c.tags, (form,), sqlite) for form in _forms(value.text)]
    return or_(*(and_(read.present(), ~func.coalesce(read.is_word("false"), false())) for read in reads))


# Order ---------------------------------------------------------------------------------------------


def _sorted_by(field: str, sqlite: bool) -> list[ColumnElement[Any]]:
    first, dot, rest = field.partition(".")
    if dot and first == "metric" and rest:
        return [_summary(*_metric(rest))]
    if dot and first in ("config", "tag") and rest and not _UNSAFE.search(rest):
        column = RUNS.c.config if first == "config" else RUNS.c.tags
        nested = _Json(column, tuple(rest.split(".")), sqlite)
        whole = _Json(column, (rest,), sqlite)
        # Numbers by size, then texts.
        return [
            func.coalesce(nested.number(), whole.number()),
            func.coalesce(nested.text(), whole.text()),
        ]
    known = {**_TEXTS, **_NUMBERS, **_TIMES}
    if field in known:
        return [known[field]]
    meant = f"; did you mean {near[0]!r}?" if (near := nearest(field, known)) else ""
    names = [*known, "metric.NAME", "config.NAME", "tag.NAME"]
    raise BadInput(
        f"runs cannot be sorted by {field!r}{meant}",
        hint=f"Known: {listed(names, 12)}. '-' before it: descending.",
    )
