"""What an engine is: three calls over independent tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from workbench.engine.task import Outcome, Task


class Engine(ABC):
    """Performs independent tasks; use it in a ``with`` statement, which ends what it has started."""

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Take a task; :meth:`as_completed` says how it ended.

        Raises
        ------
        workbench.BadInput
            No other process can import its function, or its input cannot be pickled.
        """

    @abstractmethod
    def as_completed(self, seconds: float) -> Iterator[Outcome]:
        """Yield each submitted task as it ends, once; stop when none is left, or none ended for ``seconds``.

        Raises
        ------
        workbench.EngineLost
            The engine is gone, and was waited for in vain.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Drop all tasks, and stop those that run, also on other machines."""

    @abstractmethod
    def close(self) -> None:
        """Cancel, and end what was started."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many tasks it can perform at once, now."""

    @property
    def waiting(self) -> str:
        """What it waits for before tasks can go on, in words; empty if for nothing."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
