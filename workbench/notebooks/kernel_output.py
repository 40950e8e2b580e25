"""Inside a job's kernel: output streams that lose nothing, and a numbered, lossless message channel.

A Jupyter kernel publishes its output on a ZeroMQ socket that drops messages when the reader is slow. A job
must keep every line, so the kernel waits for the reader instead: messages are never dropped, and ``print``
blocks once a bounded amount of text waits to be read. Each message carries a number, so that the reader
(:mod:`workbench.notebooks.client`) notices if one is missing after all.

The kernel loads :class:`Stream` by its setting ``IPKernelApp.outstream_class``; nothing else of ipykernel is
changed. This module is imported in kernels only.
"""

from __future__ import annotations

import codecs
import os
import sys
from typing import Any

import zmq
from ipykernel.iostream import OutStream

from workbench.notebooks.output import NUMBER_PREFIX

#: Maximum characters of one message, and of the text that waits to be sent, per stream.
WAITING_CHARACTERS = 2**16

#: Bytes read at once from a redirected file descriptor.
_READ_BYTES = 2**16


class NumberedSocket:
    """The socket that the kernel's messages are sent on: it waits for a slow reader, and counts.

    Parameters
    ----------
    socket : zmq.Socket
        A PUB or XPUB socket.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        socket.setsockopt(zmq.XPUB_NODROP, 1)  # a full queue blocks; by default the message is dropped
        self._socket = socket
        self._sent = 0

    def send_multipart(self, parts: list[Any], *arguments: Any, **keywords: Any) -> Any:
        """Send a message with its number in front; clients ignore frames before the delimiter."""
        self._sent += 1
        return self._socket.send_multipart(
            [NUMBER_PREFIX + str(self._sent).encode(), *parts], *arguments, **keywords
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


class Stream(OutStream):
    """Standard output or standard error of a kernel, without loss.

    It differs from ipykernel's stream in what happens when text arrives faster than it is read (``print``
    waits), and in what child processes print: a subprocess's output is not written to the process's own
    standard output as well, characters are not split between messages, and forked children write to the same
    pipe as subprocesses do, which cannot lose text.
    """

    flush_timeout = None  # type: ignore[assignment]  # wait for the reader, however slow it is

    def __init__(
        self, session: Any, pub_thread: Any, name: str, *arguments: Any, watchfd: Any = True, **keywords: Any
    ) -> None:
        # "force": ipykernel leaves the descriptors alone if it believes that pytest redirects them.
        watchfd = "force" if watchfd else False
        self._unsent = 0
        self._is_child, self._line = False, ""  # whether this is a forked child; its unfinished line
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        super().__init__(  # type: ignore[no-untyped-call]
            session, pub_thread, name, *arguments, watchfd=watchfd, **keywords
        )
        _forget_this_package()
        os.register_at_fork(after_in_child=self._became_child)
        pub_thread.schedule(lambda: _make_lossless(pub_thread))  # sockets belong to their thread

    def fileno(self) -> int:
        """Return the descriptor that subprocesses inherit: what they write is captured, too."""
        number: int = self._original_stdstream_fd if self._should_watch else super().fileno()  # type: ignore[no-untyped-call]
        return number

    def write(self, string: str) -> int:
        """Write text; waits while :data:`WAITING_CHARACTERS` wait to be sent."""
        if self._is_child and isinstance(string, str):
            return self._write_as_child(string)
        if isinstance(string, str) and len(string) > WAITING_CHARACTERS:
            for at in range(0, len(string), WAITING_CHARACTERS):
                self.write(string[at : at + WAITING_CHARACTERS])
            return len(string)
        super().write(string)
        self._unsent += len(string)
        if self._unsent >= WAITING_CHARACTERS:
            self.flush()
        return len(string)

    def flush(self) -> None:
        """Send the text that waits, and return when it was handed over."""
        self._unsent = 0
        if not self._is_child:
            super().flush()  # type: ignore[no-untyped-call]
        elif self._line:
            self._write_to_pipe(self._line)
            self._line = ""

    def _became_child(self) -> None:
        self._is_child = self._should_watch

    def _write_as_child(self, string: str) -> int:
        """Write the lines that are complete, so that several children do not mix theirs."""
        whole, end, self._line = (self._line + string).rpartition("\n")
        if end:
            self._write_to_pipe(whole + end)
        return len(string)

    def _write_to_pipe(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._original_stdstream_fd, data) :]

    def _watch_pipe_fd(self) -> None:
        while self._fid is not None:
            data = os.read(self._fid, _READ_BYTES)
            if not data or not self._should_watch:
                return
            if text := self._decoder.decode(data):
                self.write(text)


def _forget_this_package() -> None:
    """Let the notebook import what its own folder may hold under the name of this package."""
    for name in [name for name in sys.modules if name.partition(".")[0] == __package__.partition(".")[0]]:
        del sys.modules[name]


def _make_lossless(pub_thread: Any) -> None:
    if not isinstance(pub_thread.socket, NumberedSocket):
        pub_thread.socket = NumberedSocket(pub_thread.socket)
