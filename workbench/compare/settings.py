"""Which settings of several configs differ, and whose value is the odd one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from types import NoneType
from typing import Any


class _Missing:
    """A setting that a run does not have; None is a value and is not this."""

    def __repr__(self) -> str:
        return "–"

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


@dataclass(frozen=True)
class ConfigRow:
    """One setting across the runs.

    Attributes
    ----------
    key : str
        The dotted path.
    values : tuple
        One a run, in their order; :data:`MISSING` where a run has no such setting.
    differs : bool
        Whether any two runs differ in it.
    odd : tuple of bool
        Whether a run's value is the odd one; see :func:`odd_marks`.
    """

    key: str
    values: tuple[Any, ...]
    differs: bool
    odd: tuple[bool, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as people read them."""
        return tuple(map(setting_text, self.values))


def setting_text(value: Any) -> str:
    """Write one setting; texts bare, everything else as JSON."""
    if isinstance(value, str):
        return value if value else '""'
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # as JSON writes it, without the way there: tables have thousands
    if value is MISSING:
        return "–"
    return json.dumps(value, ensure_ascii=False, default=str)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping as one level of dotted paths.

    Lists stay whole. A key that holds a dot itself is written in quotes, so that no two paths collide.
    """
    out: dict[str, Any] = {}
    _walk(config, "", out)
    return out


#: Types that hold nothing, tried first: a hundred runs have thousands of settings.
_PLAIN = frozenset({str, int, float, NoneType})


def _walk(node: Mapping[str, Any], path: str, out: dict[str, Any]) -> None:
    for key, value in node.items():
        here = path + (key if type(key) is str and "." not in key else _part(key))
        if type(value) not in _PLAIN and isinstance(value, Mapping) and value:
            _walk(value, f"{here}.", out)
        else:
            out[here] = value


def _part(key: Any) -> str:
    text = str(key)
    return json.dumps(text, ensure_ascii=False) if "." in text else text


def token(value: Any) -> Hashable:
    """Return what two settings share exactly if they are equal: True is not 1, and NaN equals itself."""
    if type(value) in _PLAIN:
        return value if value == value else ("nan",)
    if isinstance(value, bool):
        return ("flag", value)
    if isinstance(value, float) and value != value:
        return ("nan",)
    if isinstance(value, (list, tuple)):
        return ("list", *map(token, value))
    if isinstance(value, Mapping):
        return ("mapping", frozenset((str(key), token(inner)) for key, inner in value.items()))
    return value if isinstance(value, Hashable) else repr(value)


def _tokens(values: Sequence[Any]) -> Sequence[Hashable]:
    """Return the tokens of some settings; plain ones are their own."""
    kinds = set(map(type, values))
    if kinds <= _PLAIN and (float not in kinds or all(value == value for value in values)):
        return values
    return list(map(token, values))


def odd_marks(tokens: Sequence[Hashable], baseline: int | None = None) -> tuple[bool, ...]:
    """Say whose value is the odd one.

    With a baseline, whatever is not the baseline's value. Without one, whatever is not the value that at
    least half of the runs share, if there is exactly one such value: of ``1, 1, 2`` the 2 is odd; of
    ``1, 1, 2, 2`` and of ``1, 2, 3`` none is. Of two values the second is, since somebody has to begin.
    """
    if baseline is None and len(tokens) > 2:
        counts = Counter(tokens)
        usual, most = max(counts.items(), key=itemgetter(1))
        if most * 2 < len(tokens) or list(counts.values()).count(most) > 1:
            return (False,) * len(tokens)
    else:
        usual = tokens[baseline or 0]
    return tuple(one != usual for one in tokens)


def _columns(flat: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return for each key what every config says of it."""
    if len(keys) < 2:  # an itemgetter of one key returns no tuple
        return (tuple(config.get(key, MISSING) for config in flat) for key in keys)
    # Runs of one sweep have the same keys, as a rule: then each is read in one call.
    all_of = itemgetter(*keys)
    return zip(
        *(
            all_of(config) if len(config) == len(keys) else [config.get(key, MISSING) for key in keys]
            for config in flat
        ),
        strict=True,
    )


def config_rows(
    configs: Sequence[Mapping[str, Any]], *, only_differences: bool = False, baseline: int | None = None
) -> list[ConfigRow]:
    """Return every setting of several configs, sorted by path.

    Parameters
    ----------
    configs : sequence of mapping
        One a run.
    only_differences : bool
        Leave out what is the same everywhere.
    baseline : int, optional
        Place of the config that the others are held against; without one, the odd value is marked.
    """
    flat = [flatten(config) for config in configs]
    keys = sorted(set().union(*flat))
    rows = []
    for key, values in zip(keys, _columns(flat, keys), strict=True):
        tokens = _tokens(values)
        differs = tokens.count(tokens[0]) != len(tokens)
        if differs:
            rows.append(ConfigRow(key, values, True, odd_marks(tokens, baseline)))
        elif not only_differences:
            rows.append(ConfigRow(key, values, False, (False,) * len(values)))
    return rows


def groups(configs: Sequence[Mapping[str, Any]], ignoring: Collection[str]) -> list[list[int]]:
    """Return which configs are the same but for some settings.

    Parameters
    ----------
    configs : sequence of mapping
        One a run, nested as they were given.
    ignoring : collection of str
        Dotted paths that may differ within a group, such as a random seed's. A path also stands for
        everything below it.

    Returns
    -------
    list of list of int
        Places of the configs, each in exactly one group; groups in the order of their first.
    """
    found: dict[Hashable, list[int]] = {}
    for place, config in enumerate(configs):
        kept = frozenset(
            (key, token(value))
            for key, value in flatten(config).items()
            if not any(key == path or key.startswith(f"{path}.") for path in ignoring)
        )
        found.setdefault(kept, []).append(place)
    return list(found.values())
