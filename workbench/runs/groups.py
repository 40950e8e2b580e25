"""Group runs by a value that describes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.errors import BadInput
from workbench.runs.run import Run

_FIELDS: Mapping[str, Callable[[Run], Any]] = {
    "experiment": lambda run: run.experiment,
    "status": lambda run: run.status,
    "name": lambda run: run.name,
    "seed": lambda run: run.seed,
    "job": lambda run: run.job_id,
}


def grouped(by: str, runs: Sequence[Run]) -> dict[Any, list[Run]]:
    """Return runs in groups; see ``BaseWorkspace.group_runs``."""
    first, dot, name = by.partition(".") if isinstance(by, str) else ("", "", "")
    if dot and name and first in ("config", "tag"):
        values = [_setting(run.config if first == "config" else run.tags, name) for run in runs]
    elif by in _FIELDS:
        values = [_FIELDS[by](run) for run in runs]
    else:
        known = ", ".join((*_FIELDS, "config.NAME", "tag.NAME"))
        raise BadInput(f"runs cannot be grouped by {by!r}", hint=f"Known: {known}.")
    out: dict[Any, list[Run]] = {}
    for value, run in zip(values, runs, strict=True):
        # 1 and True are equal as keys, and different settings.
        plain = value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        key = value if type(value) in (int, float) else plain
        out.setdefault(key, []).append(run)
    return out


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting by its name, or by the names of the dictionaries around it; None if there is none."""
    if name in settings:
        return settings[name]
    value: Any = settings
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
