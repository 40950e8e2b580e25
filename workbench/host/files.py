"""Atomic file writes, and safe access to files by untrusted names.

:func:`open_file` and :func:`delete_file` descend from a trusted folder one name at a time, never follow a
link, and act on the open folder rather than on a path that may change meanwhile.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from workbench.errors import BadName, WrongState
from workbench.host.processes import crash_point

#: Whether this system supports file operations relative to an open folder. Without it (Windows) the same
#: checks are made on paths, and a swap between check and operation is not detected.
_BY_FOLDER = {os.open, os.unlink, os.rename, os.stat} <= os.supports_dir_fd


_ASIDE = ".deleted-"


#: Number of bytes of a stream read at once.
_STREAM_BYTES = 2**20


_FILE_NAME = re.compile(r"[^\W_][\w.+=@ -]{0,199}")


_WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file atomically: ``target`` is always the old file or the complete new one."""
    with _beside(target) as beside:
        shutil.copyfile(source, beside)


def move_whole(source: Path, target: Path) -> None:
    """Move a file on the same disk atomically: ``target`` is always the old file or the new one."""
    with source.open("rb+") as file:
        os.fsync(file.fileno())
    source.replace(target)
    _keep_names(target.parent)


def copy_stream(source: BinaryIO, target: Path) -> None:
    """Write a stream to a file atomically: ``target`` is always the old file or the complete new one."""
    with _beside(target) as beside, beside.open("wb") as file:
        shutil.copyfileobj(source, file, _STREAM_BYTES)


def write_whole(target: Path, data: bytes, *, crash_at: str = "") -> None:
    """Write a file atomically: ``target`` is always the old file (or missing) or the complete new one.

    Parameters
    ----------
    target : Path
        The file, in a folder that exists.
    data : bytes
        The file's content.
    crash_at : str
        Name of a crash point between writing and renaming, for tests.
    """
    with _beside(target, crash_at) as beside:
        beside.write_bytes(data)


@contextmanager
def _beside(target: Path, crash_at: str = "") -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success its file durably replaces ``target``."""
    beside = target.with_name(f".{target.name[:100]}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        if crash_at:
            crash_point(crash_at)
        beside.replace(target)
    except BaseException:
        # Never fsync the same file twice: after a failed fsync the state on disk is unknown.
        beside.unlink(missing_ok=True)
        raise
    _keep_names(target.parent)


def _keep_names(path: Path) -> None:
    """Sync a folder, so that its entries survive a power cut."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def open_file(root: Path, *names: str) -> BinaryIO:
    """Open a regular file below a folder for reading.

    Parameters
    ----------
    root : Path
        A trusted folder; its own path may contain links.
    *names : str
        Plain names: the folders below it, then the file.

    Raises
    ------
    FileNotFoundError
        The file or a folder is missing.
    WrongState
        A folder is a link, or the file is not a regular file.
    """
    if not _BY_FOLDER:
        return _checked(root, names).open("rb")
    with _folder(root, names[:-1]) as folder:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # do not block on a pipe
        try:
            number = os.open(names[-1], flags, dir_fd=folder)
        except OSError as error:
            raise _as_refused(error, names) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _no_file(names)
    return os.fdopen(number, "rb")


def delete_file(root: Path, *names: str) -> None:
    """Delete exactly one regular file below a folder, even if it is replaced meanwhile.

    The file is first renamed to a random name, then checked, then deleted. If it is no longer a regular file,
    it is renamed back. Parameters and errors are those of :func:`open_file`.
    """
    if not _BY_FOLDER:
        _checked(root, names).unlink()
        return
    name = names[-1]
    with _folder(root, names[:-1]) as folder:
        _check_regular(name, folder, names)
        aside = f"{_ASIDE}{secrets.token_hex(8)}"
        os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
        try:
            _check_regular(aside, folder, names)
        except WrongState:
            os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
            raise
        os.unlink(aside, dir_fd=folder)  # a path cannot be relative to an open folder
        _sweep(folder)
        os.fsync(folder)


def delete_folder(root: Path, name: str) -> int:
    """Delete a folder with everything in it, and return the bytes of its files; 0 if there is none.

    It gets another name first, so that it is gone at once or not at all. A link is deleted, and not followed.

    Parameters
    ----------
    root : Path
        The trusted folder that holds it.
    name : str
        Its name, which the caller has checked.

    Raises
    ------
    WrongState
        It cannot be deleted.
    """
    path, aside = root / name, root / f"{_ASIDE}{secrets.token_hex(8)}"
    try:
        if path.is_symlink():
            path.unlink()
            return 0
        if not path.is_dir():
            return 0
        path.rename(aside)
        sizes = (one.lstat().st_size for one in aside.rglob("*") if not one.is_dir() and not one.is_symlink())
        total = sum(sizes)
        shutil.rmtree(aside)
    except OSError as error:
        raise WrongState(
            f"{path} could not be deleted completely: {error.strerror or error}",
            hint="Delete what is left of the folder by hand.",
        ) from None
    return total


@contextmanager
def _folder(root: Path, names: tuple[str, ...]) -> Iterator[int]:
    """Open a folder below ``root`` without following links."""
    number = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                below = os.open(name, flags, dir_fd=number)
            except OSError as error:
                raise _as_refused(error, names) from None
            os.close(number)
            number = below
        yield number
    finally:
        os.close(number)


def _check_regular(name: str, folder: int, names: tuple[str, ...]) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise _no_file(names)


def _sweep(folder: int) -> None:
    """Delete files left behind by interrupted deletions."""
    for name in os.listdir(folder):
        if name.startswith(_ASIDE):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)


def _checked(root: Path, names: tuple[str, ...]) -> Path:
    path = root
    for name in names:
        path /= name
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) if name is names[-1] else stat.S_ISDIR(kind)):
            raise _no_file(names)
    return path


def _as_refused(error: OSError, names: tuple[str, ...]) -> Exception:
    return error if isinstance(error, FileNotFoundError) else _no_file(names)


def _no_file(names: tuple[str, ...]) -> WrongState:
    return WrongState(
        f"{'/'.join(names)} is not a regular file, or its folder is a link; left unchanged",
        hint="A link, a folder or a device must be removed by hand.",
    )


def check_file_name(name: str, what: str = "name") -> str:
    """Return an untrusted name if it is a plain file name, which cannot leave its folder.

    Parameters
    ----------
    name : str
        A letter or digit, then letters, digits, spaces and ``. _ + = @ -``; at most 200 characters
        and 255 bytes of UTF-8.
    what : str
        What the name refers to, for the message.

    Raises
    ------
    BadName
        Any other name: a path, a parent folder, a hidden file, a control character, a trailing dot or
        space.
    """
    fits = isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None
    if not fits or name[-1] in ". " or _WINDOWS_DEVICE.fullmatch(name) or len(name.encode()) > 255:
        raise BadName(
            f"{what} {name!r} is not a plain file name",
            hint="Use only letters, digits, spaces and . _ + = @ -, starting with a letter or a digit.",
        )
    return name
