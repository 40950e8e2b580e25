"""The main job, as its user sees it: real pictures, training, evaluation, an index that finds things."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

import workbench as wb


@pytest.fixture
def home(demo_results):
    with wb.Workspace(demo_results.home) as home:
        yield home


def test_it_says_what_it_made(demo_results) -> None:
    said = demo_results.said
    assert set(said) == {"workspace", "jobs", "run", "index", "metrics"}
    assert said["workspace"] == str(demo_results.home)
    assert [(job["type"], job["status"]) for job in said["jobs"]] == [
        ("train", "succeeded"),
        ("eval", "succeeded"),
        ("index_build", "succeeded"),
    ]
    assert said["index"] == {"name": "emoji"}


def test_every_step_shows_its_progress(demo_results) -> None:
    lines = demo_results.progress.splitlines()
    for step in ("train", "eval", "index_build"):
        assert [line for line in lines if line.startswith(step) and "%" in line]


def test_codes_find_held_out_drawings_and_longer_ones_find_more(demo_results) -> None:
    metrics = demo_results.said["metrics"]
    # by chance a picture is among ten of 635 one time in sixty
    assert metrics["t2i/R@10@128"] > 0.35
    assert metrics["i2t/R@10@128"] > 0.3
    lengths = [metrics[f"t2i/mAP@{length}"] for length in (8, 32, 128, "float")]
    assert lengths == sorted(lengths)
    for language in ("en", "ko"):
        assert metrics[f"drawings/{language}/t2i/R@10@128"] > metrics[f"concepts/{language}/t2i/R@10@128"]


def test_each_executed_notebook_is_a_report(demo_results) -> None:
    for job in demo_results.said["jobs"]:
        notebook = nbformat.read(job["notebook"], as_version=4)
        nbformat.validate(notebook)
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    evaluated = next(job for job in demo_results.said["jobs"] if job["type"] == "eval")
    shown = [
        output.data
        for cell in nbformat.read(evaluated["notebook"], as_version=4).cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    html = "".join(data.get("text/html", "") for data in shown)
    assert "held-out drawings" in html
    assert "float cosine" in html
    assert any(
        "image/png" in data
        or "data:image/svg+xml;base64," in data.get("text/html", "")
        or "image/svg+xml" in data
        for data in shown
    )


def test_the_evaluation_is_a_report_that_can_be_checked(home, demo_results) -> None:
    evaluated = next(job for job in demo_results.said["jobs"] if job["type"] == "eval")
    cells = nbformat.read(evaluated["notebook"], as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    html = "".join(output.data.get("text/html", "") for output in outputs)
    for said in (
        "Protocol “default”",
        "95 % bootstrap intervals over queries",
        "Range over tie orders",
        "PCA-sign",
        "ITQ, one centre",
        "Code health",
        "Worst queries by text, ko",
        "Leakage check: passed",
        "Split test drawings (SHA-256)",
    ):
        assert said in html
    result = home.job(evaluated["id"]).result
    curves = [view for view in result.views if view.kind == "curve"]
    plots = list(Path(evaluated["notebook"]).with_name("plots").iterdir())
    assert len(plots) == 2 * len(curves)
    # the learned code beats what is made of the same features without learning, where codes are short
    for language in ("en", "ko"):
        prefix = f"drawings/{language}/t2i"
        for baseline in ("random hyperplanes", "sign of the float", "PCA-sign"):
            assert result.metrics[f"{prefix}/R@10@16"] > result.metrics[f"{prefix}/{baseline}/R@10@16"]
        assert 0.3 < result.metrics[f"{prefix}/retention@128"] < 1.2


def test_the_run_keeps_its_curves_and_checkpoints(home, demo_results) -> None:
    run = home.run(demo_results.said["run"]["id"])
    assert run.status == "succeeded"
    assert {file.name for file in run.checkpoints()} == {
        "best.safetensors",
        "last.safetensors",
        "refit.safetensors",
    }
    assert [step for step, _, _ in run.metric_points("val/R@10")] == [30, 60, 90]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("pizza", "pizza"),
        ("피자", "pizza"),
        ("dog", "dog"),
        ("강아지", "dog"),
        ("airplane", "airplane"),
        ("비행기", "airplane"),
        ("비", "rain umbrella"),
        ("happy face", "face"),
    ],
)
def test_an_everyday_word_finds_its_picture(home, query: str, wanted: str) -> None:
    hits = home.open_search("emoji").by_text(query, k=10, bits=128)
    assert any(word in hit.caption for hit in hits for word in wanted.split()), hits


def test_a_picture_of_the_collection_finds_itself_and_its_name(home) -> None:
    searcher = home.open_search("emoji")
    first = searcher.by_text("pizza", k=1, bits=128)[0]
    assert first.thumbnail
    again = searcher.by_image(first.thumbnail, k=5, bits=128)
    assert first.id in [hit.id for hit in again]
    names = searcher.by_image(first.thumbnail, k=10, bits=128, target="captions")
    assert first.caption in [hit.caption for hit in names]


def test_the_licences_travel_with_the_index(home) -> None:
    shown = " ".join(home.open_search("emoji").describe()["credits"])
    assert all(name in shown for name in ("CC BY-SA 4.0", "CC BY 4.0", "Unicode"))


def test_the_manifest_seals_every_file(demo_results) -> None:
    folder = Path(demo_results.home, "indexes", "emoji")
    sealed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert {path.name for path in folder.iterdir()} == {*sealed, "manifest.json"}
