"""Pictures made to keep a decoder busy, sent to the search service of a real index."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import workbench as wb
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.dummy import write_dummy_checkpoint, write_dummy_collection
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.index.build import build_index
from tests.adapters.vlm_quantization.data.hostile import HOSTILE, encoded, noise, progressive_scans
from workbench.search.client import SearchClient


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchClient]:
    """The search service of a workspace with an index of drawn shapes."""
    home = tmp_path_factory.mktemp("shapes")
    lines = write_dummy_collection(home, 24)
    model = write_dummy_checkpoint(home, lines)
    (home / "indexes").mkdir()
    build_index(
        home / "indexes", open_collection(lines), HashEncoder.load(model), name="shapes", model_file=model
    )
    client = SearchClient(home, patience=300)
    yield client
    os.kill(client.ask({"op": "status"})["pid"], signal.SIGTERM)


def test_slow_pictures_hold_up_no_text_search(shapes: SearchClient) -> None:
    searcher = shapes.open_search("shapes")
    searcher.by_text("red circle")
    slow = progressive_scans(60)  # within the limits, and half a second of work
    with ThreadPoolExecutor(3) as visitors:
        pictures = [visitors.submit(searcher.by_image, slow, 3) for _ in range(3)]
        answered = 0
        while not all(picture.done() for picture in pictures):
            assert len(searcher.by_text(f"red circle {answered}", 3)) == 3
            answered += 1
        assert all(len(picture.result()) == 3 for picture in pictures)
    assert answered >= 10


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_is_refused_in_words_and_the_next_is_searched(
    shapes: SearchClient, name: str
) -> None:
    make, reason = HOSTILE[name]
    searcher = shapes.open_search("shapes")
    pid = shapes.ask({"op": "status"})["holders"][0]["pid"]
    with pytest.raises(wb.BadInput, match=reason) as refused:
        searcher.by_image(make())
    assert refused.value.hint
    assert len(searcher.by_image(encoded(noise(20, 20)), 3)) == 3
    assert shapes.ask({"op": "status"})["holders"][0]["pid"] == pid


def test_a_picture_is_found_by_itself_as_it_was_before(shapes: SearchClient) -> None:
    searcher = shapes.open_search("shapes")
    path = sorted((Path(shapes.home) / "pictures").glob("*.png"))[3]
    found = searcher.by_image(path, 1)
    assert (found[0].id, found[0].distance) == (f"pictures/{path.name}", 0)
    assert {"decode", "encode", "search"} <= found.took_ms.keys()
    lines = base64.encodebytes(path.read_bytes()).decode()
    request = {"op": "search", "index": "shapes", "by": "image", "image": lines, "k": 1}
    assert shapes.ask(request)["hits"][0]["id"] == f"pictures/{path.name}"
