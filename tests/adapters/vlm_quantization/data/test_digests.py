"""Pictures are known again by their file, also after an opening that was stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adapters.vlm_quantization.data import digests
from adapters.vlm_quantization.data.collection import Item


@pytest.fixture
def items(tmp_path: Path) -> list[tuple[int, Item]]:
    """Thirty pictures of one colour each, saved long ago."""
    out = []
    for number in range(30):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
        os.utime(path, (1e9, 1e9))
        out.append((number, Item(path.stem, path.stem, {}, path)))
    return out


def test_an_opening_that_was_stopped_goes_on(
    items: list[tuple[int, Item]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = digests.picture_file_digest

    def watched(image: Any, **more: Any) -> str:
        read.append(more["name"])
        return real(image, **more)

    monkeypatch.setattr(digests, "picture_file_digest", watched)
    cache = tmp_path / "cache"

    def stop(done: float, total: float | None = None, message: str = "") -> None:
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digests.decoded(items, tmp_path / "all.jsonl", cache, stop)
    assert len(read) >= 25
    before = set(read)
    read.clear()
    kept, problems = digests.decoded(items, tmp_path / "all.jsonl", cache, None)
    assert problems == []
    assert len({item.digest for item in kept}) == 30
    assert set(read) == {path.name for path in tmp_path.glob("*.png")} - before
    read.clear()
    os.utime(tmp_path / "3.png", (1e9 + 5, 1e9 + 5))  # saved again
    again, _ = digests.decoded(items, tmp_path / "all.jsonl", cache, None)
    assert read == ["3.png"]
    assert again == kept
