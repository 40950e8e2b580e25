"""Find the settings in which configs differ, and the odd values."""

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
    """Marks a setting that a run does not have, unlike None, which is a value."""

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
        One per run, in order; :data:`MISSING` if a run does not have the setting.
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
        """The values as text."""
        return tuple(map(setting_text, self.values))


def setting_text(value: Any) -> str:
    """Format a setting: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value if value else '""'
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)  # the same as JSON, but faster: tables have thousands
    if value is MISSING:
        return "–"
    return json.dumps(value, ensure_ascii=False, default=str)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a nested mapping to one level of dotted paths.

    Lists are not flattened. A key that contains a dot is quoted, so that no two paths collide.
    """
    out: dict[str, Any] = {}
    _walk(config, "", out)
    return out


#: Scalar types, checked first for speed: a hundred runs have thousands of settings.
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
    """Return a key that is the same for equal settings only: True differs from 1, and NaN equals itself."""
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
    """Return the tokens of settings; plain values are their own tokens."""
    kinds = set(map(type, values))
    if kinds <= _PLAIN and (float not in kinds or all(value == value for value in values)):
        return values
    return list(map(token, values))


def odd_marks(tokens: Sequence[Hashable], baseline: int | None) -> tuple[bool, ...]:
    """Mark the odd values.

    With a baseline, these are the values that differ from the baseline's. Without one, these are the values
    that differ from the one shared by at least half of the runs, if exactly one value is: in ``1, 1, 2`` the
    2 is odd; in ``1, 1, 2, 2`` and in ``1, 2, 3`` none is. Of two different values the second is odd.
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
    """Return, for each key, its value in every config."""
    if len(keys) < 2:  # an itemgetter of one key does not return a tuple
        return (tuple(config.get(key, MISSING) for config in flat) for key in keys)
    # Runs of one sweep usually have the same keys; then each config is read in one call.
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
    """Return all settings of several configs, sorted by path.

    Parameters
    ----------
    configs : sequence of mapping
        One per run.
    only_differences : bool
        Leave out settings that are the same in all configs.
    baseline : int, optional
        Index of the config to compare the others to; see :func:`odd_marks`.
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
    """Group configs that are equal except for some settings.

    Parameters
    ----------
    configs : sequence of mapping
        One per run, nested as logged.
    ignoring : collection of str
        Dotted paths that may differ within a group, such as that of a random seed. A path includes everything
        below it.

    Returns
    -------
    list of list of int
        Indices of the configs, each in exactly one group; groups in the order of their first members.
    """
    members: dict[Hashable, list[int]] = {}
    for place, config in enumerate(configs):
        kept = frozenset(
            (key, token(value))
            for key, value in flatten(config).items()
            if not any(key == path or key.startswith(f"{path}.") for path in ignoring)
        )
        members.setdefault(kept, []).append(place)
    return list(members.values())
