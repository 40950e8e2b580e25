"""The disk space that a build needs: checked before it starts, and given back if it runs out."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import workbench as wb
from adapters.vlm_quantization.index.features import FeatureKind, row_bytes

#: Bytes of a thumbnail and of an item's description, at the least: no build that fits may be refused.
_THUMBNAIL_BYTES, _ITEM_BYTES = 400, 60

#: Below this many free bytes, finished parts are deleted: the failure itself must be recorded somewhere.
_LEAST_FREE = 32 * 2**20

_FULL = (errno.ENOSPC, errno.EDQUOT)


def least_bytes(
    sides: Mapping[str, Sequence[Any]],
    dim: int,
    bits: int,
    model_file: Path | None,
    features: FeatureKind = "float32",
) -> int:
    """Return the bytes that a build takes at the least, while its parts are merged.

    The parts and the files merged from them are on the disk at the same time.

    Parameters
    ----------
    sides : mapping
        The entries of ``images`` and ``captions``.
    dim : int
        Width of the features.
    bits : int
        Length of the stored code.
    model_file : Path or None
        The checkpoint that is copied into the index.
    features : {"float32", "float16", "int8", "none"}
        How the index stores features; the parts have float32.
    """
    images, captions = len(sides["images"]), len(sides["captions"])
    both = bits // 8 * 2 + 4 * dim + row_bytes(features, dim)
    model = 0 if model_file is None else model_file.stat().st_size
    return (images + captions) * (both + _ITEM_BYTES) + 2 * images * _THUMBNAIL_BYTES + model


def check_space(work: Path, needed: int) -> None:
    """Raise if an index cannot fit on the disk.

    Parameters
    ----------
    work : Path
        The folder of the build, whose finished parts are counted as done.
    needed : int
        See :func:`least_bytes`.

    Raises
    ------
    workbench.WrongState
        Too little space is free.
    """
    done = _size(work)
    free = shutil.disk_usage(work.parent).free
    if needed - done > free:
        raise wb.WrongState(
            f"the index needs at least {_megabytes(needed - done)} more on its disk, "
            f"and {_megabytes(free)} are free",
            hint=f"Free some space on the disk of {work.parent}, or index fewer pictures.",
        )


@contextmanager
def gives_space_back(work: Path) -> Iterator[None]:
    """Delete the finished parts of a build that the disk has no room for, and say so.

    They are kept if a build fails for another reason, so that the next one resumes. Here they may be what
    fills the disk, and then not even the failure could be written.

    Raises
    ------
    workbench.WrongState
        The disk is full.
    """
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(work.parent).free
        if error.errno not in _FULL and free > 2**20:
            raise
        size = _size(work)
        if free > _LEAST_FREE:
            kept = "The finished parts are kept; the next build resumes."
        else:
            for folder in ("shards", "index"):
                shutil.rmtree(work / folder, ignore_errors=True)
            kept = f"The finished parts ({_megabytes(size)}) were deleted, to free the disk."
        raise wb.WrongState(
            f"the disk is full: the index is not finished ({_megabytes(size)} were written)",
            hint=f"{kept} Free more space than that on the disk of {work.parent}, and build it again.",
        ) from error


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
