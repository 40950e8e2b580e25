"""The eval job on a small real collection: the contents of its result, and that they are correct."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization import options as schemas
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate import job as eval_job
from adapters.vlm_quantization.evaluate import tasks as evaluation
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS
from adapters.vlm_quantization.train import job as train_job
from adapters.vlm_quantization.train import single_length, train, validation
from tests.adapters.vlm_quantization import shapes
from workbench.jobs.floors import unknown_metrics
from workbench.panels.results.show import render_html

ADAPTER = "vlm_quantization"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """A workspace with the runs of two seeds, trained by one job on shapes with two drawings each."""
    folder = tmp_path_factory.mktemp("eval")
    options = shapes.options(experiment="shapes", seeds=(0, 3)).model_dump()
    with pytest.MonkeyPatch.context() as patch, wb.Workspace(folder / "results") as workspace:
        for module in (train_job, eval_job):
            patch.setattr(module, "open_collection", lambda *_, **__: shapes.collection())
        with wb.job_scope("train", ADAPTER, options, workspace=workspace) as job:
            result = job.finish(job.adapter.train(job.options, job))
            assert unknown_metrics(result.metrics, job.adapter.metric_names("train", job.options)) == []
        yield workspace


def evaluated(home: wb.Workspace, **options: Any) -> wb.Result:
    with wb.job_scope("eval", ADAPTER, {"resamples": 50, "ks": [1, 3], **options}, workspace=home) as job:
        result = job.finish(job.adapter.evaluate(job.options, job))
        # Whatever can be measured can be a floor.
        assert unknown_metrics(result.metrics, job.adapter.metric_names("eval", job.options)) == []
        return result


@pytest.fixture(scope="module")
def result(home: wb.Workspace) -> wb.Result:
    return evaluated(home)


def views(result: wb.Result, start: str) -> list[wb.View]:
    return [view for view in result.views if view.title.startswith(start)]


# --- seeds --------------------------------------------------------------------------------------------------


def test_seeds_are_runs_of_one_job(home: wb.Workspace) -> None:
    job = home.jobs(type="train")[0]
    runs = [home.run(number) for number in job.result.made["runs"]]
    assert [(run.config["seed"], run.config["seeds"], run.status) for run in runs] == [
        (0, [], "succeeded"),
        (3, [], "succeeded"),
    ]
    assert [run.name for run in runs] == ["nested-128-s0", "nested-128-s3"]
    assert job.result.made["run"] in job.result.made["runs"]
    best = max(runs, key=lambda run: run.summary[validation.DECIDING]["max"])
    assert job.result.made["run"] == best.id
    table = job.result.views[0]
    assert table.title == "Over 2 seeds"
    row = next(row for row in table.data["rows"] if row["name"] == validation.DECIDING)
    values = [run.summary[validation.DECIDING]["max"] for run in runs]
    assert row["value"] == pytest.approx(np.mean(values))
    assert row["low"] <= min(values) <= max(values) <= row["high"]


def test_an_evaluation_over_seeds_has_a_mean_and_an_interval(home: wb.Workspace) -> None:
    first, second = (home.run(number).id for number in home.jobs(type="train")[0].result.made["runs"])
    both = evaluated(home, run=first, seeds=[0, 3], baselines=False, worst=0)
    alone = [evaluated(home, run=run, baselines=False, worst=0).metrics for run in (first, second)]
    (table,) = views(both, "Over 2 seeds")
    row = next(row for row in table.data["rows"] if row["name"] == "t2i/R@3@128")
    assert row["value"] == pytest.approx(np.mean([metrics["t2i/R@3@128"] for metrics in alone]))
    assert both.metrics == alone[0]


def test_a_seed_without_a_run_is_named(home: wb.Workspace) -> None:
    with pytest.raises(wb.BadInput, match=r"seed 7 .*best\.safetensors"):
        evaluated(home, seeds=[0, 7], baselines=False)


# --- contents of the result ---------------------------------------------------------------------------------


def test_the_report_has_every_part_and_is_drawn(result: wb.Result) -> None:
    titles = " | ".join(view.title for view in result.views)
    for part in (
        "Summary",
        "Retrieval: held-out drawings",
        "Retrieval: held-out concepts",
        "R@3 by code length",
        "Retention of float R@3: held-out drawings",
        "Range over tie orders",
        "Other codes of the same features, R@3",
        "R@3 of the nested code and baselines",
        "Precision and recall",
        "Code health",
        "Share of ones per bit",
        "Picture-text agreement per bit",
        "Worst queries by text, en",
        "Worst queries by text, ko",
        "Worst queries by picture",
        "Leakage check: passed",
        "Run card",
    ):
        assert part in titles
    html = render_html(result)
    assert all(f"<h3>{view.title.split(chr(8220))[0]}"[:20] in html for view in result.views)
    json.dumps(result.model_dump(), allow_nan=False)


def test_the_summary_has_the_protocol_in_words_and_the_number_of_queries(result: wb.Result) -> None:
    notes = " ".join(result.views[0].notes)
    assert PROTOCOLS["default"].words in notes
    assert "Relevant: same item" in notes
    assert "queries, 0 of them without a relevant item; gallery of" in notes
    assert "text → image" in result.summary
    assert f"{result.metrics['t2i/retention@128']:.0%} of float" in result.summary


def test_the_main_table_is_length_by_direction_by_language_with_intervals(result: wb.Result) -> None:
    (table,) = views(result, "Retrieval: held-out drawings")
    lengths = [f"{bits} bits" for bits in CODE_LENGTHS] + ["float cosine"]
    tasks = [
        f"{arrow}, {language}" for arrow in ("text → image", "image → text") for language in ("en", "ko")
    ]
    rows = table.data["rows"]
    assert [(row["task"], row["length"]) for row in rows] == [
        (t, length) for t in tasks for length in lengths
    ]
    for row in rows:
        cell = row["R@3"]
        assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1
    named = {row["length"]: row["R@3"]["value"] for row in rows if row["task"] == tasks[0]}
    assert named["64 bits"] == result.metrics["drawings/en/t2i/R@3@64"]
    assert named["float cosine"] == result.metrics["drawings/en/t2i/R@3@float"]


def test_ties_have_bounds(result: wb.Result) -> None:
    (table,) = views(result, "Range over tie orders")
    short = [row for row in table.data["rows"] if row["length"] == "8 bits"]
    assert any(row["mAP"]["low"] < row["mAP"]["value"] < row["mAP"]["high"] for row in short)
    assert all(row["first"] >= 1 for row in table.data["rows"])


def test_baselines_are_compared_on_the_same_split(result: wb.Result) -> None:
    table = views(result, "Other codes of the same features, R@3: held-out drawings")[0]
    methods = {row["method"] for row in table.data["rows"]}
    fitted = {"sign of the float", "random hyperplanes", "PCA-sign", "ITQ", "ITQ, one centre"}
    assert methods == {"nested code"} | fitted
    notes = " ".join(table.notes)
    assert all(name in notes for name in fitted)
    # the shapes' features are 32 wide: only random hyperplanes can make longer codes of them
    nested = next(row for row in table.data["rows"] if row["method"] == "nested code")
    assert nested["64"]["value"] == result.metrics["drawings/en/t2i/R@3@64"]
    assert result.metrics["drawings/en/t2i/ITQ/R@3@32"] >= 0
    assert "drawings/en/t2i/ITQ/R@3@64" not in result.metrics
    for method in ("rescored", "float query"):
        assert f"drawings/ko/t2i/{method}/R@3@8" in result.metrics


def test_retention_is_the_metric_of_the_code_divided_by_that_of_the_float(result: wb.Result) -> None:
    metrics = result.metrics
    for prefix in ("drawings/en/t2i", "t2i"):
        kept = metrics[f"{prefix}/R@3@8"] / metrics[f"{prefix}/R@3@float"]
        assert metrics[f"{prefix}/retention@8"] == pytest.approx(kept, abs=0.02 if prefix == "t2i" else 1e-9)
    (curve, *_) = views(result, "Retention of float R@3: held-out drawings")
    first = curve.data["series"][0]
    assert first["y"][0] == pytest.approx(100 * metrics["drawings/en/t2i/retention@8"])
    assert first["low"][0] <= first["y"][0] <= first["high"][0]


def test_headlines_are_means_over_languages(result: wb.Result) -> None:
    metrics = result.metrics
    for name in ("R@3@128", "mAP@16"):
        both = [metrics[f"drawings/{language}/t2i/{name}"] for language in ("en", "ko")]
        assert metrics[f"t2i/{name}"] == pytest.approx(np.mean(both))
    assert set(result.headline) <= set(metrics)
    assert "t2i/R@3@128" in result.headline


def test_single_queries_have_scores_whose_mean_is_the_metric(result: wb.Result) -> None:
    scored = {}
    for samples in result.samples:
        assert len(set(samples.ids)) == len(samples.ids)
        for name, scores in samples.scores.items():
            values = [score for score in scores if score is not None]
            scored[name] = sum(values) / len(values)
    assert {"drawings/ko/i2t/R@3@64", "t2i/R@3@128", "t2i/mAP@float"} <= scored.keys()
    for name, mean in scored.items():
        assert result.metrics[name] == pytest.approx(mean, abs=1e-6), name


def test_worst_queries_show_the_relevant_item_and_the_hits(home: wb.Workspace, result: wb.Result) -> None:
    shown = views(result, "Worst queries by text")
    assert len(shown) == 6
    for view in shown:
        items = view.data["items"]
        assert items[0]["subtitle"].startswith("relevant, rank ")
        assert [item["subtitle"] for item in items[1:]] == [f"found, rank {place}" for place in range(1, 6)]
        distances = [int(item["note"].removeprefix("distance ")) for item in items]
        assert distances[1:] == sorted(distances[1:])
        assert distances[0] >= distances[1]
        for item in items:
            assert Image.open(io.BytesIO(base64.b64decode(item["image"]))).width > 10
        assert items[0]["caption"] in view.title
    ranks = [int(view.data["items"][0]["subtitle"].rpartition(" ")[2]) for view in shown[:3]]
    assert ranks == sorted(ranks, reverse=True)
    by_picture = views(result, "Worst queries by picture")[0]
    assert all(re.search(r"name at rank \d+ of \d+", item["subtitle"]) for item in by_picture.data["items"])
    assert views(evaluated(home, worst=0, baselines=False), "Worst") == []


def test_the_run_card_has_everything_needed_to_reproduce_the_metrics(
    home: wb.Workspace, result: wb.Result
) -> None:
    card = {}
    for row in result.views[-1].data["rows"]:
        card.setdefault(row["name"], []).append(row["value"])
    run = home.run(result.made["run"])
    assert card["Run"] == [f"{run.id} ({run.name}), experiment shapes"]
    encoder = evaluation_encoder(run)
    assert card["Weights (SHA-256)"] == [encoder.fingerprint]
    assert card["Split train (SHA-256)"] == [encoder.checkpoint.provenance.split]
    assert card["Data (SHA-256)"] == [encoder.checkpoint.provenance.data]
    assert any(version.startswith("numpy") for version in card["Version"])
    assert card["Tie order of the examples"] == ["(distance, item id)"]
    again = evaluated(home, run=run.id)
    assert again.metrics == result.metrics
    timed = {"Search by funnel", "Search by funnel: time of each stage by oversampling"}
    others = {view.title for view in again.views if view not in result.views}
    assert others - timed <= {"Run card"}


def evaluation_encoder(run: wb.Run) -> Any:
    from adapters.vlm_quantization import adapter

    return adapter.load_model(run.checkpoint("best.safetensors"))


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_protocol_can_be_chosen_by_name(home: wb.Workspace, protocol: str) -> None:
    result = evaluated(home, protocol=protocol, baselines=False, worst=0)
    assert PROTOCOLS[protocol].words in result.views[0].notes[0]
    assert PROTOCOLS[protocol].source in result.views[0].notes[0]
    if protocol == "clip":
        assert result.metrics["drawings/en/t2i/R@3@8"] == result.metrics["drawings/en/t2i/hit@3@8"]


def test_pictures_find_pictures_and_texts_find_texts_but_not_themselves(home: wb.Workspace) -> None:
    result = evaluated(home, directions=["i2i", "t2t"], worst=2)
    pictures = home_items()
    n = result.metrics
    assert "concepts/any/i2i/R@3@128" in n
    assert "concepts/ko/t2t/mAP@float" in n
    notes = " ".join(result.views[0].notes)
    assert f"Held-out concepts, image → image (any): {pictures} queries" in notes
    assert f"gallery of {pictures - 1}" in notes
    # a name finds the name in the other language; without exclusion, it would rank itself first
    assert n["concepts/en/t2t/MedR@128"] >= 1
    assert "image → image" in result.summary


def home_items() -> int:
    from adapters.vlm_quantization.data.splits import make_splits

    return len(make_splits(shapes.collection(), 0).test_concepts)


@pytest.mark.parametrize(
    ("relevance", "words"),
    [("labels", "any shared label"), ("graded", "graded by the number of shared labels")],
)
def test_relevance_by_labels(home: wb.Workspace, relevance: str, words: str) -> None:
    result = evaluated(home, relevance=relevance, baselines=False, worst=2)
    assert f"Relevant: {words}" in result.views[0].notes[0]
    assert result.metrics["drawings/en/t2i/R@3@128"] < 1


def test_baselines_can_be_left_out(home: wb.Workspace) -> None:
    result = evaluated(home, baselines=False, worst=0)
    assert views(result, "Other codes") == []
    assert not any("/ITQ/" in name for name in result.metrics)


def test_separately_trained_codes_are_measured_at_their_own_length(
    home: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[int, ...]] = []

    class Lengths(schemas.TrainOptions):
        lengths: tuple[int, ...] = CODE_LENGTHS

    real = train.train

    def counted(*args: Any) -> Any:
        trained.append(args[4].lengths)
        assert args[4].refit_steps == 0
        return real(*args)

    monkeypatch.setattr(schemas, "TrainOptions", Lengths)
    monkeypatch.setattr(train, "train", counted)
    result = evaluated(home, single_length=True, worst=0)
    assert trained == [(length,) for length in CODE_LENGTHS]
    table = views(result, "Other codes of the same features, R@3: held-out drawings")[0]
    row = next(row for row in table.data["rows"] if row["method"] == single_length.NAME)
    assert all(row[str(length)]["value"] > 0 for length in CODE_LENGTHS)
    assert row["8"]["low"] <= row["8"]["value"] <= row["8"]["high"]
    assert any(single_length.WORDS in note for note in table.notes)
    assert f"drawings/en/t2i/{single_length.NAME}/R@3@64" in result.metrics


def test_the_code_measured_is_the_sign_of_the_margins(home: wb.Workspace, result: wb.Result) -> None:
    from adapters.vlm_quantization.data.splits import make_splits
    from adapters.vlm_quantization.evaluate.subject import FromFeatures
    from adapters.vlm_quantization.towers.features import picture_features
    from adapters.vlm_quantization.towers.registry import image_tower

    run = home.run(result.made["run"])
    collection = shapes.collection()
    splits = make_splits(collection, 0)
    features = picture_features(collection, image_tower("random"), home.cache)
    encoder = evaluation_encoder(run)
    options = schemas.EvalOptions()
    for task in evaluation.tasks(collection, splits, FromFeatures(encoder, features), options):
        for side in (task.queries, task.gallery):
            assert np.array_equal(np.packbits(side.margins >= 0, axis=1), side.codes)
            assert len(set(side.ids)) == len(side.ids)
        records = evaluate_codes(task.queries.codes, task.gallery.codes, task.relevance, ks=(3,))
        named = {f"{task.prefix}/{r.name}@{r.bits}": r.value for r in records if r.name in ("mAP", "R@3")}
        assert named == {name: result.metrics[name] for name in named}


def test_a_wrong_option_is_named() -> None:
    family = wb.get_adapter(ADAPTER)
    for wrong in ({"protocol": "nobody"}, {"ks": [0]}, {"directions": []}, {"relevance": "x"}, {"worst": -1}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            family.options("eval").model_validate(wrong)


def test_the_report_says_how_stable_the_codes_are(result: wb.Result) -> None:
    """Without being asked to, where pictures are encoded at once, as with this tower."""
    assert 0 < result.metrics["stability/weak/flips@128"] <= 1
    assert 0 < result.metrics["stability/token-dropout/kept@64"] <= 1
    [table, *_] = views(result, "How stable the codes are")
    rows = {row["change"]: row for row in table.data["rows"]}
    row = rows["saved as JPEG of quality 50"]
    assert row["flips128"] == result.metrics["stability/jpeg/flips@128"]
    assert row["flips128"] < rows["without colour"]["flips128"]
    assert row["n"] <= 60


def test_stability_can_be_left_out(home: wb.Workspace) -> None:
    result = evaluated(home, stability=0, baselines=False, directions=["t2i"], worst=0)
    assert not any(name.startswith("stability/") for name in result.metrics)
    [view] = views(result, "How stable the codes are")
    assert view.notes == ["Not measured: stability=0."]
