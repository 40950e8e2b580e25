"""Which codes an index gets, and a folder of pictures that becomes searchable without training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.dummy import write_dummy_collection
from adapters.vlm_quantization.encoding.fitted import FittedEncoder
from adapters.vlm_quantization.index import quick
from adapters.vlm_quantization.index.chosen import choose_codes, encoder_of
from adapters.vlm_quantization.index.entries import common_root, picture_entries
from adapters.vlm_quantization.index.opened import HARDLY, load_index
from adapters.vlm_quantization.options import IndexOptions, QuickIndexOptions
from tests.adapters.vlm_quantization import small_index
from tests.adapters.vlm_quantization.towers.small_models import make_siglip

FAMILY = VlmQuantization()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in a folder and one below it, without captions; one of them is broken."""
    out = tmp_path_factory.mktemp("quick")
    write_dummy_collection(out)
    folder = out / "pictures"
    (folder / "below").mkdir()
    first = sorted(folder.glob("*.png"))[0]
    first.rename(folder / "below" / first.name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def build(home: wb.Workspace, options: dict[str, Any]) -> wb.Result:
    with wb.job_scope("index_build", "vlm_quantization", options, workspace=home) as job:
        return job.finish(job.adapter.build_index(job.options, job))


@pytest.fixture(scope="module")
def made(
    photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[wb.Workspace, wb.Result, Path]]:
    options = FAMILY.quick_index(str(photos), QuickIndexOptions(name="photos", encoder="random"))
    with wb.Workspace(tmp_path_factory.mktemp("ws") / "results") as home:
        yield home, build(home, dict(options)), photos


def test_a_folder_without_captions_is_searched_by_picture(made: tuple[wb.Workspace, wb.Result, Path]) -> None:
    home, result, photos = made
    assert "ITQ, fitted to 24 of these pictures; nothing was trained" in result.summary
    assert "the encoder knows no words" in result.summary
    assert result.made["codes"] == "itq"
    assert result.made["encoder"] == "random"
    assert result.metrics["pictures"] == 24
    (skipped,) = result.made["skipped"]
    assert "broken.png" in f"{skipped['path']} {skipped['reason']}"
    searcher = home.open_search("photos")
    assert isinstance(searcher.index.encoder, FittedEncoder)
    query = sorted(photos.glob("*.png"))[0]
    for bits in (8, 16, 32, 64, 128):
        hits = searcher.by_image(query, 24, bits=bits)
        assert str(query) in [hit.path for hit in hits if hit.distance == 0]
    (below,) = (photos / "below").iterdir()
    assert str(below) in [hit.path for hit in hits]
    assert all(Path(hit.path).is_file() for hit in hits)
    assert len(searcher.by_item(hits[0].id, 3)) == 3


def test_such_an_index_says_that_it_knows_no_words(made: tuple[wb.Workspace, wb.Result, Path]) -> None:
    home, _, photos = made
    searcher = home.open_search("photos")
    about = searcher.describe()
    assert about["lead"] == "picture"
    assert about["by"] == ["image", "item"]
    assert "Nothing was trained" in about["note"]
    assert "knows no words" in about["note"]
    assert "SigLIP" in about["note"]  # how to get an encoder that does
    assert str(photos) not in str(about)
    assert "type in" not in about["subtitle"]
    assert searcher.sample_queries() == []
    with pytest.raises(wb.BadInput, match="knows no words") as raised:
        searcher.by_text("a red circle")
    assert "encoder of pictures and texts" in raised.value.hint


def test_a_job_that_was_killed_goes_on_with_the_same_codes(
    made: tuple[wb.Workspace, wb.Result, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, photos = made
    before = home.open_search("photos").index.manifest

    def computed(*_: Any) -> None:
        pytest.fail("the features of the sample are kept")

    monkeypatch.setattr("adapters.vlm_quantization.towers.dummy.DummyVisionModel.features", computed)
    build(home, {"name": "again", "encoder": "random", "collection": str(photos), "codes": "itq"})
    after = home.open_search("again").index.manifest
    assert after.model == before.model
    assert after.files["images.codes.65-128.npy"] == before.files["images.codes.65-128.npy"]


def test_only_a_sample_is_fitted_to(
    photos: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "FIT_SAMPLE", 10)
    result = build(
        workspace, {"name": "few", "encoder": "random", "collection": str(photos), "codes": "sign"}
    )
    assert "signs of principal components of 10 of these pictures" in result.summary
    assert result.metrics["pictures"] == 24


def test_captions_are_kept_for_display_but_not_searched_with(photos: Path, workspace: wb.Workspace) -> None:
    shutil.copytree(photos.parent, workspace.path / "data")
    for moved in (workspace.path / "data" / "pictures" / "below").iterdir():
        moved.rename(workspace.path / "data" / "pictures" / moved.name)
    collection = str(workspace.path / "data" / "shapes.jsonl")
    result = build(workspace, {"name": "own", "encoder": "random", "collection": collection})
    assert (result.metrics["pictures"], result.metrics["captions"]) == (24, 0)
    hit = workspace.open_search("own").by_image(next(photos.glob("*.png")), 1)[0]
    assert hit.caption
    assert hit.path.endswith(".png")


# Choosing ---------------------------------------------------------------------------------------------


def trained(home: wb.Workspace, name: str, config: dict[str, Any], *files: str) -> wb.Run:
    with home.start_run("x", name=name, config={"split_seed": 0, **config}) as run:
        for file in files:
            (home.path / file).write_bytes(b"weights")
            run.log_checkpoint(file, home.path / file)
    return run


def test_a_run_of_the_encoder_is_used_and_preferably_one_of_these_pictures(workspace: wb.Workspace) -> None:
    best, refit = "best.safetensors", "refit.safetensors"
    own = trained(workspace, "own", {"encoder": "random", "collection": "/photos"}, best, refit)
    other = trained(workspace, "other", {"encoder": "random", "collection": "emoji"}, best)
    old = trained(workspace, "old", {"image_tower": "efficientnet-lite0", "collection": "emoji"}, best)
    trained(workspace, "broken", {"encoder": "random", "collection": "/photos"})
    assert encoder_of(workspace.run(old.id)) == "packaged"

    def choose(**options: Any) -> tuple[int | None, str, str, str]:
        chosen = choose_codes(workspace, IndexOptions.model_validate(options), FAMILY)
        return chosen.run and chosen.run.id, chosen.checkpoint, chosen.method, chosen.encoder

    assert choose(collection="/photos", encoder="random") == (own.id, refit, "trained", "random")
    assert choose(collection="emoji", encoder="random") == (other.id, best, "trained", "random")
    assert choose(collection="/elsewhere", encoder="packaged") == (None, "", "itq", "packaged")
    assert choose(collection="/elsewhere", encoder="packaged", codes="trained") == (
        old.id,
        best,
        "trained",
        "packaged",
    )
    assert choose(collection="/elsewhere")[0] == old.id  # without an encoder, that of the newest run
    assert choose(collection="/photos", encoder="openclip:ViT-B-32:x") == (
        None,
        "",
        "itq",
        "openclip:ViT-B-32:x",
    )
    assert choose(collection="/photos", codes="sign") == (None, "", "sign", "packaged")
    assert choose()[0] == old.id  # as ever: the newest
    for options, said in (
        ({"codes": "itq", "run": own.id, "collection": "/photos"}, "leave out run"),
        ({"codes": "itq"}, "no collection is named"),
        ({"codes": "trained", "encoder": "openclip:x:y", "collection": "/p"}, "no run of encoder"),
        ({"run": own.id, "encoder": "packaged"}, "was trained with encoder 'random'"),
    ):
        with pytest.raises(wb.BadInput, match=said):
            choose(**options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"codes": "itq", "run": 1}, "codes"),
        ({"codes": "sign"}, "collection"),
        ({"codes": "trained"}, "run"),
        ({}, "run"),
        ({"encoder": "no/such/encoder/here"}, "encoder"),
        ({"codes": "best"}, "codes"),
    ],
)
def test_what_cannot_begin_is_refused_before_it_is_queued(
    workspace: wb.Workspace, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(wb.BadOptions) as raised:
        workspace.submit("index_build", "vlm_quantization", {"name": "x", **options})
    assert field in [name for name, _ in raised.value.problems]


def test_a_run_of_these_pictures_and_others_is_a_run_of_these(workspace: wb.Workspace) -> None:
    sources = "emoji + stamps?photographs=yes"
    run = trained(workspace, "both", {"encoder": "random", "collection": sources}, "best.safetensors")
    for collection, fits in (
        ("stamps?photographs=yes", True),
        ("stamps?photographs=yes + emoji", True),
        ("stamps", False),
        (f"{sources} + more", False),
    ):
        options = IndexOptions(name="x", collection=collection, encoder="random")
        chosen = choose_codes(workspace, options, FAMILY)
        used, other = (one and one.id for one in (chosen.run, chosen.passed_over))
        assert (used, other) == ((run.id, None) if fits else (None, run.id)), collection


def test_a_run_of_other_pictures_is_passed_over_and_the_result_says_why(
    photos: Path, workspace: wb.Workspace
) -> None:
    run = trained(workspace, "drawings", {"encoder": "random", "collection": "emoji"}, "best.safetensors")
    options = FAMILY.quick_index(str(photos), QuickIndexOptions(name="photos", encoder="random"))
    result = build(workspace, dict(options))
    assert result.made["codes"] == "itq"
    assert f"Run {run.id} (drawings) was trained on other pictures" in result.summary
    assert "codes=trained" in result.summary


def test_a_model_of_other_pictures_finds_them_hardly_by_words(tmp_path: Path) -> None:
    small_index.build(tmp_path, provenance={"words": HARDLY, "codes": "trained"})
    about = load_index(tmp_path / "small", lambda _: small_index.SmallEncoder()).describe()
    assert about["lead"] == "picture"
    assert "words find little here" in about["note"]
    assert "by" not in about  # words may still be tried


# Where pictures are -------------------------------------------------------------------------------------


def test_paths_are_kept_relative_to_the_folder_of_all_pictures() -> None:
    class Item:
        def __init__(self, path: str) -> None:
            self.id = self.concept = path or "drawn"
            self.path, self.captions, self.labels = path, {}, ()
            self.style = self.group = ""
            self.flag = False

    class Pictures:
        items = tuple(map(Item, ("/a/b/1.jpg", "/a/b/c/2.jpg", "/a/b/x.tar/3.jpg", "")))
        languages = ()
        fingerprint = ""

    pictures: Any = Pictures()
    assert common_root(pictures) == "/a/b"
    kept = [entry.item.get("path") for entry in picture_entries(pictures)]
    assert kept == ["1.jpg", str(Path("c", "2.jpg")), str(Path("x.tar", "3.jpg")), None]


# An encoder of pictures and texts -----------------------------------------------------------------------


def test_with_an_encoder_of_pictures_and_texts_the_index_knows_words_at_once(
    photos: Path, workspace: wb.Workspace
) -> None:
    folder = make_siglip(workspace.path / "siglip")
    options = FAMILY.quick_index(str(photos), QuickIndexOptions(name="photos", encoder=str(folder)))
    result = build(workspace, dict(options))
    assert result.made["encoder"] == str(folder)
    assert "nothing was trained" in result.summary
    assert "found by words and by pictures" in result.summary
    searcher = workspace.open_search("photos")
    about = searcher.describe()
    assert about["lead"] == "text"
    assert "Nothing was trained" in about["note"]
    assert str(folder) not in str(about)
    hits = searcher.by_text("a red circle", 24)
    assert len({hit.distance for hit in hits}) > 5  # texts are centred: not all pictures are equally far
    assert 20 < sum(hit.distance or 0 for hit in hits) / 24 < 108
    query = sorted(photos.glob("*.png"))[0]
    assert searcher.by_image(query, 1)[0].path == str(query)
