"""The indexes of a workspace folder: which there are, whose they are, and how one is opened.

Nothing here needs the database.
"""

from __future__ import annotations

import json
from pathlib import Path

from workbench.adapter.registry import get_adapter
from workbench.errors import CorruptFile, UnknownIndex
from workbench.search.searcher import Searcher

_MANIFEST = "manifest.json"


def index_names(folder: Path) -> list[str]:
    """Return the names of the indexes that are whole, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    found = (entry for entry in folder.iterdir() if (entry / _MANIFEST).is_file())
    return sorted(entry.name for entry in found if not entry.name.startswith("."))


def newest_index(folder: Path) -> str | None:
    """Return the index that was built last."""
    return max(index_names(folder), key=lambda name: (folder / name).stat().st_mtime, default=None)


def index_adapter(folder: Path, name: str) -> str:
    """Return the name of the adapter that made an index.

    Raises
    ------
    UnknownIndex
        There is no index of that name; it is compared with those there are, and never made into a path.
    CorruptFile
        Its manifest cannot be read, or names no adapter.
    """
    if name not in (names := index_names(folder)):
        raise UnknownIndex(name, names)
    manifest = folder / name / _MANIFEST
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["adapter"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFile(
            manifest, f"not a manifest that names its adapter ({error!r})", hint="Build the index again."
        ) from None


def index_stamp(folder: Path, name: str) -> tuple[int, int, int]:
    """Return what changes when an index is built anew."""
    found = (folder / name / _MANIFEST).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def open_index(folder: Path, name: str) -> Searcher:
    """Open an index for searching, in this process, whatever family made it.

    Raises
    ------
    UnknownIndex, CorruptFile
        As :func:`index_adapter`.
    """
    adapter = get_adapter(index_adapter(folder, name))
    return Searcher(adapter, adapter.load_index(folder / name), name)
