"""A task, and how it ended."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.errors import BadInput


@dataclass(frozen=True)
class Task:
    """A pure function of its input that writes one file.

    It may run in another process or on another machine, may be started again after a crash, and may even run
    twice at once: with the same input it must write the same bytes.

    Attributes
    ----------
    name : str
        What messages call it.
    function : callable
        Called as ``function(input, path)``; it writes the file at ``path``, a new name on a local disk, which
        is then moved to ``output``. It must be importable by its name wherever it runs: no lambda, and no
        function of a notebook or a script.
    input : object
        What it works on; small, and picklable.
    output : str
        Where the file is kept: a path that every worker sees, or a URL of a file system that fsspec knows,
        such as ``s3://bucket/folder/part-0001``.
    size : int
        Number of items in it, for progress.
    """

    name: str
    function: Callable[[Any, Path], None]
    input: Any
    output: str
    size: int = 1


#: ``done``: it wrote its file; ``present``: its file was there already; ``refused``: its input cannot be
#: used; ``failed``: it raised an error; ``broken``: the disk or the network did, and trying again may help;
#: ``died``: its process did; ``lost``: unknown, since the scheduler is gone.
Ending = Literal["done", "present", "refused", "failed", "broken", "died", "lost"]


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes
    ----------
    name : str
        The task.
    ending : str
        See :data:`Ending`.
    reason, hint : str
        Why it did not succeed, and what to do.
    trace : str
        The traceback of an error in the function.
    seconds : float
        How long it took where it ran.
    """

    name: str
    ending: Ending
    reason: str = ""
    hint: str = ""
    trace: str = ""
    seconds: float = 0.0


def check_task(task: Task) -> None:
    """Refuse a task whose function no other process can import.

    Raises
    ------
    workbench.BadInput
        Its module is the running script or notebook, or it is no function at the top of its module.
    """
    module = getattr(task.function, "__module__", "")
    name = getattr(task.function, "__qualname__", "")
    found: Any = None
    if module and module != "__main__" and name.isidentifier():
        found = getattr(importlib.import_module(module), name, None)
    if found is not task.function:
        raise BadInput(
            f"task {task.name!r}: {module or '?'}.{name or task.function!r} cannot be imported elsewhere",
            hint="Use a function at the top of a module; not a lambda, and none of a notebook or a script.",
        )
