"""A visitor of a published page without a browser: loads it, connects to its kernel, and searches."""

from __future__ import annotations

import copy
import json
import re
import struct
import uuid
from typing import Any

import httpx
import websocket

from tests.waiting import GUARD

PROTOCOL = "v1.kernel.websocket.jupyter.org"


def framed(kind: str, content: object, *buffers: bytes, channel: str = "shell") -> bytes:
    """Return a message to a kernel, as a page sends it; a content that is bytes is sent as it is."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "a", "version": "5.3"}
    header |= {"username": "", "date": "2026-01-01T00:00:00Z"}
    frames = [channel.encode(), json.dumps(header).encode(), b"{}", b"{}"]
    frames.append(content if isinstance(content, bytes) else json.dumps(content).encode())
    frames += buffers
    at = [8 * (len(frames) + 2)]
    for frame in frames:
        at.append(at[-1] + len(frame))
    return struct.pack(f"<{len(at) + 1}Q", len(at), *at) + b"".join(frames)


class Visitor:
    """One visitor.

    Parameters
    ----------
    url : str
        The address of the page.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # Without certificates, whose reading costs more than all the rest.
        self.client = httpx.Client(base_url=url, timeout=GUARD, verify=False)  # noqa: S501  # plain HTTP
        self.page = self.client.get("/")
        found = re.search(r'"kernelId": "([^"]+)"', self.page.text)
        self.kernel = found[1] if found else ""
        found = re.search(r'"model_id": "([0-9a-f]+)"', self.page.text)
        self.model = found[1] if found else ""
        self.socket: Any = None

    def connect(self, protocols: tuple[str, ...] = (PROTOCOL,), **more: Any) -> Visitor:
        """Connect to the kernel."""
        address = self.url.replace("http:", "ws:")
        opened = websocket.WebSocket()
        try:
            opened.connect(
                f"{address}api/kernels/{self.kernel}/channels?session_id={uuid.uuid4().hex}",
                **{"origin": self.url.rstrip("/"), "subprotocols": list(protocols), "timeout": GUARD, **more},
            )
        except BaseException:
            opened.shutdown()
            raise
        self.socket = opened
        return self

    def connected_again(self) -> Visitor:
        """Return a second connection of the same page."""
        other = copy.copy(self)
        other.socket = None
        return other.connect()

    def send(self, kind: str, content: object, *buffers: bytes, channel: str = "shell") -> None:
        """Send a message to the kernel."""
        self.socket.send_binary(framed(kind, content, *buffers, channel=channel))

    def receive(self) -> tuple[str, str, Any]:
        """Return the channel, the type and the content of the next message."""
        data = self.socket.recv()
        if not data:
            raise ConnectionError("closed by the server")
        count = struct.unpack("<Q", data[:8])[0]
        at = struct.unpack(f"<{count}Q", data[8 : 8 * (count + 1)])
        channel, header, _, _, content = (data[at[i] : at[i + 1]] for i in range(5))
        return channel.decode(), json.loads(header)["msg_type"], json.loads(content)

    def search(self, *buffers: bytes, **question: object) -> dict[str, Any]:
        """Search, and return the panel's answer."""
        asked = {"type": "search", "seq": 1, "k": 20, "options": {}, **question}
        self.send(
            "comm_msg",
            {"comm_id": self.model, "data": {"method": "custom", "content": asked}},
            *buffers,
        )
        while True:
            _, kind, content = self.receive()
            if kind == "comm_msg" and content["data"].get("method") == "custom":
                answer: dict[str, Any] = content["data"]["content"]
                return answer

    def finds_a_dog(self) -> bool:
        """Say whether a search works."""
        answer = self.search(by="text", query="dog")
        return answer["type"] == "answer" and answer["hits"][0]["caption"] == "dog"

    def leave(self) -> int:
        """Say goodbye, as a page does; returns the status."""
        self.disconnect()
        return self.client.post(f"page/kernels/{self.kernel}").status_code

    def disconnect(self) -> None:
        """Close the connection without a word."""
        if self.socket is not None:
            # Not close(), which waits for the server's answer.
            self.socket.shutdown()
            self.socket = None

    def close(self) -> None:
        """Leave, and close what is open here."""
        if self.kernel and not self.client.is_closed:
            self.leave()
        self.client.close()
