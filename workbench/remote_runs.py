"""Runs on a server, logged and read from here.

``run.log`` is the same cheap call as on the machine of the workspace: the same queue and the same thread
(:mod:`workbench.store.writer`), whose points go to a server instead of a database. They go in batches that
are numbered for each run. The server keeps a batch and its number in one transaction, so that one that is
sent again, because the connection broke before the answer came, changes nothing. A server that is away is
waited for: what is logged meanwhile stays queued, and nothing is lost as long as this process lives. One that
is told to end while no server answers goes after a few seconds
(:data:`workbench.host.signals.PARTING_SECONDS`).

While a run is open something is said every few seconds (:mod:`workbench.runs.heartbeats`). When the process
is gone, the silence ends the run as lost; who comes back after that gets ``WrongState``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import secrets
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self, TypeVar, cast
from urllib.parse import quote

from workbench import wire
from workbench.errors import (
    BadInput,
    Busy,
    ServerUnreachable,
    StoreUnavailable,
    TooLarge,
    UnknownRun,
    WorkbenchError,
    WrongState,
)
from workbench.host import files
from workbench.runs import description, heartbeats, run
from workbench.runs.kept_files import ArtifactFile, CheckpointFile, KeptFile, check_ranking, named
from workbench.store import records
from workbench.store.database import patiently
from workbench.store.points import Batch, Key
from workbench.store.writer import Writer
from workbench.values import as_step, plain

if TYPE_CHECKING:
    from workbench.client import Door, RemoteWorkspace

#: Seconds that a server which is away is waited for where somebody waits: in ``flush``, ``finish``, ``close``
#: and while a file is sent; and where the queue of points is full.
AWAY_SECONDS = 300.0

#: Points in one request at most; a metric's name counts for as many as fit into its bytes.
REQUEST_POINTS = 10_000

#: Seconds for the answer to a batch.
WRITE_SECONDS = 30.0

#: So many bytes of a file are held at once.
_PART_BYTES = 2**20

#: About how many bytes a point has on its way.
_POINT_BYTES = 64

_T = TypeVar("_T")

#: After these a run's points will never be taken; anything else may pass, and keeps them queued.
_FINAL = (WrongState, UnknownRun, BadInput, TooLarge)


def not_here(what: str, hint: str) -> WorkbenchError:
    """Return the error for what needs the files of the workspace."""
    details = {"adapter": "", "method": what}
    said = f"{what} is not possible for a workspace on a server"
    return wire.error_from({"type": "NotSupported", "message": said, "hint": hint, "details": details})


def seconds_of(text: str | None) -> float | None:
    """Return a moment as seconds since 1970."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def better_of(row: records.Run) -> dict[str, str]:
    """Return a run's directions by pattern; of two for one pattern the first counts."""
    out: dict[str, str] = {}
    for pattern, way in row.directions:
        out.setdefault(pattern, way)
    return out


def sendable(value: Any) -> Any:
    """Return plain JSON whose texts can be sent: a name or a message may hold half characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {sendable(str(name)): sendable(item) for name, item in value.items()}
    return [sendable(item) for item in value] if isinstance(value, (list, tuple)) else value


# Sending points --------------------------------------------------------------------------------


@dataclass
class _Sending:
    """What was sent of one run, and what is on its way."""

    key: str = field(default_factory=lambda: secrets.token_hex(16))
    number: int = 0  # of the last batch that the server has
    on_its_way: dict[str, Batch] | None = None  # the next one, where it is not known whether it has come
    spoke_at: float = -math.inf
    refused: WorkbenchError | None = None


class ServerSink:
    """Takes points to a server, each once.

    Parameters
    ----------
    door : Door
        The server. The sink has a connection of its own: a signal may come while another one is held.
    """

    def __init__(self, door: Door) -> None:
        self._door = door.again(WRITE_SECONDS)
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._runs: dict[int, _Sending] = {}
        self._sent: dict[Key, int] = {}  # points of the batches at hand that the server has already
        self._handles: dict[int, weakref.WeakSet[RemoteRun]] = {}

    @property
    def beat_seconds(self) -> float:
        """Seconds between two signs of life."""
        return heartbeats.BEAT_SECONDS

    def close(self) -> None:
        """Close the connection."""
        self._door.close()

    def forget_connections(self) -> None:
        """Begin with nothing, in a forked child: connection, numbers and runs are the parent's."""
        self._door = self._door.again(WRITE_SECONDS)
        self._begin_empty()

    def began(self, run_id: int, key: str) -> None:
        """Note by which key a run was started from here."""
        self._runs[run_id] = _Sending(key, spoke_at=time.monotonic())

    def meet(self, handle: RemoteRun) -> None:
        """Note a handle that logs: it hears when its run takes no more."""
        self._handles.setdefault(handle.id, weakref.WeakSet()).add(handle)
        if (sending := self._runs.get(handle.id)) is not None and sending.refused is not None:
            handle.refused(sending.refused)

    def add_batches(self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None]) -> None:
        """Send points by run and metric.

        Where that breaks, everything is given again, and perhaps more behind it: what the server has of it
        is left out then, and what was on its way is sent once more as it was.

        Raises
        ------
        StoreUnavailable
            The server is out of reach.
        WorkbenchError
            It refuses all of it, as for a token that is no longer its own. A run that takes no more is no
            such case: its points are dropped, and its handles say so.
        """
        runs: dict[int, dict[str, Batch]] = {}
        for (run_id, name), batch in batches.items():
            runs.setdefault(run_id, {})[name] = batch
        for run_id, mine in runs.items():
            self._send_run(run_id, mine)
        self._sent.clear()

    def _send_run(self, run_id: int, mine: Mapping[str, Batch]) -> None:
        sending = self._sending(run_id)
        while sending.refused is None:
            if sending.on_its_way is None:
                left = {
                    name: _after(batch, self._sent.get((run_id, name), 0)) for name, batch in mine.items()
                }
                sending.on_its_way = _portion(left) or None
            if (portion := sending.on_its_way) is None:
                return
            try:
                self._say(run_id, sending, sending.number + 1, portion)
            except _FINAL as error:
                self._refuse(run_id, sending, error)
                return
            sending.number += 1
            sending.on_its_way = None
            for name, batch in portion.items():
                self._sent[run_id, name] = self._sent.get((run_id, name), 0) + len(batch.values)

    def _say(self, run_id: int, sending: _Sending, number: int, points: Mapping[str, Batch]) -> None:
        body = {
            "key": sending.key,
            "number": number,
            "points": {
                name: {"steps": batch.steps, "times": batch.times, "values": _numbers(batch.values)}
                for name, batch in points.items()
            },
        }
        with _reachable():
            self._door.post(f"runs/{run_id}/points", body)
        sending.spoke_at = time.monotonic()

    def beat(self, run_ids: Collection[int]) -> None:
        """Say that runs go on of which nothing was heard for some seconds."""
        for run_id in run_ids:
            sending = self._sending(run_id)
            if sending.refused is not None or time.monotonic() - sending.spoke_at < self.beat_seconds:
                continue
            sending.spoke_at = time.monotonic()  # also where it is not heard: it is said again in its time
            try:
                self._say(run_id, sending, sending.number, {})
            except _FINAL as error:
                self._refuse(run_id, sending, error)
            except WorkbenchError:
                continue

    def _sending(self, run_id: int) -> _Sending:
        return self._runs.setdefault(run_id, _Sending())

    def _refuse(self, run_id: int, sending: _Sending, error: WorkbenchError) -> None:
        sending.refused, sending.on_its_way = error, None
        for handle in list(self._handles.get(run_id, ())):
            handle.refused(error)

    def end_run(self, run_id: int, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """End a run that is running; one that is over stays as it ended."""
        with _reachable():
            told = end(self._door, run_id, status, error)
        return bool(told["status"] == status)


def end(door: Door, run_id: int, status: str, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """End a run on a server; return how it ended."""
    said = None
    if error is not None:
        said = {
            name: sendable(str(error[name]))[:most] for name, most in (("type", 1000), ("message", 100_000))
        }
    body = {"status": status, "error": said, "finished_at": time.time()}
    told: dict[str, Any] = door.post(f"runs/{run_id}/end", body, again=True)
    return told


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    """Turn what may pass by itself into the error that is tried again."""
    try:
        yield
    except (ServerUnreachable, Busy) as error:
        raise StoreUnavailable(error.message, hint=error.hint) from error


def _after(batch: Batch, count: int) -> Batch:
    return _cut(batch, count, None) if count else batch


def _cut(batch: Batch, start: int, end: int | None) -> Batch:
    return Batch(batch.steps[start:end], batch.times[start:end], batch.values[start:end])


def _portion(left: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return the first points of some metrics, as many as one request takes."""
    out: dict[str, Batch] = {}
    room = REQUEST_POINTS
    for name, batch in left.items():
        if not len(batch.values):
            continue
        room -= 1 + 6 * len(name) // _POINT_BYTES  # a character may be written as six
        if room <= 0 and out:
            break
        taken = max(min(room, len(batch.values)), 1)
        out[name] = _cut(batch, 0, taken)
        room -= taken
    return out


def _numbers(values: Iterable[float]) -> list[Any]:
    return [value if math.isfinite(value) else wire.number_json(value) for value in values]


class RemoteWriter(Writer):
    """The thread that sends what is logged; who waits for it waits for a server that is away, too."""

    def flush(self) -> None:
        """Return when the server has everything logged so far.

        Raises
        ------
        ServerUnreachable
            It was away for :data:`AWAY_SECONDS`. Nothing is lost yet: the points stay queued.
        """
        try:
            patiently(super().flush, AWAY_SECONDS)
        except StoreUnavailable as error:
            raise ServerUnreachable(error.message, hint=error.hint) from None


def waiting_for_server(call: Callable[[], _T]) -> _T:
    """Return what a call returns that may happen twice, again while the server is away."""

    def reached() -> _T:
        with _reachable():
            return call()

    try:
        return patiently(reached, AWAY_SECONDS)
    except StoreUnavailable as error:
        raise ServerUnreachable(error.message, hint=error.hint) from None


# Runs ------------------------------------------------------------------------------------------


class RemoteRun(run.Run):
    """One run on a server, logged or read from here."""

    def __init__(self, home: RemoteWorkspace, told: Mapping[str, Any]) -> None:
        self._home = home
        self._known: set[str] = set()
        self._auto_step: int | None = None
        self._refusal: WorkbenchError | None = None
        self._take(told)

    def _take(self, told: Mapping[str, Any]) -> None:
        same = ("id", "name", "status", "config", "tags", "directions", "job_id", "error")
        columns = {name: told[name] for name in same}
        columns |= {name: told[name] for name in _WHOLE if name in told}
        columns |= {name: seconds_of(told[name]) for name in ("created_at", "finished_at")}
        self._row = records.Run(experiment_id=0, **columns)
        self._whole = "git" in told
        self._id = int(told["id"])
        self._over = told["status"] != "running"
        self.experiment = told["experiment"]

    @cached_property
    def _writer(self) -> Writer:  # type: ignore[override]  # made when something is logged
        writer = self._home.writer
        self._home.sink.meet(self)
        return writer

    def refused(self, error: WorkbenchError) -> None:
        """Take notice that the server takes nothing more for this run."""
        self._refusal, self._over = error, True

    def _refuse(self) -> None:
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, hint=self._refusal.hint)
        super()._refuse()

    # Reading -----------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """``running``, ``succeeded``, ``failed``, ``cancelled`` or ``lost``."""
        return self._row.status if self._row.status != "running" else self.refresh()._row.status

    def refresh(self) -> Self:
        """Read the run again."""
        self._take(self._home.door.get(f"runs/{self.id}"))
        self._note_end()
        return self

    def _note_end(self) -> None:
        if self._over and self._home.logs:
            self._home.writer.ended(self.id)

    def _all(self) -> records.Run:
        """Return the row with what a list does not tell."""
        return self._row if self._whole else self.refresh()._row

    @property
    def notes(self) -> str:
        """What a person wants to remember of it; see :meth:`annotate`."""
        return self._all().notes

    @property
    def git(self) -> dict[str, Any]:
        """``commit``, ``branch`` and ``dirty`` of the folder it was started in; empty if no repository."""
        return self._all().git

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on: interpreter, platform, package versions, host, folder, command."""
        return self._all().environment

    @property
    def seed(self) -> int | None:
        """The random seed it was started with, if one was said."""
        seed: int | None = self._all().seed
        return seed

    @property
    def origin(self) -> str | None:
        """Which run of another tool it was brought from: ``mlflow:<id>``, ``tensorboard:<folder>``."""
        return self._all().origin

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """What each metric came to."""
        self._flush_if_logged()
        told = self._home.door.get(f"runs/{self.id}/summary")["summary"]
        return {
            name: {key: float(value) if value in _INFINITE else value for key, value in row.items()}
            for name, row in told.items()
        }

    @property
    def outcome(self) -> dict[str, Any]:
        """What the run came to, as plain JSON: collected when it ended, as it stands while it runs."""
        self._flush_if_logged()
        told: dict[str, Any] = self._home.door.get(f"runs/{self.id}/outcome")["outcome"]
        return told

    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time in seconds since 1970, value) of a metric, in the order logged."""
        self._flush_if_logged()
        points = self._home.door.get(f"runs/{self.id}/metrics", name=name, after=after)["points"]
        return [(step, at, wire.number_from(value)) for step, at, value in points]

    def annotate(self, *, notes: str | None = None, tags: Mapping[str, Any] | None = None) -> Self:
        """Write notes, or add tags; also to a run that is over. See :meth:`workbench.Run.annotate`."""
        body = {
            "notes": None if notes is None else description.check_notes(notes),
            "tags": None if tags is None else plain(tags, "tags"),
        }
        # To write the same again does no harm.
        self._take(waiting_for_server(lambda: self._home.door.patch(f"runs/{self.id}", body)))
        return self

    # Logging -----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Return when the server has everything logged so far, on its disk.

        Raises
        ------
        WrongState
            It took something no more, since the run was over.
        ServerUnreachable
            It was away for :data:`AWAY_SECONDS`; what is queued stays queued.
        """
        self._flush_if_logged()
        if self._refusal is not None:
            self._refuse()

    def _flush_if_logged(self) -> None:
        if self._home.logs:
            self._home.writer.flush()

    def finish(
        self,
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
        error: BaseException | None = None,
    ) -> None:
        """Send what is queued and end the run; a run that is over stays as it ended.

        Raises
        ------
        WrongState
            Something that was logged came after the run was over, as it is when it was taken for lost.
        """
        try:
            self.flush()
        finally:
            said = description.said_of(error)
            self._take(waiting_for_server(lambda: end(self._home.door, self.id, status, said)))
            self._note_end()

    # Files -------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:  # type: ignore[override]
        """Not to be had: it is on the server."""
        raise not_here("a run's folder", "List what is in it with run.checkpoints() and run.artifacts().")

    @property
    def checkpoint_dir(self) -> Path:
        """Not to be had: it is on the server."""
        raise not_here("a run's folder", "List what is in it with run.checkpoints().")

    def log_checkpoint(  # type: ignore[override]  # the overloads are the local one's
        self,
        name: str,
        path: str | os.PathLike[str],
        step: int | None = None,
        *,
        keep_best: int | None = None,
        metric: str | None = None,
    ) -> Path | None:
        """Send a file to be kept as a checkpoint; see :meth:`workbench.runs.run.Run.log_checkpoint`.

        Returns
        -------
        Path or None
            Its name on the server; None if it was not good enough.

        Raises
        ------
        TooLarge
            It has more bytes than the server takes.
        """
        step = self._auto_step if step is None else as_step(step)
        check_ranking(keep_best, metric)
        if metric is not None:
            self._flush_if_logged()
        asked = {"step": step, "keep_best": keep_best, "metric": metric}
        return Path(name) if self._send("checkpoint", name, path, asked)["kept"] else None

    def log_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
        """Send a file to be kept; see :meth:`workbench.runs.run.Run.log_artifact`."""
        self._send("artifact", name, path, {})
        return Path(name)

    def _send(
        self, kind: str, name: str, path: str | os.PathLike[str], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        place = f"{self._place(kind)}/{quote(files.check_file_name(name, kind), safe='')}"
        source = Path(path)
        if not source.is_file():
            raise BadInput(f"no file {str(source)!r} to keep as {kind} {name!r}")
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()

            def send() -> Any:
                file.seek(0)
                return self._home.door.send_file(place, file, {**asked, "sha256": digest})

            told: dict[str, Any] = waiting_for_server(send)
        return told

    def _place(self, kind: str) -> str:
        return f"runs/{self.id}/{kind}s"

    def checkpoints(self) -> list[CheckpointFile]:
        """Return this run's checkpoints, oldest first; their paths are names on the server."""
        self._flush_if_logged()
        place = self._place("checkpoint")
        return [
            RemoteCheckpoint(
                name=told["name"],
                path=Path(told["name"]),
                size=told["size"],
                step=told["step"],
                created_at=datetime.fromisoformat(told["created_at"]),
                metrics={name: wire.number_from(value) for name, value in told["metrics"].items()},
                source=_Source(self._home.door, f"{place}/{quote(told['name'], safe='')}"),
            )
            for told in self._home.door.get(place)["checkpoints"]
        ]

    def checkpoint(self, name: str) -> CheckpointFile:
        """Return one checkpoint; ``open()`` is a stream of its bytes, and ``save(path)`` brings it here."""
        return named(name, "checkpoint", self.checkpoints)

    def delete_checkpoint(self, name: str) -> None:
        """Delete one checkpoint on the server."""
        files.check_file_name(name, "checkpoint")
        self._home.door.delete(f"runs/{self.id}/checkpoints/{quote(name, safe='')}")

    def artifacts(self) -> list[ArtifactFile]:
        """Return this run's artifacts, oldest first; their paths are names on the server."""
        place = self._place("artifact")
        return [
            RemoteArtifact(
                name=told["name"],
                path=Path(told["name"]),
                size=told["size"],
                created_at=datetime.fromisoformat(told["created_at"]),
                source=_Source(self._home.door, f"{place}/{quote(told['name'], safe='')}"),
            )
            for told in self._home.door.get(place)["artifacts"]
        ]

    def artifact(self, name: str) -> ArtifactFile:
        """Return one artifact; its ``open()`` is a stream of its bytes, and ``save(path)`` brings it here."""
        return named(name, "artifact", self.artifacts)


_INFINITE = ("Infinity", "-Infinity")
_WHOLE = ("notes", "seed", "git", "environment", "origin")


# Files on the server -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Where the bytes of a file are to be had."""

    door: Door
    place: str


@dataclass(frozen=True)
class _RemoteFile(KeptFile):
    """What files on a server share; ``path`` is a name there."""

    source: _Source = field(kw_only=True, compare=False, repr=False)

    def __fspath__(self) -> str:
        raise not_here(f"a path of {self.name!r}", "Bring it here first: file.save(path) returns one.")

    def open(self) -> BinaryIO:
        """Open it for reading, as a stream of bytes that come as they are read."""
        parts = self.source.door.file_parts(self.source.place, _PART_BYTES)
        return cast(BinaryIO, io.BufferedReader(_Parts(parts), _PART_BYTES))


@dataclass(frozen=True)
class RemoteCheckpoint(_RemoteFile, CheckpointFile):
    """One checkpoint of a run on a server."""


@dataclass(frozen=True)
class RemoteArtifact(_RemoteFile, ArtifactFile):
    """One artifact of a run on a server."""


class _Parts(io.RawIOBase):
    """Bytes that come in parts, as a file to read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(next(parts, b""))  # what is wrong with it is told when it is opened

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken

    def close(self) -> None:
        if not self.closed:
            cast(Any, self._parts).close()
        super().close()
