"""Files that appear whole or not at all, and files that are reached by a name from outside.

Whoever reaches into a folder by :func:`open_file` or :func:`delete_file` goes down from a trusted folder one
name at a time, never through a link, and then acts on the folder it holds open rather than on a path that may
mean something else a moment later.
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

#: Whether this system can act on a name inside a folder that is held open; where it cannot (Windows), the
#: same checks are made on paths, and a swap between check and act is not noticed.
_BY_FOLDER = {os.open, os.unlink, os.rename, os.stat} <= os.supports_dir_fd


_ASIDE = ".deleted-"


#: So many bytes of a stream are held at once.
_STREAM_BYTES = 2**20


_FILE_NAME = re.compile(r"[^\W_][\w.+=@ -]{0,199}")


_WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is, at every moment, the old file or the whole new one."""
    with _beside(target) as beside:
        shutil.copyfile(source, beside)


def move_whole(source: Path, target: Path) -> None:
    """Move a file of the same disk so that ``target`` is, at every moment, the old file or the new one."""
    with source.open("rb+") as file:
        os.fsync(file.fileno())
    source.replace(target)
    _keep_names(target.parent)


def copy_stream(source: BinaryIO, target: Path) -> None:
    """Write what a stream gives so that ``target`` is, at every moment, the old file or the whole new one."""
    with _beside(target) as beside, beside.open("wb") as file:
        shutil.copyfileobj(source, file, _STREAM_BYTES)


def write_whole(target: Path, data: bytes, *, crash_at: str = "") -> None:
    """Write a file so that ``target`` is, at every moment, the old file (or none) or the whole new one.

    Parameters
    ----------
    target : Path
        The file, in a folder that exists.
    data : bytes
        All of it.
    crash_at : str
        Name of a crash point between the written file and its new name, for tests.
    """
    with _beside(target, crash_at) as beside:
        beside.write_bytes(data)


@contextmanager
def _beside(target: Path, crash_at: str = "") -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; what is there then takes its place, durably."""
    beside = target.with_name(f".{target.name[:100]}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        if crash_at:
            crash_point(crash_at)
        beside.replace(target)
    except BaseException:
        # Never a second fsync of the same file: after one that failed nobody knows what is on the disk.
        beside.unlink(missing_ok=True)
        raise
    _keep_names(target.parent)


def _keep_names(path: Path) -> None:
    """Have what stands in a folder survive a power cut."""
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
        A folder that is trusted, links in its own path included.
    *names : str
        Plain names: the folders below it, one each, and last the file.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    WrongState
        On the way is a link, or at its end something that is no regular file.
    """
    if not _BY_FOLDER:
        return _checked(root, names).open("rb")
    with _folder(root, names[:-1]) as folder:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not keep us waiting
        try:
            number = os.open(names[-1], flags, dir_fd=folder)
        except OSError as error:
            raise _as_said(error, names) from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _no_file(names)
    return os.fdopen(number, "rb")


def delete_file(root: Path, *names: str) -> None:
    """Delete one regular file below a folder, and nothing else whatever happens meanwhile.

    The file is first given a name that nobody knows, then looked at, then deleted: whatever is put in its
    place between check and deletion is put back, not deleted. Parameters and errors are those of
    :func:`open_file`.
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


@contextmanager
def _folder(root: Path, names: tuple[str, ...]) -> Iterator[int]:
    """Hold a folder below ``root`` open, reached without following a link."""
    number = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                below = os.open(name, flags, dir_fd=number)
            except OSError as error:
                raise _as_said(error, names) from None
            os.close(number)
            number = below
        yield number
    finally:
        os.close(number)


def _check_regular(name: str, folder: int, names: tuple[str, ...]) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise _no_file(names)


def _sweep(folder: int) -> None:
    """Delete what a deletion that was killed half way has set aside."""
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


def _as_said(error: OSError, names: tuple[str, ...]) -> Exception:
    return error if isinstance(error, FileNotFoundError) else _no_file(names)


def _no_file(names: tuple[str, ...]) -> WrongState:
    return WrongState(
        f"{'/'.join(names)} is no regular file in a folder of its own: it is left alone",
        hint="A link, a folder or a device stands there; whoever put it there must take it away.",
    )


def check_file_name(name: str, what: str = "name") -> str:
    """Return a name from outside if it can only ever mean one file inside one folder.

    Parameters
    ----------
    name : str
        A letter or digit first, then letters, digits, spaces and ``. _ + = @ -``; at most 200 characters
        and 255 bytes of UTF-8.
    what : str
        What the name is of, for the message.

    Raises
    ------
    BadName
        Anything else: a path, a parent folder, a hidden file, a control character, a name that ends in a
        dot or a space.
    """
    fits = isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None
    if not fits or name[-1] in ". " or _WINDOWS_DEVICE.fullmatch(name) or len(name.encode()) > 255:
        raise BadName(
            f"{what} {name!r} is not a plain file name",
            hint="Use letters, digits, spaces and . _ + = @ - only, beginning with a letter or a digit.",
        )
    return name
