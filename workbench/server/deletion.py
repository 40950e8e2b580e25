"""Deleting a checkpoint by a name from outside: one file of that run, and nothing else."""

from __future__ import annotations

import os
import stat

from workbench.errors import NotFound, WrongState
from workbench.records import check_file_name
from workbench.tracking import Run


def delete_checkpoint(run: Run, name: str) -> None:
    """Delete one checkpoint of a run, whatever the name says.

    The folder is opened once and without following a link, and the file is removed by its name inside that
    open folder: what is swapped meanwhile cannot lead elsewhere.

    Raises
    ------
    BadName
        A name that could mean a file elsewhere.
    NotFound
        The run has no such checkpoint.
    WrongState
        Its folder is a link to somewhere else.
    """
    check_file_name(name, "checkpoint")
    names = [file.name for file in run.checkpoints()]
    unknown = NotFound(
        f"run {run.id} has no checkpoint {name!r}. It has: {', '.join(names) or 'none'}",
        hint="A checkpoint that was deleted before is gone.",
    )
    if name not in names:
        raise unknown
    try:
        folder = os.open(run.folder / "checkpoints", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        raise WrongState(f"the checkpoints of run {run.id} are not in a folder of its own") from None
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise unknown
        os.unlink(name, dir_fd=folder)
        os.fsync(folder)
    except FileNotFoundError:
        raise unknown from None
    finally:
        os.close(folder)
