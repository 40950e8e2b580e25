"""Order among experiments: rename, archive, restore and delete."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from workbench.errors import UnknownExperiment
from workbench.host.files import delete_folder
from workbench.runs.description import check_experiment
from workbench.store.records import Experiment
from workbench.store.store import Store


def experiment_of(store: Store, key: Any) -> Experiment:
    """Return an experiment by name or id.

    Raises
    ------
    UnknownExperiment
        There is none.
    """
    row = store.experiment(key) if isinstance(key, (str, int)) and not isinstance(key, bool) else None
    if row is None:
        known = [one.id if isinstance(key, int) else one.name for one in store.experiments()]
        raise UnknownExperiment(key, known)
    return row


def rename_experiment(store: Store, key: Any, name: str) -> Experiment:
    """Give an experiment another name."""
    row = experiment_of(store, key)
    store.change_experiment(row.id or 0, name=check_experiment(name))
    return experiment_of(store, row.id)


def archive_experiment(store: Store, key: Any, *, archived: bool = True) -> Experiment:
    """Hide an experiment and its runs from lists, or show them again."""
    row = experiment_of(store, key)
    if (row.archived_at is not None) != archived:
        store.change_experiment(row.id or 0, archived_at=time.time() if archived else None)
    return experiment_of(store, row.id)


def delete_experiment(store: Store, key: Any, runs_folder: Path) -> dict[str, int]:
    """Delete an experiment with its runs and their files, and return how many of what there were."""
    row = experiment_of(store, key)
    run_ids, counts = store.delete_experiment(row.id or 0)
    return {**counts, "bytes": sum(delete_folder(runs_folder, str(run_id)) for run_id in run_ids)}
