"""The websocket between a visitor's page and its kernel: only what a panel needs passes, in both directions.

Messages have the form that the sub-protocol ``v1.kernel.websocket.jupyter.org`` describes; a page that does
not offer it is refused. A message is checked before anything is made from it: its size, its frames, its
channel and its type. A page that sends more than its kernel answers, or does not read the answers, is
disconnected, so that no queue grows here.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from tornado import web
from tornado.iostream import StreamBufferFullError
from tornado.websocket import WebSocketClosedError

from workbench.publish.answers import Guarded
from workbench.publish.kernels import VisitorKernels
from workbench.search.searcher import MAX_IMAGE_BYTES

#: The form of messages that is accepted; the older one cannot be told from garbage.
PROTOCOL = "v1.kernel.websocket.jupyter.org"


#: Maximum size of a message from a page, in bytes: a picture and the other fields of its query.
MESSAGE_BYTES = MAX_IMAGE_BYTES + 2**20


#: Maximum size of a message's header, in bytes.
HEADER_BYTES = 16 * 2**10


#: Maximum number of binary buffers of a message from a page; a search has one.
BUFFERS = 8


#: Maximum size and number of messages from one page that its kernel has not answered yet.
WAITING_BYTES, WAITING_MESSAGES = 2 * MESSAGE_BYTES, 64


#: Maximum bytes of answers that wait until the page reads them.
UNREAD_BYTES = 32 * 2**20


#: Maximum number of connections to one kernel. A page has one; a second one may overlap while it reconnects.
CONNECTIONS = 3


#: What a page may send, by channel. Nothing here runs code or ends a kernel.
FROM_PAGE = {
    "shell": frozenset({"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"}),
    "control": frozenset({"kernel_info_request"}),
}


#: What a page may receive, by channel. Printed text, errors and tracebacks stay in the publisher's log.
TO_PAGE = {
    "iopub": frozenset({"comm_open", "comm_msg", "comm_close", "status"}),
    "shell": frozenset({"comm_info_reply", "kernel_info_reply"}),
    "control": frozenset({"kernel_info_reply"}),
}


#: What a page may open a comm to: the one by which its widgets learn their states. Others would make widgets
#: in the kernel that nobody needs.
TARGETS = frozenset({"jupyter.widget.control"})


#: A header, a parent header, metadata and a content; with the channel, and the end of the last one.
_PARTS, _OFFSETS = 4, 6


_SESSION = re.compile(r"[\w-]{1,100}", re.ASCII)


class Malformed(ValueError):
    """A message that is not of the expected form."""


def parts_of(message: object) -> tuple[str, list[bytes]]:
    """Return the channel of a message and its parts: header, parent header, metadata, content, buffers.

    Raises
    ------
    Malformed
        It is text, too large, cut, or its frames overlap.
    """
    if not isinstance(message, bytes):
        raise Malformed("not a binary message")
    if len(message) > MESSAGE_BYTES:
        raise Malformed(f"more than {MESSAGE_BYTES:,} bytes")
    count = int.from_bytes(message[:8], "little")
    if not _OFFSETS <= count <= _OFFSETS + BUFFERS:
        raise Malformed("a wrong number of frames")
    start = 8 * (1 + count)
    at = [int.from_bytes(message[8 * i : 8 * i + 8], "little") for i in range(1, 1 + count)]
    if len(message) < start or at[0] != start or at != sorted(at) or at[-1] != len(message):
        raise Malformed("frames that do not fit")
    channel = message[at[0] : at[1]]
    if len(channel) > 10 or not channel.isalpha():
        raise Malformed("no channel")
    return channel.decode("ascii"), [message[at[i] : at[i + 1]] for i in range(1, count - 1)]


def header_of(parts: list[bytes]) -> dict[str, Any]:
    """Return the header of a message; its type and its id are short texts.

    Raises
    ------
    Malformed
        It is too long, or not such an object.
    """
    if len(parts[0]) > HEADER_BYTES:
        raise Malformed("a header that is too long")
    try:
        header = json.loads(parts[0])
    except (ValueError, RecursionError):
        raise Malformed("a header that is not JSON") from None
    if not isinstance(header, dict):
        raise Malformed("a header that is not an object")
    for name in ("msg_type", "msg_id"):
        if not isinstance(header.get(name), str) or len(header[name]) > 200:
            raise Malformed(f"a header without {name}")
    return header


def opens_control(parts: list[bytes]) -> bool:
    """Return whether a ``comm_open`` is one that a page needs."""
    try:
        content = json.loads(parts[3]) if len(parts[3]) <= HEADER_BYTES else {}
        return content["target_name"] in TARGETS
    except (ValueError, RecursionError, KeyError, TypeError):
        return False


class VisitorConnection(ZMQChannelsWebsocketConnection):
    """Passes a page's messages on to its kernel, and the kernel's to the page."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # What the kernel sends is an answer to a message, and those are limited.
        self.limit_rate = False
        self._waiting: dict[str, int] = {}
        self._ignored = False

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        """Pass a message from the page on, or disconnect a page that sends what no page sends."""
        if not self.channels:  # already closed
            return
        try:
            channel, parts = parts_of(incoming_msg)
            header = header_of(parts)
        except Malformed as problem:
            self._refuse(f"a malformed message ({problem})")
            return
        kind = header["msg_type"]
        if kind not in FROM_PAGE.get(channel, ()) or (kind == "comm_open" and not opens_control(parts)):
            if not self._ignored:  # one line per page, whatever it sends
                self.log.warning("a page sent %.60a on %s, which is ignored", kind, channel)
            self._ignored = True
            return
        size = sum(len(part) for part in parts)
        if len(self._waiting) >= WAITING_MESSAGES or sum(self._waiting.values()) + size > WAITING_BYTES:
            self._refuse("more messages than its kernel can answer")
            return
        self._waiting[header["msg_id"]] = size
        if kind == "comm_msg":
            self.multi_kernel_manager.used(self.kernel_id)
        self.session.send_raw(self.channels[channel], parts)

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        """Pass a message from the kernel on to the page, if it is of a kind that a page needs."""
        _, (_, *parts) = self.session.feed_identities(outgoing_msg)
        kind = self.session.unpack(parts[0])["msg_type"]
        channel = stream if isinstance(stream, str) else stream.channel
        if kind == "status" and self.session.unpack(parts[3]).get("execution_state") == "idle":
            self._waiting.pop(self.session.unpack(parts[1]).get("msg_id"), None)
        if kind in TO_PAGE.get(channel, ()):
            super().handle_outgoing_message(stream, outgoing_msg)

    def _refuse(self, problem: str) -> None:
        self.log.warning("a page was disconnected: it sent %s", problem)
        self.websocket_handler.close(1008, "This message cannot be accepted.")


class VisitorWebsocket(Guarded, KernelWebsocketHandler):
    """Connects a page to its kernel."""

    _by_kernel: ClassVar[dict[str, int]] = {}  # connections by kernel, those that are being made included
    _counted = ""

    async def get(self, kernel_id: str) -> None:
        """Connect, if the page speaks the protocol and its kernel runs."""
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        if PROTOCOL not in (one.strip() for one in offered):
            raise web.HTTPError(400, f"a websocket without {PROTOCOL}")
        if not _SESSION.fullmatch(self.get_query_argument("session_id", "")):
            raise web.HTTPError(400, "a websocket without a session_id")
        kernels: VisitorKernels = self.settings["kernel_manager"]
        if not await kernels.heard_from(kernel_id):
            raise web.HTTPError(404, "no such kernel")
        if self._by_kernel.get(kernel_id, 0) >= CONNECTIONS:
            raise web.HTTPError(429, "too many connections to one kernel")
        self._counted = kernel_id
        self._by_kernel[kernel_id] = self._by_kernel.get(kernel_id, 0) + 1
        try:
            await super().get(kernel_id)  # type: ignore[no-untyped-call]
        finally:
            if self.ws_connection is None:  # no websocket came of it
                self._count_out()

    async def open(self, kernel_id: str) -> None:
        """Pass messages on, with a limit on those that are not read."""
        if self.ws_connection is not None and self.ws_connection.stream is not None:
            self.ws_connection.stream.max_write_buffer_size = UNREAD_BYTES
        await super().open(kernel_id)  # type: ignore[no-untyped-call]

    def write_message(self, message: Any, binary: bool = False) -> Any:
        """Send a message; disconnects a page that does not read."""
        try:
            return super().write_message(message, binary)
        except StreamBufferFullError:
            self.log.warning("a page was disconnected: it does not read its messages")
            if self.ws_connection is not None and self.ws_connection.stream is not None:
                self.ws_connection.stream.close()
        except WebSocketClosedError:
            pass
        return None

    def on_close(self) -> None:
        """Count the connection out."""
        self._count_out()
        if getattr(self, "connection", None) is not None:
            super().on_close()  # type: ignore[no-untyped-call]

    def _count_out(self) -> None:
        kernel_id, self._counted = self._counted, ""
        left = self._by_kernel.get(kernel_id, 0) - 1
        if kernel_id and left > 0:
            self._by_kernel[kernel_id] = left
        else:
            self._by_kernel.pop(kernel_id, None)
