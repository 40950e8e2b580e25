import pytest

from adapters.vlm_quantization.data.emoji.emoji import open_emoji


@pytest.fixture(scope="session")
def emoji_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("emoji-cache")


@pytest.fixture(scope="session")
def emoji(emoji_cache):
    """The default collection, drawn once per session."""
    return open_emoji(emoji_cache)
