"""The parts of a run that a comparison reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class ComparedRun(Protocol):
    """A run as a comparison reads it; a :class:`RunSnapshot` or an open run."""

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
        """The run's status."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings, nested as logged."""

    @property
    def summary(self) -> Mapping[str, Mapping[str, Any]]:
        """For each metric its ``last``, ``min``, ``max``, ``best`` and, if declared, ``better``."""


def run_label(run: ComparedRun) -> str:
    """Return the label of a run: its name, or its id if it has no name."""
    return run.name or f"run {run.id}"


@dataclass(frozen=True)
class RunSnapshot:
    """A run as plain data."""

    id: int
    name: str
    experiment: str
    status: str
    config: Mapping[str, Any]
    summary: Mapping[str, Mapping[str, Any]]
