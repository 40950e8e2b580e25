import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from adapters.vlm_quantization.encoding.checkpoint import MAX_BYTES, ModelConfig, Provenance, read_checkpoint
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.model import CrossModalHashModel
from adapters.vlm_quantization.towers.dummy import DummyTextModel

SMALL = ModelConfig(
    image_tower="random", image_dim=64, image_components=8, hidden=16, dim=12, text_buckets=64, text_width=8
)


@pytest.fixture
def model() -> CrossModalHashModel:
    torch.manual_seed(3)
    model = CrossModalHashModel(SMALL)
    model.fit_components(np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32))
    model.train()
    for _ in range(5):  # moves the thresholds away from their initial values
        model.image_code(model.image_vectors(torch.randn(32, 8)))
        model.text_code(model.text_vectors(*model.text_rows(["red", "blue circle", "강아지", "비"])))
    return model.eval()


@pytest.fixture
def path(model: CrossModalHashModel, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    model.save(path, Provenance(tower="random/0", data="d", split="s", seed=3, step=7))
    return path


def test_a_checkpoint_round_trips(model: CrossModalHashModel, path: Path) -> None:
    checkpoint = read_checkpoint(path)
    assert checkpoint.config == SMALL
    assert checkpoint.provenance.step == 7
    texts = ["a red circle", "강아지 얼굴", ""]
    features = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    encoder, again = HashEncoder.load(path), CrossModalHashModel.load(path)
    with torch.no_grad():
        for other in (model, again):
            vectors = other.image_vectors(other.components(torch.from_numpy(features)))
            text_vectors = other.text_vectors(*other.text_rows(texts))
            assert np.allclose(encoder.encode_features(features).features, vectors.numpy(), atol=1e-5)
            assert np.allclose(encoder.encode_texts(texts).features, text_vectors.numpy(), atol=1e-5)
            assert np.array_equal(encoder.encode_features(features).codes, other.image_code.codes(vectors))
            assert np.array_equal(encoder.encode_texts(texts).codes, other.text_code.codes(text_vectors))


@pytest.mark.parametrize("ngrams", [True, False])
def test_a_model_with_a_frozen_text_tower_round_trips(tmp_path: Path, ngrams: bool) -> None:
    tower = DummyTextModel()
    config = SMALL.model_copy(
        update={
            "ngrams": ngrams,
            "ngram_softness": 4.0,
            "text_tower": "random",
            "text_dim": 64,
            "text_components": 10,
        }
    )
    torch.manual_seed(4)
    model = CrossModalHashModel(config)
    texts = ["a red circle", "강아지 얼굴", "blue", "?!"] + [f"word{number}" for number in range(20)]
    model.fit_text_components(tower.features(texts))
    model.eval()
    path = tmp_path / "model.safetensors"
    model.save(path, Provenance(text_tower=tower.fingerprint, text_languages=("en", "ko")))
    encoder, again = HashEncoder.load(path), CrossModalHashModel.load(path)
    assert ("text.embedding" in encoder.checkpoint.tensors) == ngrams
    assert encoder.checkpoint.provenance.text_languages == ("en", "ko")
    encoded = encoder.encode_texts(texts)
    with torch.no_grad():
        for other in (model, again):
            components = other.text_components(torch.from_numpy(tower.features(texts)))
            rows = other.text_rows(texts) if ngrams else (None, None)
            vectors = other.text_vectors(*rows, components)
            assert np.allclose(encoded.features, vectors.numpy(), atol=1e-5)
            assert np.array_equal(encoded.codes, other.text_code.codes(vectors))
        with pytest.raises(ValueError, match="needs the"):
            model.text_vectors(*model.text_rows(texts))


def test_another_text_tower_than_trained_on_is_refused(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"text_tower": "random", "text_dim": 64, "text_components": 10})
    path = tmp_path / "model.safetensors"
    CrossModalHashModel(config).eval().save(path, Provenance(text_tower="random/9"))
    encoder = HashEncoder.load(path)
    with pytest.raises(wb.CorruptFile, match="random/0/4096, but the model was trained with random/9"):
        encoder.encode_texts(["red"])


def test_a_file_of_the_first_format_is_a_model_of_ngrams(path: Path) -> None:
    new = (
        "ngrams",
        "ngram_softness",
        "text_tower",
        "text_dim",
        "text_components",
        "languages",
        "text_languages",
    )

    def first_format(header: dict) -> None:
        about = header["__metadata__"]
        about["format"] = "nested-code-model/1"
        for part in ("config", "provenance"):
            values = json.loads(about[part])
            about[part] = json.dumps({name: value for name, value in values.items() if name not in new})

    expected = HashEncoder.load(path).encode_texts(["red", "비"])
    rewrite_header(path, first_format)
    encoder = HashEncoder.load(path)
    assert encoder.text_tower is None
    assert np.array_equal(encoder.encode_texts(["red", "비"]).codes, expected.codes)


def test_the_encoder_needs_no_training_library(path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, pathlib; from adapters.vlm_quantization.encoding.encoder import HashEncoder;"
        f"encoder = HashEncoder.load(pathlib.Path({str(path)!r}));"
        "assert encoder.encode_texts(['비']).codes.shape == (1, 16);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])


def rewrite_header(path: Path, change: object) -> None:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def with_config(**changes: object) -> object:
    def change(header: dict) -> None:
        config = json.loads(header["__metadata__"]["config"]) | changes
        header["__metadata__"]["config"] = json.dumps(config)

    return change


def other_format(header: dict) -> None:
    header["__metadata__"]["format"] = "nested-code-model/9"


def no_metadata(header: dict) -> None:
    del header["__metadata__"]


def renamed(header: dict) -> None:
    header["image.middle"] = header.pop("image.mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_format, "nested-code-model/9"),
        (no_metadata, "format None"),
        (renamed, "image.mean, image.middle"),
        (with_config(hidden=17), "not F32"),
        (with_config(hidden="many"), "hidden"),
        (with_config(hidden=10**9), "hidden"),
        (with_config(surprise=1), "surprise"),
        (with_config(ngrams=False), "n-grams, a text tower, or both"),
        (with_config(text_tower="random"), "must be set together"),
    ],
)
def test_an_inconsistent_file_is_named(path: Path, change: object, message: str) -> None:
    rewrite_header(path, change)
    with pytest.raises(wb.CorruptFile, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(wb.CorruptFile, match="not a readable"):
        read_checkpoint(path)


def test_an_altered_weight_is_detected(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(wb.CorruptFile, match="altered"):
        read_checkpoint(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(wb.CorruptFile, match="not a readable"):
        read_checkpoint(path)


def test_a_missing_or_huge_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(wb.CorruptFile, match="no such file"):
        read_checkpoint(tmp_path / "none.safetensors")
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no disk space
    with pytest.raises(wb.CorruptFile, match=f"at most {MAX_BYTES:,}"):
        read_checkpoint(huge)


def test_a_nan_weight_is_refused(model: CrossModalHashModel, tmp_path: Path) -> None:
    with torch.no_grad():
        model.embedding.weight[0, 0] = torch.nan
    path = tmp_path / "nan.safetensors"
    model.save(path, Provenance())
    with pytest.raises(wb.CorruptFile, match="finite"):
        read_checkpoint(path)


def test_another_picture_network_than_trained_on_is_refused(
    model: CrossModalHashModel, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    model.save(path, Provenance(tower="random/99"))
    with pytest.raises(wb.CorruptFile, match=r"random/0.*trained with random/99"):
        HashEncoder.load(path).encode_images([])
