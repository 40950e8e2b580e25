"""Encoders of one's own: the same vectors as their library gives, and what is recorded and refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization import adapter as family
from adapters.vlm_quantization import job_inputs
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.evaluate import job as eval_job
from adapters.vlm_quantization.index import quick as index_job
from adapters.vlm_quantization.options import TrainOptions
from adapters.vlm_quantization.towers import openclip, openvino, pretrained, registry, torchvision, weights
from adapters.vlm_quantization.towers.features import (
    Encoding,
    collection_texts,
    picture_features,
    text_features,
)
from adapters.vlm_quantization.towers.pair import EncoderPair
from adapters.vlm_quantization.towers.torch_tower import TorchTower
from adapters.vlm_quantization.train import job as train_job
from tests.adapters.vlm_quantization import shapes
from tests.adapters.vlm_quantization.towers.small_models import OPENCLIP_CONFIG, TEXTS

FAMILIES = ("siglip", "siglip2", "clip", "openclip")

pytestmark = pytest.mark.filterwarnings(
    # transformers' own
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore::DeprecationWarning",
)


def pictures() -> list[Image.Image]:
    """Return an odd number of pictures: noise, grey, transparent, narrow, tiny, of the very size."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    return [
        noise,
        noise.convert("L"),
        Image.merge("RGBA", [*noise.split(), Image.linear_gradient("L").resize(noise.size)]),
        noise.resize((120, 9)),
        noise.resize((3, 3)),
        noise.resize((32, 32)),
        Image.new("RGB", (41, 77), "red"),
    ]


def own(model: str, models: Path, images: list[Image.Image], texts: list[str]) -> tuple[Any, Any]:
    """Return unit vectors by the library itself, one item at a time, as its documentation shows."""
    import torch

    folder = models / model
    rgb = [image.convert("RGB") for image in images]
    with torch.inference_mode():
        if model == "openclip":
            import open_clip

            network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
            tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
            network.eval()
            seen = torch.cat([network.encode_image(transform(image)[None]) for image in rgb])
            read = torch.cat([network.encode_text(tokenize([text])) for text in texts])
        else:
            from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

            network = AutoModel.from_pretrained(folder).eval()
            processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
            tokenizer = AutoTokenizer.from_pretrained(folder)
            rules: dict[str, Any] = {"return_tensors": "pt", "truncation": True}
            if model.startswith("siglip"):
                texts = [text.lower() for text in texts]
                rules |= {"padding": "max_length", "max_length": 64, "padding_side": "right"}
            made = [network.get_image_features(**processor(image, return_tensors="pt")) for image in rgb]
            seen = torch.cat([one.pooler_output for one in made])
            tokens = [tokenizer(text, **rules) for text in texts]
            if model.startswith("siglip"):
                tokens = [{"input_ids": one["input_ids"]} for one in tokens]
            read = torch.cat([network.get_text_features(**one).pooler_output for one in tokens])
    return tuple((x / x.norm(dim=1, keepdim=True)).numpy() for x in (seen, read))


def opened(model: str, models: Path) -> EncoderPair:
    return registry.encoder_pair(str(models / model))


# --- vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FAMILIES)
def test_vectors_are_those_of_the_library(model: str, models: Path) -> None:
    encoder, images = opened(model, models), pictures()
    assert encoder.text is not None
    assert encoder.aligned
    seen, read = own(model, models, images, TEXTS)
    got = encoder.image.features(images)
    assert got.shape == (7, encoder.image.dim)
    assert got.dtype == np.float32
    assert np.abs(got - seen).max() < 1e-5
    assert np.abs(encoder.text.features(TEXTS) - read).max() < 1e-5
    assert np.abs(seen[0] - seen[1]).max() > 0.01  # different pictures and texts, different vectors
    assert np.abs(read[0] - read[1]).max() > 0.001


@pytest.mark.parametrize("model", FAMILIES)
def test_vectors_do_not_depend_on_the_batch(
    model: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, images = opened(model, models), pictures()
    assert encoder.text is not None
    whole = encoder.image.features(images), encoder.text.features(TEXTS)
    monkeypatch.setattr(encoder.image, "batch", 3)
    monkeypatch.setattr(encoder.text, "batch", 2)
    parts = encoder.image.features(images), encoder.text.features(TEXTS)
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(one - other).max() < 1e-5
    assert encoder.image.features([]).shape == (0, encoder.image.dim)
    assert encoder.text.features([]).shape == (0, encoder.image.dim)


@pytest.mark.parametrize("model", ["siglip", "siglip2"])
def test_siglip_reads_capitals_as_small_letters_and_always_64_tokens(model: str, models: Path) -> None:
    texts = opened(model, models).text
    assert isinstance(texts, TorchTower)
    big, small = texts.features(["A RED Circle", "a red circle"])
    assert np.array_equal(big, small)
    tokens = texts.inputs(["a", "red circle"])
    assert {name: value.shape for name, value in tokens.items()} == {
        "input_ids": (2, pretrained.PADDED_LENGTH)
    }
    assert (tokens["input_ids"][:, -1] == tokens["input_ids"][0, -1]).all()  # padded on the right


def test_the_tokenizer_of_siglip2_alone_keeps_capitals(models: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models / "siglip2")
    assert tokenizer("RED")["input_ids"] != tokenizer("red")["input_ids"]


@pytest.mark.parametrize(("model", "most"), [("siglip2", 64), ("clip", 20), ("openclip", 16)])
def test_long_texts_are_cut_and_counted(model: str, most: int, models: Path) -> None:
    texts: Any = opened(model, models).text
    assert texts.most_tokens == most
    assert texts.cut_texts(TEXTS) == 1
    assert texts.cut_texts([]) == 0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("openclip:ViT-B-32:laion2b_s34b_b79k", ("ViT-B-32", "laion2b_s34b_b79k")),
        ("openclip:ViT-B-32:/a/b.safetensors", ("ViT-B-32", "/a/b.safetensors")),
        ("openclip:owner/model@v1", ("", "owner/model@v1")),
        ("openclip:/a/folder", ("", "/a/folder")),
    ],
)
def test_names_of_openclip_have_four_forms(name: str, parts: tuple[str, str]) -> None:
    assert openclip.split_name(name) == parts


def test_an_architecture_of_openclip_takes_a_weights_file(models: Path, tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "tiny-test.json").write_text(json.dumps(OPENCLIP_CONFIG))
    open_clip.add_model_config(tmp_path)
    file = models / "openclip" / "open_clip_model.safetensors"
    encoder = registry.encoder_pair(f"openclip:tiny-test:{file}")
    # another preprocessing, since a file has none of its own: only texts are the same
    assert np.allclose(encoder.text.features(["dog"]), opened("openclip", models).text.features(["dog"]))  # type: ignore[union-attr]
    assert encoder.image.fingerprint != opened("openclip", models).image.fingerprint
    assert list(encoder.about["files"]) == [file.name]
    with pytest.raises(wb.BadInput, match="no architecture 'ViT-none'"):
        registry.encoder_pair(f"openclip:ViT-none:{file}")
    with pytest.raises(wb.BadInput, match="knows no weights 'nope'") as caught:
        registry.encoder_pair("openclip:ViT-B-32:nope")
    assert "laion2b_s34b_b79k" in str(caught.value.hint)
    with pytest.raises(wb.BadInput, match="another activation") as caught:
        registry.encoder_pair("openclip:ViT-B-32:openai")
    assert "ViT-B-32-quickgelu:openai" in str(caught.value.hint)
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(wb.BadInput, match="only safetensors"):
        registry.encoder_pair(f"openclip:tiny-test:{tmp_path / 'w.pt'}")


# --- what is recorded and refused ---------------------------------------------------------------------------


def test_files_and_settings_are_recorded(models: Path) -> None:
    about = opened("siglip2", models).about
    assert about["type"] == "siglip"
    assert about["library"].startswith("transformers ")
    assert len(about["files"]["model.safetensors"]) == 64
    assert about["processor"]["size"] == {"height": 32, "width": 32}
    assert (about["tokens"], about["lower_case"], about["revision"]) == (64, True, "")
    assert json.loads(json.dumps(about)) == about


def test_a_changed_file_is_another_encoder(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models / "clip", tmp_path / "clip")
    before = registry.encoder_pair(str(folder))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.1, 0.1, 0.1]
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    after = registry.encoder_pair(str(folder))
    assert after.image.fingerprint != before.image.fingerprint
    assert before.image.fingerprint == opened("clip", models).image.fingerprint


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])


def _own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.MineConfig"}}
    (folder / "config.json").write_text(json.dumps(config))


def _one_tower(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 32}))


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_weights, "has no weights"),
        (_pickled, "only safetensors files are loaded"),
        (_truncated, "the weights cannot be read"),
        (_own_code, "cannot read the configuration of type 'mine'"),
        (_one_tower, "is a bert model"),
        (_no_config, "has no config.json"),
    ],
)
def test_folders_that_cannot_be_used_say_why(
    change: Callable[[Path], None], words: str, models: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(models / "clip", tmp_path / "clip")
    change(folder)
    with pytest.raises(wb.BadInput, match=words) as caught:
        registry.encoder_pair(str(folder)).image.features(pictures()[:1])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet", "unknown encoder 'resnet'"),
        ("/no/such/folder", "no folder '/no/such/folder'"),
        ("openclip:", "names no model"),
        ("openvino:resnet", "unknown encoder 'resnet'"),
        ("openvino:random", "no network that OpenVINO could execute"),
    ],
)
def test_unknown_names_say_which_there_are(name: str, words: str) -> None:
    with pytest.raises(wb.BadInput, match=words) as caught:
        registry.encoder_pair(name)
    assert caught.value.hint


def test_problems_are_found_before_a_training_begins(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models / "clip", tmp_path / "clip")
    _pickled(folder)
    for encoder, words in ((str(folder), "safetensors"), ("resnet", "unknown encoder"), ("packaged", "")):
        options = TrainOptions(encoder=encoder)
        problems = dict(family.find_problems("train", options, None))  # type: ignore[arg-type]
        assert words in problems.get("encoder", "")
        assert not words or "folder" in problems["encoder"]  # what to do
        assert bool(words) == bool(problems)


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_says_so(switch: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(switch, "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights._snapshot.cache_clear()
    with pytest.raises(wb.BadInput, match="switched off") as caught:
        registry.encoder_pair("owner/model@v1")
    assert "give the folder" in str(caught.value.hint)


def test_no_network_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import errors

    def unreachable(*_: Any, **__: Any) -> None:
        raise errors.LocalEntryNotFoundError("no connection")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    weights._snapshot.cache_clear()
    with pytest.raises(wb.BadInput, match="the hub could not be reached"):
        registry.encoder_pair("owner/model")


def test_a_hub_name_is_downloaded_once_with_its_revision(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = shutil.copytree(models / "clip", tmp_path / ("0" * 39 + "1"))
    asked: list[tuple[str, Any]] = []

    def download(repository: str, **rules: Any) -> str:
        asked.append((repository, rules["revision"]))
        assert not any("bin" in kind or "py" in kind for kind in rules["allow_patterns"])
        return str(commit)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    weights._snapshot.cache_clear()
    encoder = registry.encoder_pair("owner/model@v1")
    registry.encoder_pair("owner/model@v1")
    assert asked == [("owner/model", "v1")]
    assert encoder.about["revision"] == commit.name


def test_a_torchvision_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchvision.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(wb.BadInput, match=r"needs torchvision.*nms does not exist") as caught:
        torchvision.need_torchvision("OpenCLIP")
    assert "pip install" in str(caught.value.hint)
    torchvision.import_transformers()  # it does without


# --- options ------------------------------------------------------------------------------------------------


def test_an_encoder_brings_its_own_text_tower(models: Path) -> None:
    folder = str(models / "clip")
    assert TrainOptions(encoder=folder).text_tower == "own"
    assert TrainOptions(encoder=folder, text_tower="both").text_tower == "both"
    assert TrainOptions().encoder == "packaged"
    assert TrainOptions(encoder="random").text_tower == "ngrams"


def test_settings_of_earlier_runs_are_read() -> None:
    old = TrainOptions.model_validate({"image_tower": "efficientnet-lite0", "text_tower": "ngrams"})
    assert (old.encoder, old.text_tower) == ("packaged", "ngrams")
    assert TrainOptions.model_validate({"image_tower": "random"}).encoder == "random"
    with pytest.raises(ValueError, match="old name of encoder"):
        TrainOptions.model_validate({"image_tower": "random", "encoder": "packaged"})


def test_paths_become_absolute(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    folder = str(models.resolve() / "clip")
    file = f"{models.resolve()}/openclip/open_clip_model.safetensors"
    for given, stored in (
        ("clip", folder),
        ("openvino:clip", f"openvino:{folder}"),
        ("openclip:openclip", f"openclip:{models.resolve()}/openclip"),
        ("openclip:ViT-B-32:openclip/open_clip_model.safetensors", f"openclip:ViT-B-32:{file}"),
        ("openclip:ViT-B-32:laion2b_s34b_b79k", "openclip:ViT-B-32:laion2b_s34b_b79k"),
        ("owner/model@v1", "owner/model@v1"),
        ("packaged", "packaged"),
    ):
        assert TrainOptions(encoder=given).encoder == stored


# --- OpenVINO -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> EncoderPair:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(openvino.CACHE, str(tmp_path_factory.mktemp("converted")))
        return registry.encoder_pair(f"openvino:{models / 'clip'}")


def test_openvino_gives_nearly_the_vectors_of_torch(executed: EncoderPair, models: Path) -> None:
    plain = opened("clip", models)
    assert plain.text is not None
    assert executed.text is not None
    for one, other in (
        (executed.image.features(pictures()), plain.image.features(pictures())),
        (executed.text.features(TEXTS), plain.text.features(TEXTS)),
    ):
        assert (one * other).sum(1).min() > 0.998
    report = executed.about["openvino"]
    assert report["pictures"]["precision"] in openvino.PRECISIONS
    assert report["texts"]["cosine"] >= openvino.LEAST_COSINE
    assert executed.aligned
    assert executed.image.fingerprint == f"openvino/{plain.image.fingerprint}"


def test_a_conversion_is_kept_and_refused_where_vectors_differ(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower: Any = opened("clip", models).image
    samples = openvino.sample_pictures(3, 64)
    first = openvino.OpenVinoTower(tower, samples, tmp_path)
    monkeypatch.setattr(openvino, "_convert", None)  # not called again
    assert openvino.OpenVinoTower(tower, samples, tmp_path).cosine == first.cosine
    assert [folder.name[0] != "." for folder in tmp_path.iterdir()] == [True]  # nothing half-made is left
    monkeypatch.setattr(openvino, "LEAST_COSINE", 1.01)
    network = next(tmp_path.glob("*/network.xml"))
    with pytest.raises(wb.BadInput, match=r"other vectors than torch.*f32 [01]") as caught:
        openvino._compared(tower, samples, network)
    assert "torch executes it" in str(caught.value.hint)


def test_the_packaged_picture_network_runs_by_openvino(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(openvino.CACHE, str(tmp_path))
    fast, plain = registry.image_tower("openvino:packaged"), registry.image_tower("efficientnet-lite0")
    one, other = fast.features(pictures()), plain.features(pictures())
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.min() > 0.998


# --- the whole way ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def way(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[wb.Workspace, Path]]:
    """A workspace with a run, an evaluation and an index made with SigLIP 2 from a folder."""
    home = tmp_path_factory.mktemp("way")
    folder = shutil.copytree(models / "siglip2", home / "my model")
    options = shapes.options(encoder=str(folder), text_tower="auto", steps=20, validate_every=10)
    with pytest.MonkeyPatch.context() as patch, wb.Workspace(home / "results") as workspace:
        for module in (train_job, eval_job, index_job):
            patch.setattr(module, "open_collection", lambda *_, **__: shapes.collection())
        for task, settings in (
            ("train", options.model_dump()),
            ("eval", {"resamples": 50, "ks": [1, 3], "baselines": False}),
            ("index_build", {"name": "shapes"}),
        ):
            with wb.job_scope(task, "vlm_quantization", settings, workspace=workspace) as job:
                steps = {"train": "train", "eval": "evaluate", "index_build": "build_index"}
                job.finish(getattr(job.adapter, steps[task])(job.options, job))
        yield workspace, folder


def test_a_model_is_trained_evaluated_and_searched_from_its_folder(way: tuple[wb.Workspace, Path]) -> None:
    workspace, folder = way
    evaluation = workspace.jobs(type="eval")[0]
    assert evaluation.status == "succeeded"
    assert 0 <= evaluation.result.metrics["t2i/R@3@128"] <= 1
    adapter = wb.get_adapter("vlm_quantization")
    index = adapter.load_index(workspace.indexes / "shapes")
    plain = adapter.options("search")()
    hits = adapter.search_by_text(index, "RED circle", 5, plain).hits
    assert len(hits) == 5
    small = adapter.search_by_text(index, "red circle", 5, plain).hits
    assert [hit.id for hit in hits] == [hit.id for hit in small]
    picture = shapes.collection().open(0)
    assert adapter.search_by_image(index, picture, 3, plain).hits[0].id == shapes.collection().items[0].id
    assert index.encoder.checkpoint.config.text_tower == str(folder)


def test_a_run_and_its_checkpoint_record_the_files(way: tuple[wb.Workspace, Path]) -> None:
    workspace, folder = way
    run = workspace.runs()[0]
    assert run.config["encoder"] == str(folder)
    assert run.config["text_tower"] == "own"
    record = run.config[train_job.ENCODER_RECORD]
    provenance = job_inputs.open_encoder(run, "best.safetensors", family).checkpoint.provenance
    assert record == provenance.encoder == dict(registry.encoder_pair(str(folder)).about)
    assert provenance.tower != provenance.text_tower


def test_reports_name_the_encoder(way: tuple[wb.Workspace, Path]) -> None:
    workspace, _ = way
    notes = workspace.jobs(type="train")[0].result.views[-1].notes
    assert any(note.startswith("Encoder: siglip by transformers") for note in notes)
    card = workspace.jobs(type="eval")[0].result.views[-1]
    assert "Encoder model.safetensors (SHA-256)" in [row["name"] for row in card.data["rows"]]


def test_long_captions_are_counted(models: Path) -> None:
    collection = shapes.collection()
    texts = opened("clip", models).text
    assert train_job.cut_note(collection, texts) == ""
    assert train_job.cut_note(collection, registry.text_tower("random")) == ""
    long = replace(collection.items[0], captions={"en": ("red circle " * 30,)})
    longer = CaptionedImages("long", [long, *collection.items[1:]])
    assert "1 of 49 caption is too long" in train_job.cut_note(longer, texts)
    assert "first 20 tokens" in train_job.cut_note(longer, texts)


def test_openvino_is_reported() -> None:
    executed = {"precision": "bf16", "cosine": 0.99997}
    about = {"type": "clip", "library": "transformers 5", "revision": "abc", "openvino": {"texts": executed}}
    notes = train_job.encoder_notes(about)
    assert notes[0] == "Encoder: clip by transformers 5, revision abc."
    assert "texts in bf16" in notes[1]
    assert "0.99997" in notes[1]
    assert train_job.encoder_notes({}) == []


def test_a_long_query_is_said_to_be_cut(way: tuple[wb.Workspace, Path]) -> None:
    workspace, _ = way
    adapter = wb.get_adapter("vlm_quantization")
    index = adapter.load_index(workspace.indexes / "shapes")
    plain = adapter.options("search")()
    note = adapter.search_by_text(index, "red circle and blue square " * 20, 3, plain).note
    assert "only its first 64 tokens were read" in note
    assert "tokens" not in adapter.search_by_text(index, "red circle", 3, plain).note


def test_a_checkpoint_refuses_a_changed_folder(way: tuple[wb.Workspace, Path]) -> None:
    workspace, folder = way
    encoder = job_inputs.open_encoder(workspace.runs()[0], "best.safetensors", family)
    settings = (folder / "preprocessor_config.json").read_text()
    try:
        (folder / "preprocessor_config.json").write_text(settings.replace("0.5", "0.4"))
        with pytest.raises(wb.CorruptFile, match=r"other files: preprocessor_config\.json") as caught:
            encoder.encode_images([shapes.collection().open(0)])
        assert "Put back the files" in str(caught.value.hint)
        with pytest.raises(wb.CorruptFile, match="text network"):
            encoder.encode_texts(["red circle"])
    finally:
        (folder / "preprocessor_config.json").write_text(settings)
    moved = folder.rename(folder.with_name("moved"))
    try:
        with pytest.raises(wb.CorruptFile, match="cannot be used: no folder"):
            encoder.encode_texts(["red circle"])
    finally:
        moved.rename(folder)


def test_the_batch_size_changes_vectors_by_rounding_only(tmp_path: Path, models: Path) -> None:
    collection = shapes.collection()
    image = registry.encoder_pair(str(models / "siglip")).image
    text: Any = registry.encoder_pair(str(models / "clip")).text
    texts = collection_texts(collection)
    found = []
    for size in (0, 1, 7, 64):
        said: list[str] = []
        how = Encoding(batch_size=size, say=said.append)
        pictures = picture_features(collection, image, tmp_path / str(size), how=how)
        words = text_features(texts, text, tmp_path / str(size), how=how)
        ends = [one for one in said if " at a time" in one]
        assert len(ends) == 2
        assert size == 0 or f" {size} at a time" in ends[0]
        found.append((pictures, words))
    for pictures, words in found[1:]:
        assert np.abs(pictures - found[0][0]).max() < 1e-6
        assert np.abs(words - found[0][1]).max() < 1e-6
