"""Hugging Face's ``imagefolder``: pictures with ``metadata.jsonl``, ``metadata.csv`` or ``metadata.parquet``.

The metadata is at the top, or in one subfolder per split. Each of its rows names a picture relative to the
metadata's folder as ``file_name``; the other columns are found as in
:mod:`adapters.vlm_quantization.data.tabular`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.data.folder import split_of_folder
from adapters.vlm_quantization.data.jsonl import as_line, numbered_lines, read_lines
from adapters.vlm_quantization.data.loader import Loader, Opening
from adapters.vlm_quantization.data.tabular import TABLE, Columns, table_rows

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def metadata_files(folder: Path) -> list[Path]:
    """Return the metadata at the top of a folder, or in its subfolders."""
    try:
        for places in ([folder], sorted(path for path in folder.iterdir() if path.is_dir())):
            if files := [path for place in places for name in _NAMES if (path := place / name).is_file()]:
                return files
    except OSError:
        pass  # the loader of folders says why
    return []


def read_imagefolder(folder: Path, opening: Opening) -> CaptionedImages:
    """Read an ``imagefolder``.

    Raises
    ------
    BadInput
        A column is missing, or no row is valid.
    """
    files = metadata_files(folder)
    collection = read_lines(
        folder / folder.name,
        _rows(folder, files, opening.options),
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
        hint="Each row of the metadata names a picture as file_name, relative to its folder.",
    )
    if len(files) > 1 and collection.problems:
        names = ", then ".join(path.relative_to(folder).as_posix() for path in files)
        collection.notes.append(f"Line numbers go on from file to file: {names}.")
    return collection


def _rows(folder: Path, files: list[Path], options: Mapping[str, str]) -> Iterator[tuple[int, bytes]]:
    before = last = 0
    for path in files:
        place = path.parent.relative_to(folder).as_posix()
        inside = "" if place == "." else f"{place}/"
        split = split_of_folder(place) if inside else ""
        for number, line in (
            _jsonl(path, options, inside, split)
            if path.suffix == ".jsonl"
            else _table(path, options, inside, split)
        ):
            last = before + number
            yield last, line
        before = last


def _table(path: Path, options: Mapping[str, str], inside: str, split: str) -> Iterator[tuple[int, bytes]]:
    names, rows = table_rows(path)
    columns = Columns(names, options, path)
    for number, row in rows:
        yield number, as_line(columns.line_of(row, inside, split))


def _jsonl(path: Path, options: Mapping[str, str], inside: str, split: str) -> Iterator[tuple[int, bytes]]:
    for number, line in numbered_lines(path):
        row: Any = None
        with suppress(ValueError, RecursionError):  # the line itself is read next, and reported
            row = json.loads(line)
        if isinstance(row, dict):
            columns = Columns(list(row), {k: v for k, v in options.items() if v in row}, path)
            line = as_line(columns.line_of(row, inside, split))
        yield number, line


IMAGEFOLDER = Loader(
    form="imagefolder",
    about="a folder with Hugging Face's metadata.jsonl, .csv or .parquet",
    recognises=lambda path: path.is_dir() and bool(metadata_files(path)),
    read=read_imagefolder,
    options={name: about for name, about in TABLE.options.items() if name != "images"},
)
