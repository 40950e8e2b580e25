import math
from collections.abc import Sequence

import pytest
import torch

from adapters.vlm_quantization.train import losses


def contrastive(scores: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    return losses.cross_entropy(losses.log_shares(scores), losses.spread(positives))


def by_codes(
    texts: torch.Tensor, pictures: torch.Tensor, length: int, temperature: float, targets: losses.Targets
) -> torch.Tensor:
    scores = losses.code_scores(texts, pictures, [length], temperature)[length]
    return losses.cross_entropy(losses.log_shares(scores), targets)


def slow_contrastive(scores: torch.Tensor, positives: torch.Tensor) -> float:
    """From the definition, one row and one column at a time."""

    def one_way(rows: list[list[float]], marks: list[list[bool]]) -> float:
        each = []
        for row, mark in zip(rows, marks, strict=True):
            total = sum(math.exp(value) for value in row)
            logs = [math.log(math.exp(value) / total) for value, on in zip(row, mark, strict=True) if on]
            if logs:
                each.append(-sum(logs) / len(logs))
        return sum(each) / len(each)

    return (
        one_way(scores.tolist(), positives.tolist()) + one_way(scores.T.tolist(), positives.T.tolist())
    ) / 2


@pytest.mark.parametrize("seed", range(5))
def test_contrastive_matches_its_definition_with_several_positives_and_none(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 4, generator=generator)
    positives = torch.rand(5, 4, generator=generator) < 0.4
    positives[0, 0] = True
    positives[1] = False  # a text that does not describe any concept in the batch
    assert contrastive(scores, positives).item() == pytest.approx(slow_contrastive(scores, positives))


def test_no_positive_at_all_is_zero_and_has_a_gradient() -> None:
    scores = torch.randn(3, 3, requires_grad=True)
    loss = contrastive(scores, torch.zeros(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.abs().sum() == 0


def test_right_pairs_cost_less_at_every_length() -> None:
    torch.manual_seed(0)
    margins = torch.randn(32, 128)
    marks = losses.spread(torch.eye(32, dtype=torch.bool))
    for length in (8, 64, 128):
        right = by_codes(margins, margins, length, 0.1, marks)
        assert right < by_codes(margins, margins.roll(1, 0), length, 0.1, marks)


@pytest.mark.parametrize("lengths", [(8, 16, 32, 64, 128), (16, 128), (64,)])
def test_scores_of_all_lengths_are_those_of_each_prefix(lengths: Sequence[int]) -> None:
    torch.manual_seed(0)
    texts, pictures = torch.randn(5, 128), torch.randn(7, 128)
    scores = losses.code_scores(texts, pictures, lengths, 0.1)
    assert list(scores) == list(lengths)
    for length, actual in scores.items():
        signs = [torch.where(x[:, :length] >= 0, 1.0, -1.0) for x in (texts, pictures)]
        apart = (signs[0][:, None] != signs[1][None]).sum(2)
        expected = (1 - 2 * apart / length) / (0.1 * math.sqrt(128 / length))
        assert torch.allclose(actual, expected, atol=1e-5)


def test_balance_quantisation_and_decorrelation_are_zero_where_they_should_be() -> None:
    hadamard = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert losses.balance(hadamard).item() == 0
    assert losses.quantisation(hadamard).item() == 0
    assert losses.decorrelation(hadamard).item() == 0
    same = torch.ones(4, 3)
    assert losses.balance(same).item() == 1
    assert losses.decorrelation(same).item() == pytest.approx(6 / 9)


def test_distillation_is_lower_when_codes_rank_like_the_teacher() -> None:
    torch.manual_seed(0)
    margins = torch.randn(16, 128)
    codes = torch.where(margins >= 0, 1.0, -1.0)
    teacher = codes @ codes.T / 128 / 0.05
    targets = losses.softened(teacher)
    good = by_codes(margins, margins, 128, 0.05, targets)
    bad = by_codes(margins, margins.roll(1, 0), 128, 0.05, targets)
    assert good < bad


@pytest.mark.parametrize("length", [8, 16, 32, 64, 128])
def test_a_length_has_gradients_only_for_its_own_bits(length: int) -> None:
    torch.manual_seed(0)
    texts, pictures = (torch.randn(12, 128).clamp(-0.9, 0.9).requires_grad_() for _ in range(2))
    positives = torch.eye(12, dtype=torch.bool)
    contrast = by_codes(texts, pictures, length, 0.1, losses.spread(positives))
    distillation = by_codes(texts, pictures, length, 0.1, losses.softened(torch.randn(12, 12)))
    for loss in (contrast, distillation):
        for gradient in torch.autograd.grad(loss, (texts, pictures)):
            assert (gradient[:, :length] != 0).any(0).all()
            assert (gradient[:, length:] == 0).all()


def test_the_teacher_gets_no_gradient() -> None:
    torch.manual_seed(0)
    margins = torch.randn(6, 128).clamp(-0.9, 0.9).requires_grad_()
    vectors = torch.randn(6, 4, requires_grad=True)
    by_codes(margins, margins, 64, 0.1, losses.softened(vectors @ vectors.T)).backward()
    assert margins.grad.abs().sum() > 0
    assert vectors.grad is None


def test_distillation_has_the_gradient_of_a_cross_entropy() -> None:
    """With margins inside the clamp, the gradient is the difference of shares, student minus teacher."""
    torch.manual_seed(0)
    texts, pictures = (torch.randn(5, 8, dtype=torch.float64).clamp(-0.9, 0.9) for _ in range(2))
    texts.requires_grad_()
    teacher = torch.randn(5, 5, dtype=torch.float64)
    by_codes(texts, pictures, 8, 0.5, losses.softened(teacher)).backward()
    signs_a, signs_b = (torch.where(x >= 0, 1.0, -1.0).double() for x in (texts.detach(), pictures))
    scale = 8 * 0.5 * (128 / 8) ** 0.5
    scores = signs_a @ signs_b.T / scale
    slope = sum((scores.softmax(way) - teacher.softmax(way)) / 5 for way in (0, 1)) / 2
    assert torch.allclose(texts.grad, slope @ signs_b / scale)


def test_consistency_is_the_weighted_share_of_differing_bits_and_pulls_views_together() -> None:
    one = torch.full((2, 128), 0.5)
    other = one.clone()
    other[0, :4] = -0.5  # 4 of 8 bits of one of two pictures
    other.requires_grad_()
    assert losses.consistency(one, other, {8: 1.0}).item() == pytest.approx(0.25)
    assert losses.consistency(one, other, {8: 0.5, 128: 0.5}).item() == pytest.approx(0.5 * (0.25 + 4 / 256))
    losses.consistency(one, other, {8: 1.0}).backward()
    assert other.grad is not None
    assert (other.grad[:, :8] < 0).all(), "towards the sign of the other view"
    assert losses.consistency(one, one, {8: 1.0}).item() == 0
