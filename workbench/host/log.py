"""A job's log: lines with the time in front of each, of a bounded size."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
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


class LogReader:
    """Reads a log that is still being written.

    Parameters
    ----------
    path : Path
        The file; while there is none, the log is empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """Return how many bytes it has."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def tail(self, lines: int) -> str:
        """Return its last lines, reading from its end; at most its last MiB is looked at."""
        if lines < 1 or not self._path.is_file():
            return ""
        with self._path.open("rb") as file:
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

    def after(self, at: int) -> tuple[str, int]:
        """Return what it holds after ``at`` bytes, and how many to skip the next time.

        At most a MiB at once, and never half a character.
        """
        if not self._path.is_file():
            return "", at
        with self._path.open("rb") as file:
            file.seek(at)
            data = file.read(_LOG_MOST)
        cut = len(data)
        while cut > max(len(data) - 4, 0) and data[cut - 1] & 0xC0 == 0x80:
            cut -= 1  # the tail of a character
        if cut and data[cut - 1] >= 0xC0:  # and its head, where the tail is not all there
            need = 2 if data[cut - 1] < 0xE0 else 3 if data[cut - 1] < 0xF0 else 4
            cut = cut - 1 if len(data) - cut + 1 < need else len(data)
        else:
            cut = len(data)
        return data[:cut].decode("utf-8", errors="replace"), at + cut

    def follow(self, ended: Callable[[], bool], pause: float) -> Iterator[str]:
        """Yield its lines as they come, from the first on, until nobody writes it any more.

        Parameters
        ----------
        ended : callable
            Whether the writer has ended. It is called before each look, so that what was printed before the
            end is there then.
        pause : float
            Seconds between two looks.
        """
        at, cut = 0, ""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a look may end inside a letter
        while True:
            over = ended()
            if self._path.is_file():
                with self._path.open("rb") as file:
                    file.seek(at)
                    text = file.read()
                at += len(text)
                *lines, cut = (cut + decode(text)).split("\n")
                yield from lines
            if over:
                if cut:
                    yield cut
                return
            time.sleep(pause)
