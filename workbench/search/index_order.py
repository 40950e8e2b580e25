"""Order among indexes: rename, archive, restore and delete.

An index is a folder, and an archived one is in the folder ``.archived`` beside the others. Each change is one
rename, so an index that is being searched goes on: who has it open keeps its files.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from workbench.errors import BadInput, WrongState
from workbench.host.files import check_file_name, delete_folder
from workbench.search.indexes import index_names, stored_name

#: The folder of archived indexes, in the folder of all.
ARCHIVED = ".archived"


def archived_names(folder: Path) -> list[str]:
    """Return the names of the archived indexes, sorted."""
    return index_names(folder / ARCHIVED)


def rename_index(folder: Path, name: str, new: str, busy: Collection[str] = ()) -> str:
    """Give an index another name, under which it is searched from then on; return it.

    Parameters
    ----------
    folder : Path
        The folder of the indexes.
    name : str
        The index.
    new : str
        Its new name, a plain file name.
    busy : collection of str
        Names of indexes that jobs are about to build.

    Raises
    ------
    UnknownIndex, BadName
        There is no such index, or the new name could refer to another place.
    WrongState
        The new name is taken, or a job is about to build one of the two.
    """
    name = stored_name(index_names(folder), name)
    new = check_file_name(new, "index")
    _check_idle(busy, name, new)
    _rename(folder / name, folder / new, new)
    return new


def archive_index(folder: Path, name: str, busy: Collection[str] = ()) -> str:
    """Hide an index from lists and searches; return its name."""
    name = stored_name(index_names(folder), name)
    _check_idle(busy, name)
    (folder / ARCHIVED).mkdir(exist_ok=True)
    _rename(folder / name, folder / ARCHIVED / name, name)
    return name


def restore_index(folder: Path, name: str) -> str:
    """Show an archived index in lists and searches again; return its name."""
    name = stored_name(archived_names(folder), name)
    _rename(folder / ARCHIVED / name, folder / name, name)
    return name


def delete_index(folder: Path, name: str, busy: Collection[str] = ()) -> dict[str, int]:
    """Delete an index, or an archived one, with its files; return how many there were, and their bytes.

    Of two of one name, the one that is not archived is meant.
    """
    names, archived = index_names(folder), archived_names(folder)
    name = stored_name(sorted({*names, *archived}), name)
    _check_idle(busy, name)
    return {"indexes": 1, "bytes": delete_folder(folder if name in names else folder / ARCHIVED, name)}


def _check_idle(busy: Collection[str], *names: str) -> None:
    for name in names:
        if name in busy:
            raise WrongState(
                f"a job that is queued or running builds index {name!r}",
                hint="Cancel it, or wait for its end.",
            )


def _rename(source: Path, target: Path, name: str) -> None:
    if os.path.lexists(target):
        raise WrongState(f"there is an index {name!r} there already", hint="Rename or delete that one first.")
    try:
        source.rename(target)
    except OSError as error:
        raise BadInput(f"index {source.name!r} cannot be moved: {error.strerror or error}") from None
