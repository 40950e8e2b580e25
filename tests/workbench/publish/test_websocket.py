"""Messages between a page and its kernel: what has the right form, and what does not."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest

from workbench.publish import websocket
from workbench.publish.websocket import Malformed, header_of, parts_of

HEADER = {"msg_id": "1", "msg_type": "comm_msg", "session": "a"}


def framed(*parts: bytes, channel: bytes = b"shell") -> bytes:
    """Return a message as a page sends it."""
    frames = [channel, *parts]
    at = [8 * (len(frames) + 2)]
    for frame in frames:
        at.append(at[-1] + len(frame))
    return struct.pack(f"<{len(at) + 1}Q", len(at), *at) + b"".join(frames)


def message(*buffers: bytes, header: object = HEADER, channel: bytes = b"shell") -> bytes:
    return framed(json.dumps(header).encode(), b"{}", b"{}", b'{"a": 1}', *buffers, channel=channel)


def test_a_message_is_taken_apart_as_jupyter_does_it() -> None:
    from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1

    sent = message(b"a picture", b"")
    channel, parts = parts_of(sent)
    assert (channel, parts) == deserialize_msg_from_ws_v1(sent)
    assert (channel, parts[3:]) == ("shell", [b'{"a": 1}', b"a picture", b""])
    assert header_of(parts) == HEADER


def swapped(data: bytes, at: int, value: int) -> bytes:
    return data[: 8 * at] + struct.pack("<Q", value) + data[8 * (at + 1) :]


GOOD = message(b"a picture")
LEGACY = struct.pack("!II", 1, 8) + json.dumps({"header": HEADER}).encode()


@pytest.mark.parametrize(
    "sent",
    [
        "text",
        b"",
        b"\x06",
        LEGACY,
        struct.pack("<Q", 2**63) + bytes(100),
        struct.pack("<Q", 100_000) + bytes(800_000),
        swapped(GOOD, 0, 0),
        swapped(GOOD, 0, 2),
        swapped(GOOD, 0, 2**40),
        swapped(GOOD, 1, 0),
        swapped(GOOD, 1, 2**62),
        swapped(GOOD, 3, 8),
        swapped(GOOD, 7, 2**63),
        GOOD + b"more",
        *(GOOD[:size] for size in range(0, len(GOOD), 7)),
        framed(b"{}", b"{}"),
        framed(*[b"{}"] * (websocket.BUFFERS + 5)),
        message(channel=b"a/b"),
        message(channel=b""),
        message(channel=b"s" * 100),
        message(channel="쉘".encode()),
    ],
)
def test_a_malformed_message_is_refused_before_anything_is_made_of_it(sent: object) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            parts_of(sent)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_message_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MESSAGE_BYTES", 1000)
    assert parts_of(message(b"x" * 500))
    with pytest.raises(Malformed, match="1,000 bytes"):
        parts_of(message(b"x" * 1000))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"not json",
        b"\xff",
        b"[" * 15_000,
        b"[]",
        b"null",
        b'{"msg_id": "1"}',
        b'{"msg_type": "comm_msg"}',
        b'{"msg_id": "1", "msg_type": ["comm_msg"]}',
        b'{"msg_id": 1, "msg_type": "comm_msg"}',
        json.dumps({**HEADER, "msg_id": "x" * 201}).encode(),
        json.dumps({**HEADER, "more": "x" * websocket.HEADER_BYTES}).encode(),
    ],
)
def test_a_header_without_a_type_and_an_id_is_refused(header: bytes) -> None:
    with pytest.raises(Malformed):
        header_of([header])


def test_what_passes_runs_no_code_and_ends_no_kernel() -> None:
    passing = set().union(*websocket.FROM_PAGE.values())
    assert passing == {"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"}
    assert not {"stream", "error", "execute_input", "display_data"} & set().union(*websocket.TO_PAGE.values())
