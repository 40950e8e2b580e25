"""Order among runs: rename, move, archive, restore and delete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any, Self

from workbench.errors import BadInput
from workbench.text import shown
from workbench.values import storable

#: Maximum number of characters of a name that a person gives.
NAME_CHARACTERS = 255


class RunOrder(ABC):
    """What can be done to a run after it was started, besides logging."""

    @property
    @abstractmethod
    def archived_at(self) -> datetime | None:
        """When it was archived; None if it is not."""

    @property
    def archived(self) -> bool:
        """Whether it is archived: lists omit it, and everything else works as before."""
        return self.archived_at is not None

    @abstractmethod
    def rename(self, name: str) -> Self:
        """Give the run another name.

        Raises
        ------
        BadInput
            The name is empty, too long, or no text that a database can store.
        """

    @abstractmethod
    def move(self, experiment: str) -> Self:
        """Move the run to another experiment, created if new."""

    @abstractmethod
    def archive(self) -> Self:
        """Hide the run from lists; :meth:`restore` undoes it. Nothing is deleted."""

    @abstractmethod
    def restore(self) -> Self:
        """Show an archived run in lists again."""

    @abstractmethod
    def delete(self) -> dict[str, int]:
        """Delete the run with its points and files. It cannot be undone: :meth:`archive` can.

        What was made from it stays: jobs keep their results, and indexes hold all that they need.

        Returns
        -------
        dict of str to int
            How many ``runs``, ``metrics``, ``points``, ``checkpoints``, ``artifacts``, ``media`` and
            ``bytes`` of files were deleted.

        Raises
        ------
        WrongState
            The run is running, or a job that is queued or running uses it.
        """


def check_new_name(name: Any, what: str) -> str:
    """Return a name that a person gives to something, or raise.

    Raises
    ------
    BadInput
        It is empty, too long, or no text that a database can store.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_CHARACTERS or storable(name) != name:
        raise BadInput(
            f"the name of {what} must be a string of 1 to {NAME_CHARACTERS} characters, got {shown(name)}"
        )
    return name.strip()
