"""A visitor of a published page without a browser: loads it, and asks as its script does."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx

from tests.waiting import GUARD


def framed(question: object, *pictures: bytes) -> bytes:
    """Return a question with pictures, as the page sends it; a question that is bytes is sent as it is."""
    text = question if isinstance(question, bytes) else json.dumps(question).encode()
    return struct.pack(">I", len(text)) + text + b"".join(pictures)


class Visitor:
    """One visitor.

    Parameters
    ----------
    url : str
        The address of the page.
    """

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=GUARD, verify=False)  # noqa: S501  # plain HTTP
        self.page = self.client.get("")

    def ask(self, *pictures: bytes, **question: object) -> httpx.Response:
        """Send a question, and return the response."""
        asked: dict[str, Any] = {"type": "search", "seq": 1, "k": 20, "options": {}, **question}
        if not pictures:
            return self.client.post("page/search", json=asked)
        body = framed({**asked, "sizes": [len(one) for one in pictures]}, *pictures)
        headers = {"Content-Type": "application/octet-stream"}
        return self.client.post("page/search", content=body, headers=headers)

    def search(self, *pictures: bytes, **question: object) -> dict[str, Any]:
        """Search, and return the answer; thumbnails are in their hits."""
        response = self.ask(*pictures, **question)
        if response.headers["Content-Type"].startswith("application/json"):
            answer: dict[str, Any] = response.json()
            return answer
        size = struct.unpack_from(">I", response.content)[0]
        answer = json.loads(response.content[4 : 4 + size])
        rest, thumbnails = response.content[4 + size :], []
        for one in answer["sizes"]:
            thumbnails.append(rest[:one])
            rest = rest[one:]
        assert rest == b""
        for hit in answer["hits"]:
            hit["thumbnail"] = None if hit["thumbnail"] is None else thumbnails[hit["thumbnail"]]
        return answer

    def finds_a_dog(self) -> bool:
        """Say whether a search works."""
        answer = self.search(by="text", query="dog")
        return bool(answer["type"] == "answer" and answer["hits"][0]["caption"] == "dog")

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
