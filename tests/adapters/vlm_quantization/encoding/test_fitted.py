"""Codes without training: a frozen encoder, and a map that is fitted to pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.encoding import fitted
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.encoding.fitted import FIT_SAMPLE, FORMAT, FittedEncoder, fit_codes, open_model
from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.pair import EncoderPair
from tests.adapters.vlm_quantization import shapes


def features(n: int = 60, width: int = 64) -> np.ndarray:
    """Features of ten kinds of things, the first of each kind in the first ten rows."""
    random = np.random.default_rng(3)
    kinds = random.standard_normal((10, width))
    return (np.resize(kinds, (n, width)) + 0.2 * random.standard_normal((n, width))).astype(np.float32)


@pytest.fixture
def pair() -> EncoderPair:
    return EncoderPair("random", DummyVisionModel(), DummyTextModel())


def test_a_fitted_map_round_trips_and_opens_like_a_checkpoint(pair: EncoderPair, tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    made = fit_codes(path, pair, features(), data="d", seed=5)
    opened = VlmQuantization().load_model(path)
    assert isinstance(opened, FittedEncoder)
    assert (opened.fingerprint, opened.name, opened.dim) == (made.fingerprint, "random", 64)
    assert opened.bits == CODE_LENGTHS
    assert (opened.provenance.pictures, opened.provenance.seed, opened.provenance.data) == (60, 5, "d")
    assert np.array_equal(opened.encode_features(features()).codes, made.encode_features(features()).codes)
    pictures = [shapes.collection().open(row) for row in range(3)]
    encoded = opened.encode_images(pictures)
    assert encoded.codes.shape == (3, 16)
    assert np.allclose(np.linalg.norm(encoded.features, axis=1), 1, atol=1e-5)
    with pytest.raises(wb.CorruptFile, match="this version reads"):
        HashEncoder.load(path)


def test_the_same_pictures_and_seed_write_the_same_bytes(pair: EncoderPair, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit_codes(tmp_path / name, pair, features(), seed=seed)
    one, other, third = ((tmp_path / name).read_bytes() for name in "abc")
    assert one == other
    assert one != third


@pytest.mark.parametrize("method", ["itq", "sign"])
def test_each_prefix_finds_things_of_the_same_kind(pair: EncoderPair, tmp_path: Path, method: str) -> None:
    encoder = fit_codes(tmp_path / "map", pair, features(), method=method)  # type: ignore[arg-type]
    bits = np.unpackbits(encoder.encode_features(features()).codes, axis=1)
    kinds = np.arange(60) % 10
    for length, least in ((8, 0.5), (16, 0.6), (64, 0.7), (128, 0.7)):  # chance is .08
        distance = (bits[:, None, :length] != bits[:, :length]).sum(axis=2)
        np.fill_diagonal(distance, 999)
        found = kinds[np.argsort(distance, axis=1)[:, :5]] == kinds[:, None]
        assert found.mean() >= least, (length, found.mean())
    shares = bits.mean(axis=0)
    assert ((shares > 0.05) & (shares < 0.95)).all()  # each side is centred, so no bit is the same for all


def test_wide_features_of_pictures_alone_are_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted, "COMPONENTS", 20)
    encoder = fit_codes(tmp_path / "map", EncoderPair("random", DummyVisionModel()), features())
    assert encoder.dim == 20
    assert encoder.encode_features(features()).features.shape == (60, 20)
    assert not encoder.knows_words
    with pytest.raises(wb.BadInput, match="no texts"):
        encoder.encode_texts(["a dog"])


class Aligned(DummyTextModel):
    """Texts in the space of the pictures, apart from them as in real models."""

    languages = ("en", "ko")

    def features(self, texts):  # type: ignore[no-untyped-def]
        rows = {text: row for row, text in enumerate(f"kind {n}" for n in range(10))}
        away = np.zeros(64, np.float32)
        away[0] = 20
        own = np.stack([features()[rows.get(text, len(text) % 10)] for text in texts])
        return (own + away) / np.linalg.norm(own + away, axis=1, keepdims=True)


def test_texts_of_the_same_space_are_centred_on_their_own_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"kind {n}" for n in range(10)]
    monkeypatch.setattr(fitted, "text_tower", lambda _: Aligned())
    for given in (texts, ()):
        encoder = fit_codes(
            tmp_path / "map", EncoderPair("random", DummyVisionModel(), Aligned(), aligned=True), features(),
            texts=given,
        )  # fmt: skip
        assert encoder.knows_words
        assert encoder.languages == ("en", "ko")
        pictures = np.unpackbits(encoder.encode_features(features()).codes, axis=1)
        asked = np.unpackbits(encoder.encode_texts(texts).codes, axis=1)
        best = (asked[:, None] != pictures).sum(axis=2).argmin(axis=1) % 10
        assert (best == np.arange(10)).mean() >= (0.9 if given else 0.6)


def test_equal_pictures_have_a_direction(pair: EncoderPair, tmp_path: Path) -> None:
    same = np.repeat(features(1), 20, axis=0)
    encoder = fit_codes(tmp_path / "map", pair, same)
    assert np.allclose(np.linalg.norm(encoder.encode_features(same).features, axis=1), 1)
    assert np.allclose(np.linalg.norm(encoder.encode_features(same * 0).features, axis=1), 1)
    with pytest.raises(wb.BadInput, match="without pictures"):
        fit_codes(tmp_path / "map", pair, features()[:0])


def test_a_damaged_or_foreign_file_is_refused(pair: EncoderPair, tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    fit_codes(path, pair, features())
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(wb.CorruptFile, match=r"checksum|readable"):
        open_model(path)
    path.write_bytes(whole)
    tensors = load_file(path)
    tensors.pop("code.weight")
    save_file(tensors, path, {"format": FORMAT, "config": "{}", "provenance": "{}"})
    with pytest.raises(wb.CorruptFile, match="invalid configuration: encoder"):
        open_model(path)
    for content in (b"", b"no model"):
        path.write_bytes(content)
        with pytest.raises(wb.CorruptFile):
            open_model(path)
    path.unlink()
    with pytest.raises(wb.CorruptFile, match="no such file"):
        open_model(path)


def test_another_encoder_than_the_fitted_one_is_refused(
    pair: EncoderPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fit_codes(tmp_path / "map", pair, features())
    monkeypatch.setattr(fitted, "image_tower", lambda _: DummyVisionModel(seed=9))
    with pytest.raises(wb.CorruptFile, match="random/9 now"):
        encoder.encode_images([shapes.collection().open(0)])


def test_an_encoder_that_is_gone_is_the_indexs_fault_and_not_the_querys(
    pair: EncoderPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = fit_codes(tmp_path / "map", pair, features())

    def gone(name: str) -> None:
        raise wb.BadInput(f"no folder {name!r}")

    monkeypatch.setattr(fitted, "image_tower", gone)
    with pytest.raises(wb.CorruptFile, match="the frozen network cannot be used: no folder"):
        encoder.encode_images([shapes.collection().open(0)])


def test_the_sample_is_bounded() -> None:
    assert 1_000 <= FIT_SAMPLE <= 10_000
