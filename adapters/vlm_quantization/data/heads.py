"""What a picture's file tells without decoding it: its size, its format, and whether it may be usable."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import NamedTuple

from adapters.vlm_quantization.data.decoder import LARGE_TIMES, SUPPORTED
from adapters.vlm_quantization.data.parquet_rows import ParquetPicture
from adapters.vlm_quantization.data.pictures import max_pixels
from adapters.vlm_quantization.data.stored import ArchiveMember, Picture, SvgDrawing
from adapters.vlm_quantization.data.strips import can_shrink_png

#: Number of bytes at the start of a file that are read.
HEAD_BYTES = 4096


class Head(NamedTuple):
    """How a picture's file starts.

    Attributes
    ----------
    size : int
        Size in bytes.
    start : bytes
        Its first :data:`HEAD_BYTES` bytes; fewer of a picture in a table.
    """

    size: int
    start: bytes


def head_of(picture: Picture) -> Head:
    """Return how a picture's file starts.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if isinstance(picture, bytes):
        return Head(len(picture), picture[:HEAD_BYTES])
    if isinstance(picture, ParquetPicture):
        return Head(picture.size, picture.start)
    path = picture if isinstance(picture, Path) else picture.path
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait
    try:
        if isinstance(picture, ArchiveMember):
            return Head(picture.size, os.pread(file, min(picture.size, HEAD_BYTES), picture.offset))
        return Head(os.fstat(file).st_size, os.pread(file, HEAD_BYTES, 0))
    finally:
        os.close(file)


def fault_in_head(picture: Picture) -> str:
    """Return why a picture cannot be usable, by its size and first bytes; empty if it may be."""
    try:
        head = head_of(picture)
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    if not head.size:
        return "an empty file"
    if isinstance(picture, SvgDrawing):
        return "" if b"<" in head.start else "not an SVG drawing"
    if not _is_picture(head.start):
        return f"not a picture; supported formats: {SUPPORTED}"
    width, height = _png_size(head.start)
    most = max_pixels() * (LARGE_TIMES if can_shrink_png(head.start) else 1)
    if width * height > most:
        return (
            f"{width} × {height} is {width * height / 1e6:.0f} million pixels; "
            f"at most {most / 1e6:g} million are allowed"
        )
    return ""


def _is_picture(start: bytes) -> bool:
    return (
        start.startswith(
            (b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        )
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or start[4:8] == b"ftyp"
    )


def _png_size(start: bytes) -> tuple[int, int]:
    """Return the size that a PNG declares; zero for other formats."""
    if len(start) < 24 or not start.startswith(b"\x89PNG"):
        return 0, 0
    width, height = struct.unpack(">II", start[16:24])
    return width, height


def equal_files(pictures: list[Picture]) -> list[list[int]]:
    """Return the groups of pictures whose files are equal, byte by byte, as rows.

    Only files of equal size and start are read whole.
    """
    by_head: dict[tuple[int, bool, bytes], list[int]] = {}
    for row, picture in enumerate(pictures):
        try:
            head = head_of(picture)
        except OSError:
            continue  # reported elsewhere
        in_table = isinstance(picture, ParquetPicture)
        start = picture.content if isinstance(picture, ParquetPicture) else head.start
        key = head.size, in_table, hashlib.blake2b(start, digest_size=16).digest()
        by_head.setdefault(key, []).append(row)
    groups: list[list[int]] = []
    for (size, whole_known, _), rows in by_head.items():
        if len(rows) < 2:
            continue
        if whole_known or size <= HEAD_BYTES:
            groups.append(rows)
            continue
        whole: dict[bytes, list[int]] = {}
        for row in rows:
            try:
                whole.setdefault(_whole(pictures[row]), []).append(row)
            except OSError:
                continue
        groups += [same for same in whole.values() if len(same) > 1]
    return groups


def _whole(picture: Picture) -> bytes:
    """Return a digest of a picture's file."""
    if isinstance(picture, bytes):
        return hashlib.blake2b(picture, digest_size=32).digest()
    path = picture if isinstance(picture, Path) else picture.path
    with path.open("rb") as file:
        if isinstance(picture, ArchiveMember):
            file.seek(picture.offset)
            return hashlib.blake2b(file.read(picture.size), digest_size=32).digest()
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).digest()
