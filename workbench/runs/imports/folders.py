"""Which stored run a TensorBoard folder continues.

TensorBoard has no ids: a run is a folder. A folder may be moved and renamed, and copied to branch a training
from it: then copy and original share their first event files and differ in later ones. An event file is known
by its name and the time of its first record, which stay the same wherever it lies; a stored run remembers its
files and its folder. A folder continues a stored run where both hold:

* One's files include the other's. Runs that went on separately since a copy are never joined.
* It is the same folder, or has the same name below the imported folder, or the run's folder no longer has the
  run's files (it was renamed). A folder of another name, while the run's own is still there, is a copy, and a
  new run.

Where several folders could continue a run, the one that holds most of it does, then the same folder, then the
same name. If that leaves several that differ, none continues it: each is a new run, with a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from workbench.runs.imports.report import Report
from workbench.values import storable

_TOOL = "tensorboard"


class Found(NamedTuple):
    """A folder with event files: its name, where it lies, and its files (name and first time) in order."""

    name: str
    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Identity:
    """The run that a folder is.

    Attributes
    ----------
    origin : str
        The origin of its run; unique.
    files : tuple of str
        The files that the run has, with those that are no longer in the folder.
    mixed : str
        The first file, if an earlier version stored the run, which put copies of a folder into one run.
    """

    origin: str
    files: tuple[str, ...]
    mixed: str = ""


@dataclass(frozen=True)
class _Known:
    """A stored run."""

    origin: str
    name: str
    folder: str
    files: tuple[str, ...]
    mixed: bool

    @classmethod
    def of(cls, origin: str, name: str, environment: Any) -> _Known:
        about = environment.get(_TOOL) if isinstance(environment, dict) else None
        about = about if isinstance(about, dict) else {}
        files = about.get("files")
        first = origin.removeprefix(f"{_TOOL}:")
        listed = isinstance(files, list) and bool(files)
        return cls(
            origin,
            name,
            str(about.get("folder", "")),
            tuple(map(str, files)) if listed and isinstance(files, list) else (first,),
            not listed,
        )


class _Pair(NamedTuple):
    """A stored run and a folder that may continue it, by position; the best pair sorts first."""

    rank: tuple[bool, int, bool, bool]
    run: int
    folder: int


def identities(
    found: Sequence[Found], stored: Sequence[tuple[str, str, Any]], report: Report
) -> list[Identity]:
    """Return the run of each folder.

    Parameters
    ----------
    found : sequence of Found
        The folders of one import.
    stored : sequence of (origin, name, environment)
        The runs that earlier imports stored, oldest first.
    report : Report
        Gets a note where it is ambiguous which folder continues a run.
    """
    folders = [Found(_text(one.name), _text(one.folder), tuple(map(_text, one.files))) for one in found]
    runs = [_Known.of(*one) for one in stored]
    continued = _continued(folders, runs, report)
    used = {run.origin for run in runs}
    out = []
    for at, folder in enumerate(folders):
        if (run := continued.get(at)) is not None:
            older = set(folder.files) < set(run.files)
            files = run.files if older else folder.files
            out.append(Identity(run.origin, files, run.files[0] if run.mixed else ""))
            continue
        origin = _new_origin(at, folders, used)
        used.add(origin)
        out.append(Identity(origin, folder.files))
    return out


def _text(text: str) -> str:
    return str(storable(text))


def _continued(folders: Sequence[Found], runs: Sequence[_Known], report: Report) -> dict[int, _Known]:
    """Return the run that each folder continues, by the folder's position."""
    pairs = sorted(_pairs(folders, runs), key=lambda pair: (*(-part for part in pair.rank), *pair[1:]))
    out: dict[int, _Known] = {}
    settled: set[int] = set()
    for pair in pairs:
        if pair.run in settled or pair.folder in out:
            continue
        settled.add(pair.run)
        equal = [
            other.folder
            for other in pairs
            if other.run == pair.run and other.rank == pair.rank and other.folder not in out
        ]
        if len({folders[at].files for at in equal}) > 1:
            names = ", ".join(folders[at].name for at in equal)
            report.note(
                f"run {runs[pair.run].name}: each of the folders {names} may be its continuation, "
                "so they are imported as new runs"
            )
            continue
        out[pair.folder] = runs[pair.run]
    return out


def _pairs(folders: Sequence[Found], runs: Sequence[_Known]) -> list[_Pair]:
    holders: dict[str, list[int]] = {}
    for at, folder in enumerate(folders):
        for file in folder.files:
            holders.setdefault(file, []).append(at)
    out = []
    for number, run in enumerate(runs):
        has = set(run.files)
        for at in sorted({at for file in has for at in holders.get(file, ())}):
            folder, files = folders[at], set(folders[at].files)
            if not (has <= files or files <= has):
                continue
            same_folder, same_name = folder.folder == run.folder, folder.name == run.name
            if same_folder or same_name or not _still_there(run):
                rank = (has <= files, len(has & files), same_folder, same_name)
                out.append(_Pair(rank, number, at))
    return out


def _still_there(run: _Known) -> bool:
    """Return whether a run's folder still holds its files."""
    names = [file.rpartition("@")[0] for file in run.files]
    try:
        return bool(run.folder) and all((Path(run.folder) / name).exists() for name in names)
    except (OSError, ValueError):
        return False


def _new_origin(at: int, folders: Sequence[Found], used: set[str]) -> str:
    """Return an origin for a new run: its first file, or the first that no other folder has."""
    folder = folders[at]
    others = {file for number, other in enumerate(folders) if number != at for file in other.files}
    own = [file for file in folder.files if file not in others]
    for file in (folder.files[0], *own):
        if (origin := f"{_TOOL}:{file}") not in used:
            return origin
    origin, number = f"{_TOOL}:{folder.files[0]} in {folder.folder}", 1
    while origin in used:
        number += 1
        origin = f"{_TOOL}:{folder.files[0]} in {folder.folder} ({number})"
    return origin
