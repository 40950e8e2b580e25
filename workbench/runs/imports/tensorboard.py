"""Import TensorBoard runs: each folder with event files is one run.

Scalars are imported with steps and times, whether written as plain numbers or as tensors; hyperparameters
become the config. Other data (images, histograms, text) is skipped and counted. TensorBoard records no
status: a run counts as succeeded unless its hyperparameters plugin recorded another status.

A session that restarts at a step (``SummaryWriter(purge_step=…)``) makes the earlier points of that step and
later ones void: they are not imported, and are removed if an earlier import brought them. Steps that go back
without such a mark are kept as they were logged.

Folders are found as TensorBoard finds them, through links too; each folder is read once, so that a link that
leads back ends there. :mod:`~workbench.runs.imports.folders` says which stored run a folder continues.
"""

from __future__ import annotations

import math
import re
import stat
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import scandir
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.runs.imports import ForeignRun, Imported, OnProgress, bring
from workbench.runs.imports.events import (
    Damaged,
    Other,
    Restart,
    Scalar,
    Session,
    Start,
    Unreadable,
    read_events,
)
from workbench.runs.imports.folders import Found, Identity, identities
from workbench.runs.imports.report import Clock, Report, in_seconds
from workbench.store.points import Batch
from workbench.store.store import Store

#: Maximum number of folders that are looked into: a link may lead to a whole disk.
MOST_FOLDERS = 100_000

_STATUS = {0: "succeeded", 1: "succeeded", 2: "failed", 3: "running"}


class _Columns:
    """Points as three arrays."""

    def __init__(self) -> None:
        self.steps, self.times, self.values = array("q"), array("d"), array("d")

    def add(self, step: int, at: float, value: float) -> None:
        self.steps.append(step)
        self.times.append(at)
        self.values.append(value)

    @property
    def batch(self) -> Batch:
        return Batch(self.steps, self.times, self.values)


class _Curve:
    """The points of one metric, and those that a restart made void."""

    def __init__(self) -> None:
        self.points, self.gone = _Columns(), _Columns()
        self.before_file = 0  # number of points from earlier files

    def restart(self, step: int, number: int) -> int:
        """Make void, among the first points, those of a step and later; return how many there were."""
        points, kept = self.points, _Columns()
        for at, one in enumerate(zip(points.steps, points.times, points.values, strict=True)):
            void = at < number and one[0] >= step
            (self.gone if void else kept).add(*one)
            self.before_file -= void and at < self.before_file
        self.points = kept
        return len(points.steps) - len(kept.steps)


@dataclass
class _Folder:
    """The content of the event files of one folder; ``path`` is as TensorBoard shows it."""

    path: Path
    files: list[str] = field(default_factory=list)
    first: float = math.inf
    last: float = -math.inf
    config: dict[str, Any] | None = None
    status: int | None = None
    curves: dict[str, _Curve] = field(default_factory=dict)


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
    root, report = folder.resolve(), Report()
    places = dict(sorted(_places(root, report)))
    if not places:
        raise BadInput(
            f"no event files below {str(folder)!r}", hint="Event files have 'tfevents' in their names."
        )
    folders = {place: _read(place, files, root, report) for place, files in places.items()}
    for place in [place for place in places if not folders[place].files]:
        del folders[place]  # started, but nothing written yet
        report.leave_out("empty folders")
    _join_sessions(folders)
    name = (experiment or "").strip() or root.name or "tensorboard"
    found = [
        Found(_shown(one.path, root), str(one.path.resolve()), tuple(one.files)) for one in folders.values()
    ]
    known = identities(found, store.imported("tensorboard"), report)
    read = list(zip(folders.values(), found, known, strict=True))
    runs = [_foreign(one, place, identity, name, _siblings(identity, read)) for one, place, identity in read]
    return bring(store, runs, report, on_progress)


# Finding ---------------------------------------------------------------------------------------------


def _places(root: Path, report: Report) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder with event files, and its files in TensorBoard's order.

    Links are followed only after all folders without a link on the way, so that a folder that is reached
    in both ways has its own name.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        linked = not folders
        place = links.popleft() if linked else folders.popleft()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                report.leave_out(f"{_shown(place, root)}, a link to a folder that was read already")
                continue
            if len(seen) == MOST_FOLDERS:
                report.leave_out(f"folders beyond the first {MOST_FOLDERS:,}")
                return
            seen.add((status.st_dev, status.st_ino))
            with scandir(place) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            report.leave_out(f"folder {_shown(place, root)}: {error.strerror or error}")
            continue
        files = []
        for entry in entries:
            path = place / entry.name
            if _is(path, stat.S_ISDIR):
                (links if entry.is_symlink() else folders).append(path)
            elif "tfevents" in entry.name:
                if _is(path, stat.S_ISREG):
                    files.append(path)
                else:
                    report.leave_out(f"{_shown(path, root)}, which is not a file")
        if files:
            if not place.resolve().is_relative_to(root):
                report.note(f"{_shown(place, root)} is elsewhere: a link to {place.resolve()} was followed")
            yield place, files


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Return whether a path, or where a link leads, is of a kind; False if that cannot be told."""
    try:
        return kind(path.stat().st_mode)
    except OSError:
        return False


def _shown(path: Path, root: Path) -> str:
    """Return a path as TensorBoard shows it."""
    name = path.relative_to(root).as_posix()
    return root.name if name == "." else name


# Reading ---------------------------------------------------------------------------------------------


def _read(place: Path, files: list[Path], root: Path, report: Report) -> _Folder:
    out = _Folder(place)
    for path in files:
        name = _shown(path, root)
        try:
            clock = Clock(name, _named_time(path))
            _read_file(path, out, clock, report)
            clock.tell(report)
        except Damaged as error:
            # Records before the damage are imported; the rest cannot be read.
            report.leave_out(f"rest of a damaged file ({error})")
        except OSError as error:
            report.leave_out(f"{name}: {error.strerror or error}")
    return out


def _named_time(path: Path) -> float:
    """Return the time in the name of an event file; 0 if it has none. It stays the same as the file grows."""
    found = re.search(r"tfevents\.(\d{9,19})(\.|$)", path.name)
    return 0.0 if found is None else in_seconds(float(found[1])) or 0.0


def _read_file(path: Path, out: _Folder, clock: Clock, report: Report) -> None:
    restarts = 0
    for curve in out.curves.values():
        curve.before_file = len(curve.points.steps)
    for record in read_events(path):
        match record:
            case Scalar(tag, step, at, value):
                moment = clock.seconds(at)
                out.curves.setdefault(tag, _Curve()).points.add(step, moment, value)
                out.last = max(out.last, moment)
            case Start(at):
                # The file's name and first time do not change when it is moved or copied.
                out.files.append(f"{path.name}@{at!r}")
                moment = clock.seconds(at)
                out.first, out.last = min(out.first, moment), max(out.last, moment)
            case Restart(step):
                # What a file's first session wrote before it said that it began is its own.
                restarts += 1
                void = sum(
                    curve.restart(step, curve.before_file if restarts == 1 else len(curve.points.steps))
                    for curve in out.curves.values()
                )
                report.leave_out("points that a restart of the training discarded", void)
            case Session(settings, status, at):
                if settings is not None:
                    out.config = {**(out.config or {}), **settings}
                out.status = out.status if status is None else status
                out.last = max(out.last, in_seconds(at or 0.0) or out.last)
            case Other(kind):
                report.leave_out(kind)
            case Unreadable(reason):
                report.leave_out(f"{path}, {reason}")


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


def _siblings(identity: Identity, read: list[tuple[_Folder, Found, Identity]]) -> list[_Folder]:
    """Return the folders whose points an earlier version put into this run: those of its copies."""
    if not identity.mixed:
        return []
    return [one for one, _, other in read if other is not identity and identity.mixed in one.files]


def _foreign(
    one: _Folder, place: Found, identity: Identity, experiment: str, siblings: list[_Folder]
) -> ForeignRun:
    status = _STATUS.get(one.status or 0, "succeeded")
    discarded = {tag: [curve.gone.batch] for tag, curve in one.curves.items()}
    for sibling in siblings:
        for tag, curve in sibling.curves.items():
            discarded.setdefault(tag, []).append(curve.points.batch)
    return ForeignRun(
        origin=identity.origin,
        experiment=experiment,
        name=place.name,
        status=status,
        created_at=one.first,
        finished_at=None if status == "running" else one.last,
        metrics=lambda: (
            (tag, curve.points.batch) for tag, curve in one.curves.items() if curve.points.steps
        ),
        config=one.config or {},
        environment={"tensorboard": {"folder": place.folder, "files": list(identity.files)}},
        discarded={tag: gone for tag, parts in discarded.items() if (gone := _joined(parts)).steps},
    )


def _joined(parts: list[Batch]) -> Batch:
    return Batch(*([value for column in columns for value in column] for columns in zip(*parts, strict=True)))
