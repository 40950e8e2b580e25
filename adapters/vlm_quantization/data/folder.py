"""A folder of pictures, with those in its subfolders.

It needs no captions. On request they come from the pictures' file names (``captions_from=name``) or from a
text file beside each picture, one caption per line (``captions_from=sidecar``). Pictures in a subfolder named
after a split, such as ``train`` or ``val``, belong to that split; ``labels_from=folder`` makes the name of
the folder that holds a picture its label.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.jsonl import as_line, read_lines
from adapters.vlm_quantization.data.loader import Loader, Opening
from adapters.vlm_quantization.data.split_names import split_name

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


#: Endings of the pictures that are read; what a file holds is found by its first bytes.
PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".heic", ".heif"}
)


#: A side-car text of more bytes than this is not read.
MAX_SIDECAR_BYTES = 1_000_000


#: Names of files in a folder that are a collection with captions themselves, for a note.
_LISTINGS = frozenset({".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"})


def picture_files(folder: Path) -> Iterator[Path]:
    """Yield the pictures under a folder by name; hidden files, and folders that are links, are left out.

    Raises
    ------
    BadInput
        The folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise wb.BadInput(f"{error.filename} cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in PICTURE_ENDINGS and not name.startswith("."):  # noqa: PTH122
                yield Path(place, name)


def split_of_folder(name: str) -> str:
    """Return the split that a folder is named after; empty if it is no split's name.

    ``train2017`` and ``val_images`` are those of train and val.
    """
    first = re.split(r"[\d_\-. ]", name.casefold(), maxsplit=1)[0]
    try:
        return split_name(first)
    except wb.BadInput:
        return ""


def read_folder(folder: Path, opening: Opening) -> CaptionedImages:
    """Read a folder of pictures.

    Raises
    ------
    BadInput
        It holds no usable picture, or an option has an unknown value.
    """
    captions_from = opening.choice("captions_from", ("none", "name", "sidecar"))
    labels_from = opening.choice("labels_from", ("none", "folder"))
    collection = read_lines(
        folder / folder.name,
        (
            (number, as_line(_row(folder, path, captions_from, labels_from)))
            for number, path in enumerate(picture_files(folder), 1)
        ),
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
        hint="Pictures end in " + ", ".join(sorted(PICTURE_ENDINGS)) + ".",
    )
    if listing := listing_in(folder):
        collection.notes.append(
            f"The folder also holds {listing.name}, which was not read. To use its captions: {listing}"
        )
    return collection


def _row(folder: Path, path: Path, captions_from: str, labels_from: str) -> dict[str, Any]:
    inside = path.relative_to(folder)
    row: dict[str, Any] = {"image": inside.as_posix()}
    if len(inside.parts) > 1:
        row["split"] = split_of_folder(inside.parts[0])
        if labels_from == "folder":
            row["labels"] = [inside.parts[-2]]
    if captions_from == "name":
        row["captions"] = caption_of_name(path.stem)
    elif captions_from == "sidecar":
        row["captions"] = [line for line in sidecar_text(path).splitlines() if line.strip()]
    return row


def caption_of_name(stem: str) -> str:
    """Return a file's name as words: ``red_kite-02`` is "red kite"."""
    words = re.sub(r"[_\-.\s]+", " ", stem).strip()
    return re.sub(r"(?: \(?\d+\)?)+$", "", words)


def sidecar_text(picture: Path) -> str:
    """Return the text beside a picture (``a.txt`` or ``a.jpg.txt`` for ``a.jpg``); empty if there is none."""
    for path in (picture.with_suffix(".txt"), picture.with_name(f"{picture.name}.txt")):
        try:
            if path.is_file() and path.stat().st_size <= MAX_SIDECAR_BYTES:
                return path.read_bytes().decode("utf-8-sig", "replace")
        except OSError:
            continue
    return ""


def listing_in(folder: Path) -> Path | None:
    """Return a file of a folder that is a collection with captions itself, such as a JSONL file."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _LISTINGS)
    return files[0] if files else None


FOLDER = Loader(
    form="folder",
    about="a folder of pictures (captions are optional)",
    recognises=lambda path: path.is_dir(),
    read=read_folder,
    options={
        "captions_from": "none (default), name (the file's name), or sidecar (a .txt beside each picture)",
        "labels_from": "none (default), or folder (the name of the folder that holds the picture)",
    },
)
