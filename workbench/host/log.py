"""A job's log: lines with the time in front of each, of a bounded size."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

#: A log ends here, with a word about it, in bytes; the executed notebook keeps what its cells printed.
LOG_BYTES = 32 * 2**20


#: A line without an end is cut here, in characters, so that it takes no more memory than this.
LINE_CHARACTERS = 64 * 2**10


#: How much of a log's end is read at once, and how much of it at most, in bytes.
_LOG_BLOCK, _LOG_MOST = 16 * 2**10, 2**20


class LogFile:
    """Writes lines at the end of a log; several processes may, each whole lines.

    A progress bar that redraws its line leaves its last state only. A log that cannot be written (a full
    disk) loses lines and says so when it can: a job never fails for its log.

    Parameters
    ----------
    path : Path
        The file, made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer: what was refused is given up at once and counted, and each line is one write.
        self._file = path.open("ab", buffering=0)
        self._line = ""
        self._full = False
        self._lost = 0
        self._cut = False

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what has no line's end yet, and close the file."""
        if self._file.closed:
            return
        if self._line:
            self.write("\n")
        if self._lost:
            self._put("the log ends here")
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, text: str) -> None:
        """Write text as it comes; a line is kept when it is whole."""
        if self._file.closed:
            return
        *lines, self._line = (self._line + text).split("\n")
        # A lone carriage return starts the line again.
        self._line = self._line.rpartition("\r")[2] if not self._line.endswith("\r") else self._line
        if len(self._line) > LINE_CHARACTERS:
            lines, self._line = [*lines, self._line], ""
        for line in lines:
            self._put(line.rstrip("\r").rpartition("\r")[2])

    def _put(self, line: str) -> None:
        if self._full:
            return
        try:
            if os.fstat(self._file.fileno()).st_size > LOG_BYTES:
                self._full = True
                line = f"… the log ends here, at {LOG_BYTES // 2**20} MiB; the notebook has the rest"
            if self._lost:
                some = "1 line is" if self._lost == 1 else f"{self._lost} lines are"
                self._write(f"… {some} missing: the log could not be written\n")
                self._lost = 0
            self._write(f"{time.strftime('%H:%M:%S')}  {line}\n")
        except OSError:
            self._lost += 1

    def _write(self, line: str) -> None:
        data = (b"\n" if self._cut else b"") + line.encode("utf-8", errors="replace")
        written = self._file.write(data) or 0
        self._cut = written < len(data)
        if self._cut:  # there was room for a part of it
            raise OSError(errno.ENOSPC, "a line was cut")


def _tail(path: Path, lines: int) -> str:
    """Return a text file's last lines, reading from its end."""
    if lines < 1 or not path.is_file():
        return ""
    with path.open("rb") as file:
        at = end = file.seek(0, os.SEEK_END)
        data = b""
        while at > 0 and data.count(b"\n") <= lines and end - at < _LOG_MOST:
            size = min(_LOG_BLOCK, at)
            at -= size
            file.seek(at)
            data = file.read(size) + data
    found = data.splitlines(keepends=True)
    if at > 0 and len(found) <= lines:
        found = found[1:]  # the first one was cut
    return b"".join(found[-lines:]).decode("utf-8", errors="replace")
