"""Handles of runs on a server, for logging and reading.

``run.log`` is as cheap as for a local run; :mod:`workbench.remote.sending` sends its points to the server. A
handle whose run has been marked as lost raises ``WrongState``.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self
from urllib.parse import quote

from typing_extensions import override

from workbench import wire
from workbench.errors import BadInput, TooLarge, WorkbenchError
from workbench.host import files
from workbench.remote.door import Door, OnServer, seconds_of
from workbench.remote.kept_files import RemoteArtifact, RemoteCheckpoint, RemoteMedia, Source, sent_name
from workbench.remote.sending import Sender, end, waiting_for_server
from workbench.runs import description
from workbench.runs.fixed import summary_of
from workbench.runs.kept_files import ArtifactFile, CheckpointFile
from workbench.runs.media import MediaFile, check_kind
from workbench.runs.order import check_new_name
from workbench.runs.run import Run
from workbench.runs.system import Sampler
from workbench.store import records
from workbench.store.writer import Writer
from workbench.values import Tags

_INFINITE = ("Infinity", "-Infinity")

#: Columns that a list of runs omits.
_WHOLE = ("notes", "seed", "git", "environment", "origin")

#: Times; servers of version 0.2.0 do not know the last one.
_TIMES = ("created_at", "finished_at", "archived_at")


def _run_row(reply: Mapping[str, Any]) -> records.RunRecord:
    """Return a run's row from its JSON."""
    same = ("id", "name", "status", "config", "tags", "directions", "job_id", "error")
    columns = {name: reply[name] for name in same}
    columns |= {name: reply[name] for name in _WHOLE if name in reply}
    columns |= {name: seconds_of(reply.get(name)) for name in _TIMES}
    return records.RunRecord(experiment_id=0, **columns)


#: Number of points of a metric per request, once there are too many for one.
PAGE_POINTS = 50_000


class RemoteRun(OnServer, Run):
    """A run on a server."""

    _only_local: ClassVar[Mapping[str, tuple[str, str]]] = {
        "folder": ("a run's folder", "Use run.checkpoints() and run.artifacts() to list its files."),
        "checkpoint_dir": ("a run's folder", "Use run.checkpoints() to list its files."),
    }

    def __init__(self, door: Door, sender: Sender, reply: Mapping[str, Any]) -> None:
        self._door = door
        self._sender = sender
        self._refusal: WorkbenchError | None = None
        self._sampler: Sampler | None = None
        super().__init__(_run_row(reply), reply["experiment"])
        self._whole = "git" in reply

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: a handle holds a connection and its login."""
        raise TypeError(
            f"the handle of run {self.id} cannot be sent to another process: open the run there, with "
            f"wb.connect(…).run({self.id})"
        )

    def _take(self, reply: Mapping[str, Any]) -> None:
        self._row, self._whole = _run_row(reply), "git" in reply
        self._over = self._row.status != "running"
        self.experiment = reply["experiment"]

    @cached_property
    @override
    def _writer(self) -> Writer:
        return self._sender.writer_of(self)

    def refused(self, error: WorkbenchError) -> None:
        """Note that the server no longer accepts points of this run."""
        self._refusal, self._over = error, True

    @override
    def _refuse(self) -> None:
        if self._refusal is not None:
            raise type(self._refusal)(
                self._refusal.message, hint=self._refusal.hint, advice=self._refusal.advice
            )
        super()._refuse()

    # Reading -----------------------------------------------------------------------------------

    @override
    def refresh(self) -> Self:
        self._take(self._door.get(f"runs/{self.id}"))
        self._note_end()
        return self

    def _note_end(self) -> None:
        if self._over:
            self._end_samples()
            self._sender.ended(self.id)

    @override
    def _whole_row(self) -> records.RunRecord:
        return self._row if self._whole else self.refresh()._row

    @property
    @override
    def summary(self) -> dict[str, dict[str, Any]]:
        return summary_of(self.id, self._summary("summary"))

    @property
    @override
    def system(self) -> dict[str, dict[str, Any]]:
        return self._summary("system")

    def _summary(self, which: str) -> dict[str, dict[str, Any]]:
        self._sender.flush()
        return {
            name: {key: float(value) if value in _INFINITE else value for key, value in row.items()}
            for name, row in self._door.get(f"runs/{self.id}/{which}")["summary"].items()
        }

    def sample(self, sampler: Sampler) -> Self:
        """Log what this machine does, until the run ends; return this handle."""
        self._sampler = sampler
        sampler.begin(self.id, self._writer, self._row.created_at)
        return self

    def _end_samples(self) -> None:
        if self._sampler is not None:
            self._sampler.end(self.id)

    @property
    @override
    def outcome(self) -> dict[str, Any]:
        self._sender.flush()
        reply: dict[str, Any] = self._door.get(f"runs/{self.id}/outcome")["outcome"]
        return reply

    @override
    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        self._sender.flush()
        points: list[tuple[int, float, float]] = []
        limit, more = None, True
        while more:
            try:
                reply = self._door.get(f"runs/{self.id}/metrics", name=name, after=after, limit=limit)
            except TooLarge:
                if limit is not None:
                    raise
                limit = PAGE_POINTS  # only now, since servers of version 0.2.0 know no limit
                continue
            points += [
                (step, wire.number_from(at), wire.number_from(value)) for step, at, value in reply["points"]
            ]
            more, after = reply.get("more", False), reply.get("next", after)
        return points

    @override
    def annotate(self, *, notes: str | None = None, tags: Tags | None = None) -> Self:
        body = {
            "notes": None if notes is None else description.check_notes(notes),
            "tags": None if tags is None else description.check_tags(tags),
        }
        # Idempotent, so it may be retried.
        self._take(waiting_for_server(lambda: self._door.patch(f"runs/{self.id}", body)))
        return self

    # Order -------------------------------------------------------------------------------------

    @override
    def rename(self, name: str) -> Self:
        return self._ordered("rename", {"name": check_new_name(name, "a run")})

    @override
    def move(self, experiment: str) -> Self:
        return self._ordered("move", {"experiment": description.check_experiment(experiment)})

    @override
    def archive(self) -> Self:
        return self._ordered("archive")

    @override
    def restore(self) -> Self:
        return self._ordered("restore")

    def _ordered(self, verb: str, body: Mapping[str, Any] | None = None) -> Self:
        self._take(self._door.post(f"runs/{self.id}/{verb}", body, again=True))
        return self

    @override
    def delete(self) -> dict[str, int]:
        counts: dict[str, int] = self._door.delete(f"runs/{self.id}")["deleted"]
        self._over = True
        return counts

    # Logging -----------------------------------------------------------------------------------

    @override
    def flush(self) -> None:
        """Wait until the server has everything logged so far on its disk.

        Raises
        ------
        WrongState
            The server rejected points because the run had ended.
        ServerUnreachable
            It was unreachable for :data:`workbench.remote.sending.AWAY_SECONDS`; points stay queued.
        """
        self._sender.flush()
        if self._refusal is not None:
            self._refuse()

    @override
    def finish(
        self,
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
        error: BaseException | None = None,
    ) -> None:
        """Send queued points and end the run; a run that has ended keeps its status.

        Raises
        ------
        WrongState
            Points arrived after the run had ended, for example because it was marked as lost.
        """
        self._end_samples()
        try:
            self.flush()
        finally:
            problem = description.said_of(error)
            self._take(waiting_for_server(lambda: end(self._door, self.id, status, problem)))
            self._note_end()

    # Files -------------------------------------------------------------------------------------

    @override
    def _keep_checkpoint(
        self,
        name: str,
        path: str | os.PathLike[str],
        step: int | None,
        keep_best: int | None,
        metric: str | None,
    ) -> Path | None:
        if metric is not None:
            self._sender.flush()
        query = {"step": step, "keep_best": keep_best, "metric": metric}
        return Path(name) if self._send("checkpoint", name, path, query)["kept"] else None

    @override
    def log_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
        self._send("artifact", name, path, {})
        return Path(name)

    def _send(
        self, kind: str, name: str, path: str | os.PathLike[str], query: Mapping[str, Any]
    ) -> dict[str, Any]:
        place = f"{self._place(kind)}/{quote(files.check_file_name(name, kind), safe='')}"
        source = Path(path)
        if not source.is_file():
            raise BadInput(f"cannot keep {kind} {name!r}: no file {str(source)!r}")
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()

            def send() -> Any:
                file.seek(0)
                return self._door.send_file(place, file, {**query, "sha256": digest})

            reply: dict[str, Any] = waiting_for_server(send)
        return reply

    @override
    def _keep_media(self, kind: str, label: str, data: bytes, step: int, caption: str) -> bool:
        digest = hashlib.sha256(data).hexdigest()
        query = {"kind": kind, "name": label, "step": step, "caption": caption, "sha256": digest}
        send = functools.partial(self._door.send_file, f"runs/{self.id}/media", query=query)
        return bool(waiting_for_server(lambda: send(io.BytesIO(data)))["kept"])

    @override
    def _media(self, kind: str | None, label: str | None) -> list[MediaFile]:
        place = f"runs/{self.id}/media"
        return [
            RemoteMedia(
                name=(name := sent_name({"name": reply["file"]}, "artifact")),
                path=Path(name),
                size=reply["size"],
                created_at=datetime.fromisoformat(reply["created_at"]),
                kind=check_kind(reply["kind"]),
                label=reply["name"],
                step=reply["step"],
                caption=reply["caption"],
                source=Source(self._door, f"{place}/{quote(name, safe='')}"),
            )
            for reply in self._door.get(place, kind=kind, name=label)["media"]
        ]

    def _place(self, kind: str) -> str:
        return f"runs/{self.id}/{kind}s"

    @override
    def checkpoints(self) -> list[CheckpointFile]:
        self._sender.flush()
        place = self._place("checkpoint")
        return [
            RemoteCheckpoint(
                name=(name := sent_name(reply, "checkpoint")),
                path=Path(name),
                size=reply["size"],
                step=reply["step"],
                created_at=datetime.fromisoformat(reply["created_at"]),
                metrics={metric: wire.number_from(value) for metric, value in reply["metrics"].items()},
                source=Source(self._door, f"{place}/{quote(name, safe='')}"),
            )
            for reply in self._door.get(place)["checkpoints"]
        ]

    @override
    def delete_checkpoint(self, name: str) -> None:
        files.check_file_name(name, "checkpoint")
        self._door.delete(f"runs/{self.id}/checkpoints/{quote(name, safe='')}")

    @override
    def artifacts(self) -> list[ArtifactFile]:
        place = self._place("artifact")
        return [
            RemoteArtifact(
                name=(name := sent_name(reply, "artifact")),
                path=Path(name),
                size=reply["size"],
                created_at=datetime.fromisoformat(reply["created_at"]),
                source=Source(self._door, f"{place}/{quote(name, safe='')}"),
            )
            for reply in self._door.get(place)["artifacts"]
        ]
