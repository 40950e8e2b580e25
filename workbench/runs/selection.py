"""Choose runs of a workspace: by experiment, condition and order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.errors import BadInput, UnknownExperiment
from workbench.runs import where as conditions
from workbench.search.filters import Filter
from workbench.store.store import Store


def selection(
    store: Store,
    experiment: str | None = None,
    *,
    where: str | None = None,
    sort: str | Sequence[str] | None = None,
    archived: bool | None = False,
) -> dict[str, Any]:
    """Return the arguments of ``store.runs`` for a choice of runs; see ``BaseWorkspace.runs``.

    Raises
    ------
    UnknownExperiment
        There is no experiment with that name.
    BadInput
        The condition or the order cannot be read, or the condition names a metric that no run has.
    """
    if archived is not None and not isinstance(archived, bool):
        raise BadInput(f"archived must be True, False or None, got {archived!r}")
    chosen: dict[str, Any] = {"archived": archived}
    rows = store.experiments() if experiment is not None or where is not None else []
    names = {row.name: row.id for row in rows}
    if experiment is not None:
        if experiment not in names:
            raise UnknownExperiment(experiment, names)
        chosen["experiment_id"] = names[experiment]
        if next(row for row in rows if row.name == experiment).archived_at and archived is False:
            chosen["archived"] = None  # naming an archived experiment includes its runs
    if where is not None and (not isinstance(where, str) or where.strip()):
        condition = conditions.parsed(where)
        sql = conditions.clause(condition, sqlite=store.is_sqlite, experiments=names)
        _check_metrics(store, condition)
        chosen["where"] = sql
        if "archived" in conditions.fields_of(condition):
            chosen["archived"] = None
    if sort is not None:
        chosen["order"] = conditions.order(sort, sqlite=store.is_sqlite)
    return chosen


def check_settings(store: Store, where: str) -> None:
    """Raise if a condition that matched no run names a setting that no run has.

    Raises
    ------
    BadOptions
        It does; the message names the setting that is probably meant.
    """
    condition = conditions.parsed(where)
    if not (named := conditions.settings_of(condition)):
        return
    known: dict[str, None] = {}
    for config in store.configs():
        _collect(config, "", known)
    for one, name in named:
        if known and name not in known:
            problem = f"no run has the setting '{name}'"
            names = [f"config.{key}" for key in known]
            raise condition.unknown(problem, f"config.{name}", one.at, what="Settings", known=names)


def _collect(config: Any, prefix: str, known: dict[str, None]) -> None:
    """Add the names of settings, of nested ones with dots."""
    for name, value in config.items() if isinstance(config, dict) else ():
        known[f"{prefix}{name}"] = None
        _collect(value, f"{prefix}{name}.", known)


def _check_metrics(store: Store, condition: Filter) -> None:
    named = conditions.metrics_of(condition)
    if not named:
        return
    known = store.metric_names()
    for one, name in named:
        if known and name not in known:
            problem = f"no run has the metric '{name}'"
            names = [f"metric.{key}" for key in known]
            raise condition.unknown(problem, f"metric.{name}", one.at, what="Metrics", known=names)
