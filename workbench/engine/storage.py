"""Where tasks keep their files: paths that all workers see, and URLs of file systems that fsspec knows.

On a path a file is written beside its place and renamed, so that it is there whole or not at all. Other file
systems may have no rename, so a file there counts only together with its seal, ``NAME.sha256``, which is
written after it and holds its size and SHA-256.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from workbench.errors import BadInput, CorruptFile, MissingExtra, WrongState
from workbench.host.files import move_whole

_T = TypeVar("_T")

#: What the name of a seal ends with.
SEAL = ".sha256"

#: Pauses before a transfer that failed is tried again, in seconds.
PAUSES = (0.1, 0.4, 1.6)

#: Errors of a system that the next try will not change.
_LASTING = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
    | {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
)

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_CHUNK = 2**20


def passes(error: OSError) -> bool:
    """Return whether trying again may help."""
    return error.errno not in _LASTING


def local_path(place: str) -> Path | None:
    """Return the path of a place on a (shared) disk; None of a URL elsewhere."""
    if not _URL.match(place):
        return Path(place)
    scheme, _, rest = place.partition("://")
    return Path(rest) if scheme.lower() in ("file", "local") else None


def check_storage(folder: str) -> None:
    """Refuse a folder that cannot hold results.

    Raises
    ------
    workbench.BadInput
        No file system has that scheme, its package is missing, or the path is relative: workers would look
        for it elsewhere.
    workbench.MissingExtra
        It is a URL, and fsspec is not installed.
    """
    path = local_path(folder)
    if path is None:
        _opened(folder)
    elif not path.is_absolute():
        raise BadInput(
            f"storage {folder!r} is a relative path, which workers may read from another folder",
            hint="Give an absolute path that all workers see, or a URL such as s3://bucket/folder.",
        )


def holds(place: str) -> bool:
    """Return whether a file is there, whole."""
    path = local_path(place)
    if path is not None:
        return path.is_file()
    files, inner = _opened(place)
    sealed = _seal_of(files, inner)
    if sealed is None:
        return False
    try:
        return bool(files.size(inner) == sealed[0])
    except FileNotFoundError:
        return False


def put(place: str, write: Callable[[Path], None], *, again: bool = True) -> None:
    """Let ``write(path)`` make a file, and keep it at its place, whole or not at all.

    Parameters
    ----------
    place : str
        A path or URL.
    write : callable
        Writes a file at the path that it is given.
    again : bool
        Whether a file that has appeared there meanwhile is replaced.

    Raises
    ------
    workbench.WrongState
        ``write`` made no file.
    OSError
        The disk or the network failed; a transfer is tried four times.
    """
    path = local_path(place)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}{_PART}")
        try:
            _write(write, beside)
            if again or not path.is_file():
                move_whole(beside, path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
        return
    files, inner = _opened(place)
    with tempfile.TemporaryDirectory(prefix="workbench-task-") as folder:
        beside = Path(folder, "result")
        _write(write, beside)
        if not again and holds(place):
            return
        seal = f"{beside.stat().st_size} {_digest(beside)}\n".encode()
        with suppress(OSError, NotImplementedError):  # many have no folders
            files.makedirs(files._parent(inner), exist_ok=True)
        _patiently(lambda: files.put_file(str(beside), inner))
        _patiently(lambda: files.pipe_file(inner + SEAL, seal))


def fetch_result(place: str, target: Path) -> None:
    """Copy a file from its place to a path, whole or not at all.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    workbench.CorruptFile
        It is not what was written; it is deleted, so that its task runs again.
    """
    path = local_path(place)
    if path is not None:
        if path != target:
            put(str(target), lambda beside: _copied(path, beside))
        return
    files, inner = _opened(place)
    sealed = _seal_of(files, inner)
    if sealed is None:
        raise FileNotFoundError(errno.ENOENT, "not there, or not whole", place)

    def download(beside: Path) -> None:
        _patiently(lambda: files.get_file(inner, str(beside)))
        if (beside.stat().st_size, _digest(beside)) != sealed:
            delete_result(place)
            raise CorruptFile(place, "is not what was written", hint="Run the job again to replace it.")

    put(str(target), download)


def delete_result(place: str) -> None:
    """Delete a file and its seal; what is not there needs no deleting."""
    path = local_path(place)
    if path is not None:
        path.unlink(missing_ok=True)
        return
    files, inner = _opened(place)
    for one in (inner + SEAL, inner):  # the seal first: without it nothing counts
        with suppress(FileNotFoundError):
            files.rm_file(one)


def clear_parts(folder: Path) -> None:
    """Delete what killed workers have left half written in a folder; call it when none is at work."""
    for left in folder.glob(f".*{_PART}*"):
        with suppress(OSError):
            left.unlink(missing_ok=True)


_PART = ".taskpart"


def _write(write: Callable[[Path], None], beside: Path) -> None:
    write(beside)
    if not beside.is_file():
        raise WrongState("the task wrote no file")


def _copied(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _opened(place: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtra("fsspec", "dask") from None
    try:
        files, inner = fsspec.core.url_to_fs(place)
    except (ValueError, ImportError) as error:
        scheme = place.partition("://")[0]
        raise BadInput(
            f"no file system {scheme + '://'!r} can be used: {error}",
            hint="Use a path, s3:// with the package s3fs, gs:// with gcsfs, or another that fsspec knows.",
        ) from None
    return files, str(inner)


def _seal_of(files: Any, inner: str) -> tuple[int, str] | None:
    """Return the size and the SHA-256 of a file that was written to its end; None if none was."""
    files.invalidate_cache()
    try:
        size, _, digest = files.cat_file(inner + SEAL).decode("ascii", "replace").strip().partition(" ")
    except FileNotFoundError:
        return None
    return (int(size), digest) if size.isdigit() and len(digest) == 64 else None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _patiently(call: Callable[[], _T]) -> _T:
    for pause in PAUSES:
        try:
            return call()
        except OSError as error:
            if not passes(error):
                raise
        time.sleep(pause)
    return call()


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
