"""Runs on a server, logged and read from here.

``run.log`` is the same cheap call as on the machine of the workspace; :mod:`workbench.remote.sending` says
how its points reach the server. A handle whose run was taken for lost meanwhile raises ``WrongState``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

from typing_extensions import override

from workbench import wire
from workbench.errors import BadInput, WorkbenchError
from workbench.host import files
from workbench.remote.door import Door, OnServer, seconds_of
from workbench.remote.kept_files import RemoteArtifact, RemoteCheckpoint, Source
from workbench.remote.sending import Sender, end, waiting_for_server
from workbench.runs import description
from workbench.runs.kept_files import ArtifactFile, CheckpointFile
from workbench.runs.run import Run
from workbench.store import records
from workbench.store.writer import Writer
from workbench.values import plain

_INFINITE = ("Infinity", "-Infinity")

#: What a list of runs does not hold.
_WHOLE = ("notes", "seed", "git", "environment", "origin")


def _run_row(told: Mapping[str, Any]) -> records.Run:
    """Return a run's row from its JSON."""
    same = ("id", "name", "status", "config", "tags", "directions", "job_id", "error")
    columns = {name: told[name] for name in same}
    columns |= {name: told[name] for name in _WHOLE if name in told}
    columns |= {name: seconds_of(told[name]) for name in ("created_at", "finished_at")}
    return records.Run(experiment_id=0, **columns)


class RemoteRun(OnServer, Run):
    """One run on a server, logged or read from here."""

    _only_local: ClassVar[Mapping[str, tuple[str, str]]] = {
        "folder": ("a run's folder", "List what is in it with run.checkpoints() and run.artifacts()."),
        "checkpoint_dir": ("a run's folder", "List what is in it with run.checkpoints()."),
    }

    def __init__(self, door: Door, sender: Sender, told: Mapping[str, Any]) -> None:
        self._door = door
        self._sender = sender
        self._refusal: WorkbenchError | None = None
        super().__init__(_run_row(told), told["experiment"])
        self._whole = "git" in told

    def _take(self, told: Mapping[str, Any]) -> None:
        self._row, self._whole = _run_row(told), "git" in told
        self._over = self._row.status != "running"
        self.experiment = told["experiment"]

    @cached_property
    @override
    def _writer(self) -> Writer:
        return self._sender.writer_of(self)

    def refused(self, error: WorkbenchError) -> None:
        """Take notice that the server takes nothing more for this run."""
        self._refusal, self._over = error, True

    @override
    def _refuse(self) -> None:
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, hint=self._refusal.hint)
        super()._refuse()

    # Reading -----------------------------------------------------------------------------------

    @override
    def refresh(self) -> Self:
        self._take(self._door.get(f"runs/{self.id}"))
        self._note_end()
        return self

    def _note_end(self) -> None:
        if self._over:
            self._sender.ended(self.id)

    @override
    def _whole_row(self) -> records.Run:
        return self._row if self._whole else self.refresh()._row

    @property
    @override
    def summary(self) -> dict[str, dict[str, Any]]:
        self._sender.flush()
        told = self._door.get(f"runs/{self.id}/summary")["summary"]
        return {
            name: {key: float(value) if value in _INFINITE else value for key, value in row.items()}
            for name, row in told.items()
        }

    @property
    @override
    def outcome(self) -> dict[str, Any]:
        self._sender.flush()
        told: dict[str, Any] = self._door.get(f"runs/{self.id}/outcome")["outcome"]
        return told

    @override
    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        self._sender.flush()
        points = self._door.get(f"runs/{self.id}/metrics", name=name, after=after)["points"]
        return [(step, at, wire.number_from(value)) for step, at, value in points]

    @override
    def annotate(self, *, notes: str | None = None, tags: Mapping[str, Any] | None = None) -> Self:
        body = {
            "notes": None if notes is None else description.check_notes(notes),
            "tags": None if tags is None else plain(tags, "tags"),
        }
        # To write the same again does no harm.
        self._take(waiting_for_server(lambda: self._door.patch(f"runs/{self.id}", body)))
        return self

    # Logging -----------------------------------------------------------------------------------

    @override
    def flush(self) -> None:
        """Return when the server has everything logged so far, on its disk.

        Raises
        ------
        WrongState
            It took something no more, since the run was over.
        ServerUnreachable
            It was away for :data:`workbench.remote.sending.AWAY_SECONDS`; what is queued stays queued.
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
            self._take(waiting_for_server(lambda: end(self._door, self.id, status, said)))
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
        asked = {"step": step, "keep_best": keep_best, "metric": metric}
        return Path(name) if self._send("checkpoint", name, path, asked)["kept"] else None

    @override
    def log_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
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
                return self._door.send_file(place, file, {**asked, "sha256": digest})

            told: dict[str, Any] = waiting_for_server(send)
        return told

    def _place(self, kind: str) -> str:
        return f"runs/{self.id}/{kind}s"

    @override
    def checkpoints(self) -> list[CheckpointFile]:
        self._sender.flush()
        place = self._place("checkpoint")
        return [
            RemoteCheckpoint(
                name=told["name"],
                path=Path(told["name"]),
                size=told["size"],
                step=told["step"],
                created_at=datetime.fromisoformat(told["created_at"]),
                metrics={name: wire.number_from(value) for name, value in told["metrics"].items()},
                source=Source(self._door, f"{place}/{quote(told['name'], safe='')}"),
            )
            for told in self._door.get(place)["checkpoints"]
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
                name=told["name"],
                path=Path(told["name"]),
                size=told["size"],
                created_at=datetime.fromisoformat(told["created_at"]),
                source=Source(self._door, f"{place}/{quote(told['name'], safe='')}"),
            )
            for told in self._door.get(place)["artifacts"]
        ]
