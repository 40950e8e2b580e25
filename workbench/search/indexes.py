"""The indexes in a workspace folder: list them, find the adapter of one, and open it.

Nothing here uses the database.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from workbench.adapter.registry import get_adapter
from workbench.errors import CorruptFile, UnknownIndex
from workbench.search.searcher import Searcher

_MANIFEST = "manifest.json"


def index_names(folder: Path) -> list[str]:
    """Return the names of the complete indexes, sorted; empty if the folder is missing."""
    if not folder.is_dir():
        return []
    complete = (entry for entry in folder.iterdir() if (entry / _MANIFEST).is_file())
    return sorted(entry.name for entry in complete if not entry.name.startswith("."))


def newest_index(folder: Path) -> str | None:
    """Return the name of the latest index; None if there is none."""
    return max(index_names(folder), key=lambda name: (folder / name).stat().st_mtime, default=None)


def stored_name(names: Sequence[str], name: str) -> str:
    """Return the one of the existing names that a name stands for: itself, or one in another Unicode form.

    A Mac may write 강아지 in letters (NFD), where others write it in syllables (NFC).

    Raises
    ------
    UnknownIndex
        There is no index of that name.
    """
    if name in names:
        return name
    same = unicodedata.normalize("NFC", name)
    for one in names:
        if unicodedata.normalize("NFC", one) == same:
            return one
    raise UnknownIndex(name, names)


def index_adapter(folder: Path, name: str) -> str:
    """Return the name of the adapter that made an index.

    Raises
    ------
    UnknownIndex
        There is no index of that name. The name is compared with the existing ones and never used as a path.
    CorruptFile
        Its manifest cannot be read, or does not name an adapter.
    """
    manifest = folder / stored_name(index_names(folder), name) / _MANIFEST
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["adapter"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFile(
            manifest, f"not a manifest that names its adapter ({error!r})", hint="Build the index again."
        ) from None


def index_stamp(folder: Path, name: str) -> tuple[int, int, int]:
    """Return a stamp of an index that changes when the index is rebuilt."""
    stat = (folder / stored_name(index_names(folder), name) / _MANIFEST).stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def open_index(folder: Path, name: str) -> Searcher:
    """Open an index for searching in this process, with the adapter that built it.

    Raises
    ------
    UnknownIndex, CorruptFile
        See :func:`index_adapter`.
    """
    name = stored_name(index_names(folder), name)
    adapter = get_adapter(index_adapter(folder, name))
    return Searcher(adapter, adapter.load_index(folder / name), name)
