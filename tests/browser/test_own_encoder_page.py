"""An index made with one's own encoder, searched over HTTP and by a visitor, and after its files are gone."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

import workbench as wb
from tests.adapters.vlm_quantization.towers import small_models
from tests.browser.conftest import PATIENCE, Visit, published
from tests.browser.test_search_page import ask
from tests.conftest import workspace_in
from tests.workbench.conftest import end_search_service, live_server

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 220), "yellow": (240, 220, 40)}


@dataclass
class Made:
    """A workspace with the index ``own``, and the folder of its encoder."""

    home: Path
    encoder: Path


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """An index of a folder of pictures, with the codes that need no training and a tiny SigLIP."""
    base = tmp_path_factory.mktemp("own")
    encoder = small_models.make_siglip(base / "my encoder")
    (base / "pictures").mkdir()
    for colour in COLOURS:
        (base / "pictures" / f"{colour}.png").write_bytes(png(colour))
    with workspace_in(base / "results") as home:
        options = {
            "collection": str(base / "pictures"), "name": "own", "encoder": str(encoder), "codes": "sign",
        }  # fmt: skip
        with wb.job_scope("index_build", "vlm_quantization", options, workspace=home) as job:
            job.finish(job.adapter.build_index(job.options, job))
        yield Made(home.path, encoder)
        end_search_service(home.path)


def test_it_is_searched_and_explained_over_http_until_its_files_change(made: Made, tmp_path: Path) -> None:
    query = {"index": "own", "query": "red", "k": 3}
    with live_server(made.home, tmp_path / "state") as live:
        assert len(live.post("search/text", query).json()["hits"]) == 3
        picture = base64.b64encode(png("blue")).decode()
        found = live.post("search/image", {"index": "own", "image": picture, "k": 2}).json()["hits"]
        assert found[0]["id"] == "blue.png"
        sides = {"left": {"text": "green"}, "right": {"item": "blue.png"}}
        why = live.post("search/explain", {"index": "own", **sides})
        assert why.status_code == 200, why.text
        assert why.json()["views"]
    settings = made.encoder / "preprocessor_config.json"  # the service ended with the server
    before = settings.read_text()
    try:
        settings.write_text(before.replace("0.5", "0.4"))
        with live_server(made.home, tmp_path / "again") as live:
            answer = live.post("search/text", query)
            error = answer.json()["error"]
            assert answer.status_code in (409, 500, 503), answer.text
            assert "files or settings have changed since the codes were made" in error["message"]
            assert "Put back the files" in error["hint"]
            assert str(made.encoder) not in error["hint"]
    finally:
        settings.write_text(before)


def test_a_visitor_searches_it_and_is_told_when_its_encoder_is_gone(
    made: Made, visit: Callable[..., Visit]
) -> None:
    with published(made.home, index="own", preheat=False) as url:
        page = visit(url).page
        ask(page, "red")
        expect(page.locator(".wb-hit")).to_have_count(4)
        with page.expect_file_chooser() as chosen:
            page.get_by_role("button", name="Picture", exact=True).click()
        chosen.value.set_files({"name": "blue.png", "mimeType": "image/png", "buffer": png("blue")})
        expect(page.locator(".wb-given")).to_contain_text("blue.png")
        expect(page.locator(".wb-score").first).to_contain_text("0/")  # the picture itself
        end_search_service(made.home)
        moved = made.encoder.rename(made.encoder.with_name("elsewhere"))
        try:
            page.get_by_label("Remove blue.png").click()
            ask(page, "green")
            # Not the visitor's fault, and no other query would help.
            expect(page.get_by_role("alert")).to_contain_text("This collection cannot be searched right now.")
            assert str(made.encoder.parent) not in page.content()
            assert "my encoder" not in page.content()
        finally:
            moved.rename(made.encoder)
