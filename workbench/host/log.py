"""A job's log: timestamped lines, of which a long log leaves out the middle."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

#: Size of a log in bytes up to which every line is logged. After that it has the latest lines now and then,
#: and says how many it leaves out.
FIRST_BYTES = 16 * 2**20


#: Maximum bytes of the last lines that are logged when a long log is closed, and each time before that.
LAST_BYTES, GLIMPSE_BYTES = 2**20, 16 * 2**10


#: Seconds between two looks at the latest lines of a long log, and the same as a part of the time since it
#: became long, so that a log that grows for days stays small.
GLIMPSE_SECONDS, GLIMPSE_SHARE = 1.0, 0.01


#: Maximum characters of a line; a longer line is split, to limit memory.
LINE_CHARACTERS = 64 * 2**10


#: Bytes of a log's end read at once, and at most.
_LOG_BLOCK, _LOG_MOST = 16 * 2**10, 2**20


class LogFile:
    """Appends lines to a log; several processes may append, each in whole lines.

    Of a progress bar that redraws its line only the last state is kept. Of a long log the middle is left out.
    If the log cannot be written (a full disk), lines are lost and their number is logged later: a job never
    fails because of its log.

    Parameters
    ----------
    path : Path
        The file, created if missing.
    whole : str
        Name of the file that has all lines, if there is one.
    """

    def __init__(self, path: Path, whole: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: each line is one write, and a failed write is dropped and counted at once.
        self._file = path.open("ab", buffering=0)
        self._whole = whole
        self._line = ""
        self._lost = 0
        self._cut = False
        self._long_since: float | None = None
        self._glimpsed_at = 0.0
        self._held: deque[str] = deque()
        self._held_bytes = 0
        #: Number of lines that this log leaves out so far, and for how many of them it says so.
        self.left_out = self._reported = 0

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the unfinished last line and close the file."""
        if self._file.closed:
            return
        if self._line:
            self.write("\n")
        self._log_held(LAST_BYTES)
        if self._lost:
            self._put("the log ends here")
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, text: str) -> None:
        """Write text; a line is logged when it is complete."""
        if self._file.closed:
            return
        *lines, self._line = (self._line + text).split("\n")
        # A lone carriage return restarts the line.
        self._line = self._line.rpartition("\r")[2] if not self._line.endswith("\r") else self._line
        if len(self._line) > LINE_CHARACTERS:
            lines, self._line = [*lines, self._line], ""
        for line in lines:
            self._add(line.rstrip("\r").rpartition("\r")[2])

    def catch_up(self) -> None:
        """Log the latest lines, if a look at them is due; for when nothing is written for a while."""
        if self._held and self._is_due():
            self._glimpsed_at = time.monotonic()
            self._log_held(GLIMPSE_BYTES)

    def _add(self, line: str) -> None:
        if self._long_since is None and not self._is_long():
            self._put(line)
            return
        if self._long_since is None:
            self._long_since = time.monotonic()
        line = f"{time.strftime('%H:%M:%S')}  {line}\n"
        self._held.append(line)
        self._held_bytes += len(line)
        self._shorten(LAST_BYTES)
        self.catch_up()

    def _is_long(self) -> bool:
        try:
            return os.fstat(self._file.fileno()).st_size > FIRST_BYTES
        except OSError:
            return False

    def _is_due(self) -> bool:
        now = time.monotonic()
        since = now - (self._long_since or now)
        return now - self._glimpsed_at >= max(GLIMPSE_SECONDS, GLIMPSE_SHARE * since)

    def _shorten(self, most: int) -> None:
        """Leave out the oldest of the held lines."""
        while self._held_bytes > most and len(self._held) > 1:
            self._held_bytes -= len(self._held.popleft())
            self.left_out += 1

    def _log_held(self, most: int) -> None:
        self._shorten(most)
        if count := self.left_out - self._reported:
            where = f"; {self._whole} has them all" if self._whole else ""
            self._put(f"… {count:,} {'line' if count == 1 else 'lines'} left out here{where}")
            self._reported = self.left_out
        for line in self._held:
            self._put_whole(line)
        self._held.clear()
        self._held_bytes = 0

    def _put(self, line: str) -> None:
        self._put_whole(f"{time.strftime('%H:%M:%S')}  {line}\n")

    def _put_whole(self, line: str) -> None:
        try:
            if self._lost:
                some = "1 line is" if self._lost == 1 else f"{self._lost} lines are"
                self._write(f"… {some} missing: the log could not be written\n")
                self._lost = 0
            self._write(line)
        except OSError:
            self._lost += 1

    def _write(self, line: str) -> None:
        data = (b"\n" if self._cut else b"") + line.encode("utf-8", errors="replace")
        written = self._file.write(data) or 0
        self._cut = written < len(data)
        if self._cut:  # the disk had room for only a part
            raise OSError(errno.ENOSPC, "a line was cut")


class LogReader:
    """Reads a log that is still being written.

    Parameters
    ----------
    path : Path
        The file; a missing file is an empty log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """Return its size in bytes."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def tail(self, lines: int) -> str:
        """Return its last lines, from at most its last MiB."""
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
        rows = data.splitlines(keepends=True)
        if at > 0 and len(rows) <= lines:
            rows = rows[1:]  # the first line is partial
        return b"".join(rows[-lines:]).decode("utf-8", errors="replace")

    def after(self, at: int) -> tuple[str, int]:
        """Return its text after ``at`` bytes, and the offset for the next call.

        At most 1 MiB per call; never splits a character.
        """
        if not self._path.is_file():
            return "", at
        with self._path.open("rb") as file:
            file.seek(at)
            data = file.read(_LOG_MOST)
        cut = len(data)
        while cut > max(len(data) - 4, 0) and data[cut - 1] & 0xC0 == 0x80:
            cut -= 1  # continuation bytes of a character
        if cut and data[cut - 1] >= 0xC0:  # its first byte, if continuation bytes are missing
            need = 2 if data[cut - 1] < 0xE0 else 3 if data[cut - 1] < 0xF0 else 4
            cut = cut - 1 if len(data) - cut + 1 < need else len(data)
        else:
            cut = len(data)
        return data[:cut].decode("utf-8", errors="replace"), at + cut

    def follow(self, ended: Callable[[], bool], pause: float) -> Iterator[str]:
        """Yield its lines from the first on, as they are written, until the writer has ended.

        Parameters
        ----------
        ended : callable
            Returns whether the writer has ended. Called before each read, so that no output before the end is
            missed.
        pause : float
            Seconds between two reads.
        """
        at, cut = 0, ""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a read may end inside a character
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
