"""What a comparison reads of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class ComparedRun(Protocol):
    """What is read of a run; a :class:`RunRecord` or an open run will do."""

    @property
    def id(self) -> int:
        """The run's id."""

    @property
    def name(self) -> str:
        """The run's name."""

    @property
    def experiment(self) -> str:
        """The experiment it belongs to."""

    @property
    def status(self) -> str:
        """How far it is."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings, nested as they were given."""

    @property
    def summary(self) -> Mapping[str, Mapping[str, Any]]:
        """For each metric its ``last``, ``min``, ``max``, ``best`` and, where declared, ``better``."""


def run_label(run: ComparedRun) -> str:
    """Return the name of a run as people read it; a run without a name is called by its id."""
    return run.name or f"run {run.id}"


@dataclass(frozen=True)
class RunRecord:
    """A run as plain data."""

    id: int
    name: str
    experiment: str
    status: str
    config: Mapping[str, Any]
    summary: Mapping[str, Mapping[str, Any]]
