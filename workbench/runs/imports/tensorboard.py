"""Import TensorBoard runs: each folder with event files is one run.

Scalars are imported with steps and times, whether written as plain numbers or as tensors; hyperparameters
become the config. Other data (images, histograms, text) is skipped and counted. TensorBoard records no
status: a run counts as succeeded unless its hyperparameters plugin recorded another status.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.runs.imports import ForeignRun, Imported, OnProgress, bring
from workbench.runs.imports.events import Damaged, Other, Scalar, Session, read_events
from workbench.store.points import Batch
from workbench.store.store import Store

_STATUS = {0: "succeeded", 1: "succeeded", 2: "failed", 3: "running"}


@dataclass
class _Folder:
    """The content of the event files of one folder."""

    path: Path
    origin: str = ""
    first: float = math.inf
    last: float = -math.inf
    config: dict[str, Any] | None = None
    status: int | None = None
    curves: dict[str, Batch] = field(default_factory=dict)


def import_tensorboard(
    store: Store,
    folder: Path,
    experiment: str | None = None,
    on_progress: OnProgress | None = None,
) -> Imported:
    """Import the runs below a folder; see ``Workspace.import_tensorboard``."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise BadInput(
            f"no folder {str(folder)!r}", hint="Give the folder that you would pass to tensorboard --logdir."
        )
    places = sorted({file.parent for file in _files(folder, "**/")})
    if not places:
        raise BadInput(
            f"no event files below {str(folder)!r}", hint="Event files have 'tfevents' in their names."
        )
    passed_over: Counter[str] = Counter()
    folders = {place: _read(place, passed_over) for place in places}
    for place in [place for place in places if folders[place].first == math.inf]:
        del folders[place]  # started, but nothing written yet
        passed_over["empty folders"] += 1
    _join_sessions(folders)
    root = folder.resolve()
    name = (experiment or "").strip() or root.name or "tensorboard"
    runs = [_foreign(one, root, name) for one in folders.values()]
    return bring(store, runs, dict(passed_over), on_progress)


def _files(folder: Path, below: str = "") -> Iterator[Path]:
    return (path for path in folder.glob(f"{below}*tfevents*") if path.is_file())


def _read(place: Path, passed_over: Counter[str]) -> _Folder:
    out = _Folder(place)
    columns: dict[str, tuple[list[int], list[float], list[float]]] = {}
    for path in sorted(_files(place)):
        try:
            for record in read_events(path):
                _take(record, path, out, columns, passed_over)
        except Damaged as error:
            # Records before the damage are imported; the rest cannot be read.
            passed_over[f"rest of a damaged file ({error})"] += 1
    out.curves = {tag: Batch(*lists) for tag, lists in columns.items()}
    return out


def _take(
    record: Any,
    path: Path,
    out: _Folder,
    columns: dict[str, tuple[list[int], list[float], list[float]]],
    passed_over: Counter[str],
) -> None:
    if isinstance(record, Scalar):
        steps, times, values = columns.setdefault(record.tag, ([], [], []))
        steps.append(record.step)
        times.append(record.time)
        values.append(record.value)
        out.last = max(out.last, record.time)
    elif isinstance(record, Other):
        passed_over[record.kind] += 1
    elif isinstance(record, Session):
        if record.settings is not None:
            out.config = {**(out.config or {}), **record.settings}
        out.status = out.status if record.status is None else record.status
        out.last = max(out.last, record.time or out.last)
    else:
        # The first file's name and time do not change when the folder is moved.
        out.origin = out.origin or f"tensorboard:{path.name}@{record!r}"
        out.first = min(out.first, record)
        out.last = max(out.last, record)


def _join_sessions(folders: dict[Path, _Folder]) -> None:
    """Merge a hyperparameters folder into the run of its parent folder.

    PyTorch's ``add_hparams`` creates such a subfolder. If there are several, or they contain curves with the
    same names, they remain separate runs.
    """
    below: dict[Path, list[_Folder]] = {}
    for place, one in folders.items():
        if one.config is not None and place.parent in folders:
            below.setdefault(place.parent, []).append(one)
    for place, sessions in below.items():
        run, (session, *more) = folders[place], sessions
        if more or run.config is not None or session.curves.keys() & run.curves.keys():
            continue
        run.config, run.status = session.config, session.status
        run.curves |= session.curves
        run.last = max(run.last, session.last)
        del folders[session.path]


def _foreign(one: _Folder, root: Path, experiment: str) -> ForeignRun:
    place = one.path.resolve()
    name = place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name
    status = _STATUS.get(one.status or 0, "succeeded")
    return ForeignRun(
        origin=one.origin,
        experiment=experiment,
        name=root.name if name == "." else name,
        status=status,
        created_at=one.first,
        finished_at=None if status == "running" else one.last,
        metrics=lambda: one.curves.items(),
        config=one.config or {},
        environment={"tensorboard": {"folder": str(place)}},
    )
