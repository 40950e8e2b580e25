"""A predecessor's checkpoint becomes a run: evaluated, indexed and searched as any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.encoding.backbone import encoder_of
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.encoding.lightning import read_lightning
from adapters.vlm_quantization.towers.registry import image_tower
from adapters.vlm_quantization.towers.unscaled import unscaled
from tests.adapters.vlm_quantization import shapes
from tests.adapters.vlm_quantization.encoding.lightning_files import Peer, peer, write
from tests.adapters.vlm_quantization.towers.small_models import make_siglip
from workbench.scope import job_scope

ADAPTER = VlmQuantization()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_siglip(tmp_path_factory.mktemp("siglip") / "model")


@pytest.fixture(scope="module")
def model(siglip: Path) -> Peer:
    """Heads whose BatchNorms have seen the features of the collection, each in another epoch."""
    model = peer(width=32, hidden=48)
    collection = shapes.collection()
    tower = unscaled(image_tower(str(siglip)))
    features = torch.from_numpy(tower.features([collection.open(row) for row in range(len(collection))]))
    with torch.no_grad():
        for head in (model.image_hash, model.text_hash):
            raw = head.hash_head(features)
            for place, norm in enumerate(head.batch_norms):
                part = raw[place::3, : norm.num_features]
                norm.running_mean.copy_(part.mean(0))
                norm.running_var.copy_(part.var(0))
    return model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shapes as a collection on disk."""
    folder = tmp_path_factory.mktemp("shapes")
    lines = []
    for item in shapes.collection().items:
        (folder / f"{item.id}.png").write_bytes(item.image)
        captions = {language: list(texts) for language, texts in item.captions.items()}
        lines.append({"image": f"{item.id}.png", "captions": captions, "labels": list(item.labels)})
    (folder / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder / "captions.jsonl"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    with wb.Workspace(tmp_path_factory.mktemp("taken") / "results") as home:
        yield home


def run_job(workspace: wb.Workspace, kind: str, options: dict[str, Any]) -> wb.Result:
    method = {"train": ADAPTER.train, "eval": ADAPTER.evaluate, "index_build": ADAPTER.build_index}[kind]
    with job_scope(kind, ADAPTER, options, workspace=workspace) as job:
        return job.finish(method(job.options, job))


@pytest.fixture(scope="module")
def taken(
    workspace: wb.Workspace, siglip: Path, model: Peer, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[wb.Result, Path]:
    file = tmp_path_factory.mktemp("ckpt") / "last.ckpt"
    write(file, model, weights_of(siglip), model_name=str(siglip))
    options = {"collection": str(source), "experiment": "peer", "name": "last", "from_checkpoint": str(file)}
    return run_job(workspace, "train", options), file


def test_the_run_has_the_refolded_and_the_separate_codes_and_says_what_it_cost(
    taken: tuple[wb.Result, Path], workspace: wb.Workspace, siglip: Path
) -> None:
    result, _ = taken
    run = workspace.run(result.made["run"])
    assert [one.name for one in run.checkpoints()] == ["best.safetensors", "separate.safetensors"]
    assert run.config["encoder"] == str(siglip)  # the backbone was frozen
    assert run.summary["val/R@10@128"]["last"] == result.metrics["val/R@10@128"]
    cost, apart, card = result.views
    assert (cost.title, apart.title, card.title) == ("What refolding costs", "Bits that differ", "Taken over")
    assert [row["length"] for row in cost.data["rows"]][-1] == "float cosine"
    assert all(row["of_float"] >= 0 for row in cost.data["rows"])
    assert any(row["image"] > 0 for row in apart.data["rows"])
    assert any("48 bits are left out" in one for one in result.warnings)
    assert any("trained on is unknown" in one for one in result.warnings)


def test_the_encoder_gives_the_codes_of_torch(
    taken: tuple[wb.Result, Path], workspace: wb.Workspace, siglip: Path, model: Peer
) -> None:
    run = workspace.run(taken[0].made["run"])
    collection = shapes.collection()
    pictures = [collection.open(row) for row in range(12)]
    from transformers import AutoModel, AutoProcessor

    library = AutoModel.from_pretrained(siglip).eval()
    with torch.no_grad():
        pixels = AutoProcessor.from_pretrained(siglip).image_processor(pictures, return_tensors="pt")
        made = library.get_image_features(pixels["pixel_values"])
        features = made if isinstance(made, torch.Tensor) else made.pooler_output
        margins = model.image_hash.margins(features)
    separate = HashEncoder.load(Path(run.checkpoint("separate.safetensors")))
    raw = separate.tower.features(pictures)
    np.testing.assert_allclose(raw, features.numpy(), atol=1e-5)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)  # at their own length
    for length, codes in separate.separate_codes("image", raw).items():
        theirs = margins[length].numpy()
        clear = np.abs(theirs) > 1e-4
        np.testing.assert_array_equal(np.unpackbits(codes, axis=1)[clear], (theirs >= 0)[clear])
    nested = HashEncoder.load(Path(run.checkpoint("best.safetensors")))
    encoded = nested.encode_images(pictures)
    np.testing.assert_allclose(np.linalg.norm(encoded.features, axis=1), 1, atol=1e-5)
    assert encoded.margins is not None
    np.testing.assert_array_equal(np.unpackbits(encoded.codes, axis=1), encoded.margins >= 0)
    assert nested.encode_texts(["red circle", "빨간 원"]).codes.shape == (2, 16)


def test_it_is_evaluated_indexed_searched_and_explained_unchanged(
    taken: tuple[wb.Result, Path], workspace: wb.Workspace
) -> None:
    run = taken[0].made["run"]
    report = run_job(workspace, "eval", {"run": run, "resamples": 10})
    assert "t2i/R@10@128" in report.metrics
    assert any("taken over from last.ckpt" in one for one in report.warnings)
    built = run_job(workspace, "index_build", {"run": run, "name": "peer"})
    assert built.made["checkpoint"] == "best.safetensors"
    searcher = workspace.open_search("peer")
    hits = searcher.by_text("red circle", k=3, bits=64)
    assert len(hits) == 3
    assert "of 128 bits differ" in searcher.explain("빨간 원", hits[0]).summary


def test_separate_codes_are_refused_with_what_to_use_instead(
    taken: tuple[wb.Result, Path], workspace: wb.Workspace
) -> None:
    options = {"run": taken[0].made["run"], "checkpoint": "separate.safetensors"}
    for kind in ("index_build", "eval"):
        named = {"name": "apart"} if kind == "index_build" else {}
        with pytest.raises(wb.BadInput, match="a code of its own for each length") as raised:
            run_job(workspace, kind, options | named)
        assert "best.safetensors" in raised.value.hint
    with pytest.raises(wb.BadInput, match="nothing can be trained as it was"):
        run_job(workspace, "eval", {"run": taken[0].made["run"], "single_length": True})


def test_a_trained_backbone_becomes_a_folder_of_its_own(siglip: Path, model: Peer, tmp_path: Path) -> None:
    changed = {name: value + 0.01 for name, value in weights_of(siglip).items()}
    read = read_lightning(write(tmp_path / "tuned.ckpt", model, changed, model_name=str(siglip)))
    for _ in range(2):  # the second time it is there
        name, words = encoder_of(read, str(siglip), tmp_path / "encoders")
    assert "was trained too" in words
    assert [one.name for one in (tmp_path / "encoders").iterdir()] == [Path(name).name]
    assert Path(name).name.startswith("tuned-")
    now = weights_of(Path(name))
    assert all(torch.equal(now[key], value) for key, value in changed.items())
    picture = [shapes.collection().open(0)]
    assert not np.allclose(image_tower(name).features(picture), image_tower(str(siglip)).features(picture))


def test_a_backbone_of_another_model_is_refused_by_name(siglip: Path, model: Peer, tmp_path: Path) -> None:
    weights = weights_of(siglip)
    key = sorted(weights)[0]
    for change, says in (
        ({key: None}, f"lacks the .* tensors of .*{key}"),
        ({"extra.weight": torch.ones(2)}, "has more than the .* tensors of .*: extra.weight"),
        ({key: torch.ones(3)}, f"backbone.{key} has shape \\(3,\\)"),
        ({key: weights[key] * float("nan")}, f"backbone.{key} holds values that are not finite"),
    ):
        backbone = {name: value for name, value in {**weights, **change}.items() if value is not None}
        read = read_lightning(write(tmp_path / "a.ckpt", model, backbone, model_name=str(siglip)))
        with pytest.raises(wb.CorruptFile, match=says):
            encoder_of(read, str(siglip), tmp_path / "encoders")
    assert not (tmp_path / "encoders").exists()


def test_what_keeps_it_from_beginning_is_said_before_the_job(
    workspace: wb.Workspace, source: Path, tmp_path: Path
) -> None:
    def problems(path: Path) -> list[tuple[str, str]]:
        options = ADAPTER.options("train").model_validate(
            {"collection": str(source), "from_checkpoint": str(path)}
        )
        return list(ADAPTER.find_problems("train", options, workspace))

    assert problems(write(tmp_path / "a.ckpt", peer())) == []
    assert problems(tmp_path / "b.ckpt") == [("from_checkpoint", f"{tmp_path / 'b.ckpt'}: no such file")]
    (tmp_path / "c.ckpt").write_text("x")
    assert "not a file that torch.save wrote" in problems(tmp_path / "c.ckpt")[0][1]


def test_a_model_that_is_not_here_is_named_with_what_to_do(
    workspace: wb.Workspace, source: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a.ckpt", peer(width=32), model_name="/no/such/model")
    options = {"collection": str(source), "from_checkpoint": str(tmp_path / "a.ckpt")}
    with pytest.raises(wb.BadInput, match=r"trained from '/no/such/model': no folder") as raised:
        run_job(workspace, "train", options)
    assert "with the option encoder" in raised.value.hint
