"""Decode untrusted pictures apart from this process, so that none of them can stop or crash it.

A few small processes run :mod:`adapters.vlm_quantization.data.decoder`. They are started for the first
picture, kept for the next ones, and replaced where a picture crashes one or exceeds its limits.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data import decoder
from adapters.vlm_quantization.data.decoder import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from PIL.Image import Image


#: Time of the processor that a picture of at most 25 million pixels may take, in seconds; one of that size
#: takes less than two, and one of 100 million that is shrunk in strips about six. Where more pixels are
#: allowed, it may take in proportion.
SECONDS = 15


#: Factor by which a busy machine may stretch that time.
PATIENCE = 6


#: Memory of a decoding process: a base, and bytes per pixel of the largest picture allowed.
MEMORY, MEMORY_PER_PIXEL = 2**30, 40


#: Memory that a process keeps for the next picture, in bytes: new memory is slow to get.
KEPT_BYTES = 2**26


_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the C library ignores more
    "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),
    "PILLOW_BLOCKS_MAX": str(KEPT_BYTES >> 24),  # of 16 MiB each
}


def digest_of_picture(source: bytes | Path, max_pixels: int, raise_with: str) -> str:
    """Return the SHA-256 (hex) of a picture's size and RGB pixels.

    Raises
    ------
    Refused
        As :func:`pixels_of_picture`.
    """
    with _POOL.process() as process:
        answer = process.ask(source, "digest", max_pixels, raise_with)
        return str(answer["digest"])


def pixels_of_picture(source: bytes | Path, max_pixels: int, raise_with: str) -> Image:
    """Return a picture's RGB pixels.

    Raises
    ------
    Refused
        It cannot be read, is not a picture, is broken, or exceeds a limit: of pixels, of bytes, of parts, of
        time or of memory.
    """
    with _POOL.process() as process:
        return _pixels(process, process.ask(source, "pixels", max_pixels, raise_with), max_pixels)


def picture_and_its_digest(source: bytes | Path, max_pixels: int, raise_with: str) -> tuple[Image, str]:
    """Return a picture's RGB pixels and their digest, decoded once.

    Raises
    ------
    Refused
        As :func:`pixels_of_picture`.
    """
    with _POOL.process() as process:
        answer = process.ask(source, "both", max_pixels, raise_with)
        return _pixels(process, answer, max_pixels), str(answer["digest"])


def _pixels(process: _Process, answer: Mapping[str, Any], max_pixels: int) -> Image:
    from PIL import Image

    width, height = answer["size"]
    # A JPEG decoded at a part of its size may have a row and a column more than that part.
    if width < 1 or height < 1 or (width - 1) * (height - 1) > max_pixels:
        raise decoder.Refused("broken picture (its size is not what it said)")
    pixels = process.read(width * height * 3)
    return Image.frombytes("RGB", (width, height), pixels)


class _Process:
    """One decoding process, which answers one request at a time."""

    def __init__(self) -> None:
        self._shared = _shared_file()
        try:
            # -P: this file's folder is not searched for modules. A session of its own: Ctrl-C is not for it.
            self._child = subprocess.Popen(  # noqa: S603  # our own program
                [sys.executable, "-P", decoder.__file__, str(self._shared)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._shared,),
                start_new_session=True,
                bufsize=0,
                env={**os.environ, **_KEEP_MEMORY},
            )
        except BaseException:
            os.close(self._shared)
            raise
        self._buffer = bytearray()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._child.poll() is None

    def ask(self, source: bytes | Path, wanted: str, max_pixels: int, raise_with: str) -> Mapping[str, Any]:
        """Send a request and return the answer."""
        seconds = max(round(SECONDS * max_pixels / 25e6), SECONDS)
        memory = MEMORY + MEMORY_PER_PIXEL * max_pixels
        request = {
            "wanted": wanted,
            "max_pixels": max_pixels,
            "max_bytes": decoder.FILE_BYTES_PER_PIXEL * max_pixels,
            "raise_with": raise_with,
            "seconds": seconds,
            "memory": memory,
        }
        if isinstance(source, Path):
            request["path"] = os.fsencode(source.absolute()).hex()
        else:
            request["bytes"] = len(source)
            self._write(source)
        try:
            answer = self._exchange(json.dumps(request).encode() + b"\n", seconds * PATIENCE)
        except TimeoutError:
            self.end()
            raise decoder.Refused(f"takes more than {seconds * PATIENCE:g} s to decode") from None
        except (OSError, EOFError, ValueError):
            code = self.end()
            if code == -signal.SIGXCPU:
                raise decoder.Refused(f"takes more than {seconds:g} s to decode") from None
            raise decoder.Refused(f"broken picture (it ended its decoder: {_ending(code)})") from None
        if "memory" in answer:
            self.end()
            raise decoder.Refused(f"takes more than {memory / 2**30:.1f} GiB of memory to decode")
        if "refused" in answer:
            words = (str(answer.get(part, "")) for part in ("refused", "hint", "advice"))
            raise decoder.Refused(*words)
        return answer

    def _exchange(self, request: bytes, seconds: float) -> Mapping[str, Any]:
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None  # noqa: S101  # for the type checker: both are pipes
        assert stdout is not None  # noqa: S101
        stdin.write(request)
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1e3):
                raise TimeoutError
            part = os.read(stdout.fileno(), 65_536)
            if not part:
                raise EOFError
            line += part
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _write(self, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._shared, memoryview(data)[done:], done)

    def read(self, size: int) -> memoryview:
        """Return the first bytes of the shared file; valid until the next picture."""
        # Read, not mapped: a file that its other owner shortens would end this process.
        if size > KEPT_BYTES:
            pixels = memoryview(os.pread(self._shared, size, 0))
            size_read = len(pixels)
        else:
            if len(self._buffer) < size:
                self._buffer = bytearray(size)
            pixels = memoryview(self._buffer)[:size]
            size_read = os.preadv(self._shared, [pixels], 0)
        if size_read != size:
            raise decoder.Refused("broken picture (pixels are missing)")
        return pixels

    def tidy(self) -> None:
        """Give back the memory of a large picture."""
        if os.fstat(self._shared).st_size > KEPT_BYTES:
            os.ftruncate(self._shared, 0)

    def end(self) -> int:
        """End it, and return its exit code: negative for a signal."""
        if self._shared < 0:
            return self._child.returncode
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be ending by itself
            self._child.wait(0.2 if self._child.stdin is not None and self._child.stdin.closed else 0.02)
        self._child.kill()
        code = self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        os.close(self._shared)
        self._shared = -1
        return code


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _shared_file() -> int:
    """Return a file without a name, in memory if the system supports it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("picture")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Pool:
    """Decoding processes, each lent to one thread at a time."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._idle: list[_Process] = []

    @contextlib.contextmanager
    def process(self) -> Iterator[_Process]:
        """Lend a process; wait for one if all are in use."""
        with self._room:
            process = self._taken()
            try:
                yield process
            except decoder.Refused:
                self._give_back(process)
                raise
            except BaseException:  # interrupted: an answer may still come
                process.end()
                raise
            self._give_back(process)

    def _taken(self) -> _Process:
        with contextlib.suppress(IndexError):
            while True:
                process = self._idle.pop()
                if process.alive:
                    return process
                process.end()
        try:
            return _Process()
        except OSError as error:
            raise wb.Busy(f"the picture decoder could not be started ({error})", retry_after=5) from None

    def _give_back(self, process: _Process) -> None:
        if process.alive:
            process.tidy()
            self._idle.append(process)
        else:
            process.end()

    def end(self) -> None:
        """End all processes that are not in use."""
        while self._idle:
            self._idle.pop().end()


_POOL = _Pool()


def _start_afresh() -> None:
    """Forget the parent's processes after a fork: two processes cannot share a pipe."""
    global _POOL  # one pool per process
    _POOL = _Pool()


atexit.register(lambda: _POOL.end())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
