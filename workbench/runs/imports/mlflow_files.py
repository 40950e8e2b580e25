"""Read MLflow's file store: a folder per experiment, in it one per run, in it one file per parameter.

Every file is untrusted, and one that cannot be read costs only itself: it is named in the report with the
reason, and the rest is imported. No link is followed that leads out of a run's folder, and sizes are limited,
so that a store can neither show other files of this machine nor fill its memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from workbench.runs.imports import ForeignRun
from workbench.runs.imports.mlflow_terms import Points, RunProblems, foreign_run
from workbench.runs.imports.report import Clock, Report
from workbench.store.points import Batch

#: Maximum number of bytes of a ``meta.yaml``, of a parameter or tag, and of all of a run's together.
META_BYTES, TEXT_BYTES, TEXTS_BYTES = 2**16, 2**20, 2**24

#: Maximum number of parameters, of tags and of metrics of a run.
MOST_ENTRIES = 20_000

#: Maximum number of bytes of a metric's file, some 15 million points, and of a line in it.
METRIC_BYTES, LINE_BYTES = 2**29, 2**12

#: Maximum nesting depth of a ``meta.yaml``.
META_LEVELS = 10


class _Unread(Exception):
    """A file is not read; the message says why."""


def runs_in_folder(folder: Path, report: Report) -> Iterator[ForeignRun]:
    """Yield the runs that MLflow shows of a file store.

    Parameters
    ----------
    folder : Path
        The folder with the experiments' folders, usually ``mlruns``.
    report : Report
        Gets what is not imported.
    """
    for place in _folders(folder):
        yield from _experiment(place, report)
    report.leave_out("deleted runs", sum(1 for _ in (folder / ".trash").glob("*/*/meta.yaml")))


def _folders(place: Path) -> list[Path]:
    """Return the folders in a folder, links to folders included, without hidden ones."""
    try:
        with os.scandir(place) as listing:
            names = sorted(entry.name for entry in listing if not entry.name.startswith("."))
    except OSError:
        return []
    return [place / name for name in names if _is_folder(place / name)]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _experiment(place: Path, report: Report) -> Iterator[ForeignRun]:
    runs = [one for one in _folders(place) if _looks_like_a_run(one)]
    try:
        about = _meta(place)
    except _Unread as error:
        if runs or os.path.lexists(place / "meta.yaml"):
            whole = f", and with it {len(runs)} {'run' if len(runs) == 1 else 'runs'}" if runs else ""
            report.leave_out(f"{place.name}/meta.yaml: {error}{whole}")
        return
    name = about.get("name", place.name)
    if not isinstance(name, (str, int, float)):
        report.note(f"{place.name}/meta.yaml: the experiment's name is not text; it is called {place.name}")
        name = place.name
    active = about.get("lifecycle_stage", "active") == "active"
    for one in runs:
        run = _Reader(one, f"{place.name}/{one.name}", report).run(str(name), active=active)
        if run is not None:
            yield run


def _looks_like_a_run(place: Path) -> bool:
    return any(os.path.lexists(place / name) for name in ("meta.yaml", "metrics", "params"))


class _Reader:
    """Reads the folder of one run."""

    def __init__(self, place: Path, where: str, report: Report) -> None:
        self._place, self._inside = place, place.resolve()
        self._about: dict[str, Any] = {}
        self._problems = RunProblems(where, self._about, report, "meta.yaml")
        self._where, self._report = where, report
        self._bytes_left = TEXTS_BYTES

    def run(self, experiment: str, *, active: bool) -> ForeignRun | None:
        """Return the run; None if it is none, or not one that MLflow shows."""
        try:
            meta = _meta(self._place)
            run_id = meta.get("run_id") or meta.get("run_uuid")
            if run_id is None and not any(_is_folder(self._place / name) for name in ("metrics", "params")):
                return None  # a model of the experiment, or something else
            if str(run_id) != self._place.name:
                raise _Unread(f"it names the run {str(run_id)[:80]!r}, which is not its folder's name")
        except _Unread as error:
            self._report.leave_out(f"{self._where}/meta.yaml: {error}, and with it the run")
            return None
        if not active or meta.get("lifecycle_stage", "active") != "active":
            self._report.leave_out("deleted runs")
            return None
        name = meta.get("run_name") or ""
        if not isinstance(name, (str, int, float)):
            self._problems.leave_out_of_meta("the run's name, which is not text")
            name = ""
        for key, column in (("user", "user_id"), ("artifact_uri", "artifact_uri")):
            self._about[key] = None if meta.get(column) is None else str(meta[column])
        status = meta.get("status", "")
        running = status in (1, 2) if isinstance(status, int) else status in ("RUNNING", "SCHEDULED")
        params, tags = self._texts("params"), self._texts("tags")
        return foreign_run(
            self._place.name,
            experiment,
            str(name),
            status,
            (meta.get("start_time"), meta.get("end_time")),
            params,
            tags,
            self._about,
            lambda fallback: self._metrics(fallback, running=running),
            self._problems,
        )

    def _texts(self, kind: str) -> dict[str, str]:
        """Return the parameters or tags: one file each."""
        out = {}
        for name, path in self._files(kind):
            try:
                data = _whole(path, self._inside, min(TEXT_BYTES, self._bytes_left))
                out[name] = _decoded(data)
                self._bytes_left -= len(data)
            except _Unread as error:
                self._problems.leave_out(f"{kind}/{name}: {error}")
        return out

    def _metrics(self, fallback: float, *, running: bool) -> Iterator[tuple[str, Batch]]:
        """Yield the metrics: one file each, one line per point (time in ms, value, step)."""
        for name, path in self._files("metrics"):
            what = f"metrics/{name}"
            clock = Clock(f"{self._where}/{what}", fallback, "milliseconds")
            try:
                with _opened(path, self._inside, METRIC_BYTES) as file:
                    lines = _MetricLines(file, clock, running=running)
            except (_Unread, OSError) as error:
                self._problems.leave_out(f"{what}: {_reason(error)}")
                continue
            clock.tell(self._report)
            if lines.problem:
                self._problems.leave_out(f"{what}: {lines.problem}")
            if lines.points.batch.steps:
                yield name, lines.points.batch

    def _files(self, kind: str) -> Iterator[tuple[str, Path]]:
        """Yield (name, path) of the files of a kind; what is not read is named."""
        number = 0
        for name, path in _below(self._place / kind, ""):
            if isinstance(path, str):
                self._problems.leave_out(f"{kind}/{name}".rstrip("/") + f": {path}")
                continue
            number += 1
            if number > MOST_ENTRIES:
                self._problems.leave_out(f"{kind} after the first {MOST_ENTRIES:,}")
                return
            yield name, path


def _below(place: Path, name: str) -> Iterator[tuple[str, Path | str]]:
    """Yield (name, path) of everything in a folder that may be a file, or (name, reason) of what is not."""
    try:
        mode = place.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        yield name, _reason(error)
        return
    if stat.S_ISLNK(mode) and _is_folder(place):
        yield name, "it is a link to a folder"
    elif not stat.S_ISDIR(mode):
        yield name, place if name else "it is not a folder"
    else:
        try:
            with os.scandir(place) as listing:
                names = sorted(entry.name for entry in listing)
        except OSError as error:
            yield name, _reason(error)
            return
        for one in names:
            yield from _below(place / one, f"{name}/{one}" if name else one)


def _reason(error: Exception) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error)


# Files -----------------------------------------------------------------------------------------------


def _opened(path: Path, inside: Path, most: int) -> BinaryIO:
    """Open a regular file that lies in a folder, links resolved; raise ``_Unread`` for any other."""
    try:
        if path.is_symlink():
            path = path.resolve(strict=True)
            if not path.is_relative_to(inside):
                raise _Unread("it is a link out of the run's folder")
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError
        raise _Unread(_reason(error)) from None
    status = os.fstat(number)
    regular = stat.S_ISREG(status.st_mode)
    if not regular or status.st_size > most:
        os.close(number)
        raise _Unread(f"it has more than {most:,} bytes" if regular else "it is not a file")
    return os.fdopen(number, "rb")


def _whole(path: Path, inside: Path, most: int) -> bytes:
    with _opened(path, inside, most) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise _Unread(_reason(error)) from None
    if len(data) > most:
        raise _Unread(f"it has more than {most:,} bytes")
    return data


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _Unread("it is not UTF-8") from None


def _meta(place: Path) -> dict[str, Any]:
    """Return the content of a folder's ``meta.yaml``."""
    import yaml

    text = _decoded(_whole(place / "meta.yaml", place.resolve(), META_BYTES))
    try:
        _check_shape(text)
        data = yaml.safe_load(text)
    except (ValueError, OverflowError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise _Unread(f"it is not valid YAML ({' '.join(str(error).split())[:200]})") from None
    if not data:
        raise _Unread("it is empty")
    if not isinstance(data, dict):
        raise _Unread("it does not describe an experiment or a run")
    return data


def _check_shape(text: str) -> None:
    """Raise unless a YAML text is flat and without aliases, which let a few hundred bytes fill any memory."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _Unread("it uses YAML aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > META_LEVELS:
            raise _Unread(f"it is nested more than {META_LEVELS} levels")


@dataclass
class _MetricLines:
    """The points in a metric's file; ``problem`` says which lines are none."""

    points: Points
    problem: str

    def __init__(self, file: BinaryIO, clock: Clock, *, running: bool) -> None:
        self.points, self.problem = Points(clock), ""
        wrong, first, number = 0, "", 0
        while line := file.readline(LINE_BYTES):
            number += 1
            ended = line.endswith(b"\n")
            while not ended and len(line) == LINE_BYTES and (more := file.readline(LINE_BYTES)):
                ended = more.endswith(b"\n")  # the rest of a line that is too long
                line = line if more == b"\n" else b""
            unfinished = not ended and running
            if not unfinished and self._add(line):
                continue
            wrong += 1
            text = line[:60].decode("utf-8", "replace").rstrip()
            first = first or (
                f"line {number} is still being written"
                if unfinished
                else f"line {number}: {text!r} is not a metric (time, value, step)"
            )
        if wrong > 1:
            first += f", and {wrong - 1:,} more such {'line' if wrong == 2 else 'lines'}"
        self.problem = first

    def _add(self, line: bytes) -> bool:
        parts = line.split()
        if len(parts) < 2:
            return False
        try:
            self.points.add(parts[2] if len(parts) > 2 else 0, parts[0], parts[1])
        except (ValueError, TypeError, OverflowError):
            return False
        return True
