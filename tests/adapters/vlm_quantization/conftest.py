from __future__ import annotations

from pathlib import Path

import pytest

from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.emoji.emoji import open_emoji
from workbench.host.locks import take_lock


@pytest.fixture(scope="session")
def emoji_cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that all test workers share, held while the pictures are drawn: that takes ten seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "emoji-cache"
    folder.mkdir(exist_ok=True)
    lock = take_lock(folder / "lock", seconds=300)
    assert lock is not None
    with lock:
        open_emoji(folder)
    return folder


@pytest.fixture(scope="session")
def emoji(emoji_cache: Path) -> CaptionedImages:
    """The default collection, drawn once for all test workers."""
    return open_emoji(emoji_cache)
