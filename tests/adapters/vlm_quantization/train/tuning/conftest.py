"""Models whose towers are trained, made once per test process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.vlm_quantization.towers import small_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one folder per family: siglip and openclip."""
    folder = tmp_path_factory.mktemp("models")
    small_models.make_openclip(folder / "openclip")
    small_models.make_siglip(folder / "siglip")
    return folder
