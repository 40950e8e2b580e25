import numpy as np
import pytest
import torch

from adapters.vlm_quantization.encoding.checkpoint import ModelConfig
from adapters.vlm_quantization.model import CrossModalHashModel, Dropout


def features(stroke: np.ndarray, thing: np.ndarray, seed: int) -> np.ndarray:
    """Return six features: four that follow the stroke of a drawing, two that follow what it shows."""
    noise = np.random.default_rng(seed).standard_normal((*stroke.shape, 6)) / 10
    return (np.stack([stroke] * 4 + [thing] * 2, axis=-1) + noise).astype(np.float32)


def drawn(n: int, seed: int) -> np.ndarray:
    """Return two drawings of each of n things: with different strokes, but of the same thing."""
    rng = np.random.default_rng(seed)
    thing = np.repeat(rng.standard_normal((n, 1)), 2, axis=1)
    return features(rng.standard_normal((n, 2)), thing, seed)


def fitted(drawings: np.ndarray | None = None, agreement: float = 0.0) -> CrossModalHashModel:
    config = ModelConfig(
        image_tower="random", image_dim=6, image_components=6, hidden=4, dim=4, text_buckets=16, text_width=4
    )
    model = CrossModalHashModel(config)
    model.fit_components(drawn(400, 0).reshape(-1, 6), drawings, agreement)
    return model


def test_components_in_which_drawings_differ_count_less() -> None:
    def thing_to_stroke(model: CrossModalHashModel) -> float:
        line, zero = np.linspace(-1, 1, 50), np.zeros(50)
        widths = [
            np.linalg.norm(model.components(torch.from_numpy(x)).numpy().std(0))
            for x in (features(zero, line, 1), features(line, zero, 1))
        ]
        return float(widths[0] / widths[1])

    plain = thing_to_stroke(fitted())
    weighed = [thing_to_stroke(fitted(drawn(300, 2), agreement)) for agreement in (0.5, 1.0)]
    assert plain * 1.5 < weighed[0]
    assert weighed[0] * 1.5 < weighed[1]


@pytest.mark.parametrize(
    ("drawings", "agreement"), [(None, 0.5), (np.zeros((0, 2, 6), np.float32), 0.5), ("some", 0.0)]
)
def test_without_pairs_or_weight_components_stay_as_they_are(drawings: object, agreement: float) -> None:
    if isinstance(drawings, str):
        drawings = np.random.default_rng(2).standard_normal((9, 2, 6)).astype(np.float32)
    model = fitted(drawings, agreement)
    assert torch.equal(model.image_projection, fitted().image_projection)


def test_components_are_one_wide_on_average_and_finite_where_drawings_are_the_same() -> None:
    same = np.repeat(np.random.default_rng(3).standard_normal((9, 1, 6)), 2, axis=1).astype(np.float32)
    model = fitted(same, 0.5)
    whole = model.components(torch.from_numpy(drawn(400, 0).reshape(-1, 6))).numpy()
    assert np.isfinite(whole).all()
    assert whole.std() == pytest.approx(1, abs=0.01)


def test_dropout_leaves_out_its_share_makes_up_for_it_and_passes_gradients() -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 333, requires_grad=True)
    y = Dropout(0.25)(x)
    kept = y != 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.005)
    assert torch.allclose(y[kept], torch.tensor(4 / 3))
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    # none of the eight entries that share a number is left out more often
    shares = kept.flatten()[: kept.numel() // 8 * 8].view(-1, 8).float().mean(0)
    assert shares.sub(0.75).abs().max() < 0.015
    assert torch.equal(Dropout(0.25).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_beside_frozen_features_ngrams_that_were_never_trained_add_nothing() -> None:
    config = ModelConfig(
        image_tower="random",
        image_dim=6,
        image_components=6,
        hidden=4,
        dim=4,
        text_buckets=4096,
        text_width=8,
        text_tower="random",
        text_dim=64,
        text_components=5,
        ngram_softness=4,
    )
    torch.manual_seed(0)
    model = CrossModalHashModel(config).eval()
    known, new = model.text_rows(["red"]), model.text_rows(["zebra"])
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.embedding.weight[known[0]] = 3.0
        components = torch.randn(1, 5)
        alone = model.text(torch.cat([torch.zeros(1, 8), components], 1))
        assert torch.allclose(model.text_vectors(*new, components), alone)
        assert not torch.allclose(model.text_vectors(*known, components), alone, atol=1e-2)
