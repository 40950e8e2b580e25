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
from typing import Any, Literal, Self
from urllib.parse import quote

from workbench import wire
from workbench.errors import BadInput, WorkbenchError
from workbench.host import files
from workbench.remote.door import Door, not_here, seconds_of
from workbench.remote.kept_files import RemoteArtifact, RemoteCheckpoint, Source
from workbench.remote.sending import Sender, end, waiting_for_server
from workbench.runs import description, run
from workbench.runs.kept_files import ArtifactFile, CheckpointFile, check_ranking, named
from workbench.store import records
from workbench.store.writer import Writer
from workbench.values import as_step, plain


class RemoteRun(run.Run):
    """One run on a server, logged or read from here."""

    def __init__(self, door: Door, sender: Sender, told: Mapping[str, Any]) -> None:
        self._door = door
        self._sender = sender
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
        return self._sender.writer_of(self)

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
        self._take(self._door.get(f"runs/{self.id}"))
        self._note_end()
        return self

    def _note_end(self) -> None:
        if self._over:
            self._sender.ended(self.id)

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
        self._sender.flush()
        told = self._door.get(f"runs/{self.id}/summary")["summary"]
        return {
            name: {key: float(value) if value in _INFINITE else value for key, value in row.items()}
            for name, row in told.items()
        }

    @property
    def outcome(self) -> dict[str, Any]:
        """What the run came to, as plain JSON: collected when it ended, as it stands while it runs."""
        self._sender.flush()
        told: dict[str, Any] = self._door.get(f"runs/{self.id}/outcome")["outcome"]
        return told

    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time in seconds since 1970, value) of a metric, in the order logged."""
        self._sender.flush()
        points = self._door.get(f"runs/{self.id}/metrics", name=name, after=after)["points"]
        return [(step, at, wire.number_from(value)) for step, at, value in points]

    def annotate(self, *, notes: str | None = None, tags: Mapping[str, Any] | None = None) -> Self:
        """Write notes, or add tags; also to a run that is over. See :meth:`workbench.Run.annotate`."""
        body = {
            "notes": None if notes is None else description.check_notes(notes),
            "tags": None if tags is None else plain(tags, "tags"),
        }
        # To write the same again does no harm.
        self._take(waiting_for_server(lambda: self._door.patch(f"runs/{self.id}", body)))
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
        self._sender.flush()
        if self._refusal is not None:
            self._refuse()

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
            self._sender.flush()
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
                return self._door.send_file(place, file, {**asked, "sha256": digest})

            told: dict[str, Any] = waiting_for_server(send)
        return told

    def _place(self, kind: str) -> str:
        return f"runs/{self.id}/{kind}s"

    def checkpoints(self) -> list[CheckpointFile]:
        """Return this run's checkpoints, oldest first; their paths are names on the server."""
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

    def checkpoint(self, name: str) -> CheckpointFile:
        """Return one checkpoint; ``open()`` is a stream of its bytes, and ``save(path)`` brings it here."""
        return named(name, "checkpoint", self.checkpoints)

    def delete_checkpoint(self, name: str) -> None:
        """Delete one checkpoint on the server."""
        files.check_file_name(name, "checkpoint")
        self._door.delete(f"runs/{self.id}/checkpoints/{quote(name, safe='')}")

    def artifacts(self) -> list[ArtifactFile]:
        """Return this run's artifacts, oldest first; their paths are names on the server."""
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

    def artifact(self, name: str) -> ArtifactFile:
        """Return one artifact; its ``open()`` is a stream of its bytes, and ``save(path)`` brings it here."""
        return named(name, "artifact", self.artifacts)


_INFINITE = ("Infinity", "-Infinity")

_WHOLE = ("notes", "seed", "git", "environment", "origin")
