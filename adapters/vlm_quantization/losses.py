"""What training minimises: contrast at every code length, and terms that keep bits useful."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from adapters.vlm_quantization.hash_layer import sign_straight_through

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def contrastive(scores: Tensor, positives: Tensor) -> Tensor:
    """Symmetric contrastive loss with several positives a row and a column.

    Each row's target is spread evenly over its positives, as in supervised contrastive learning (Khosla et
    al., NeurIPS 2020, the variant with the mean outside the logarithm); rows or columns without a positive
    count nothing.

    Parameters
    ----------
    scores : Tensor, float, shape (n, m)
        Similarity divided by a temperature.
    positives : Tensor, bool, shape (n, m)
        Which pairs belong together.

    Returns
    -------
    Tensor, float, scalar
        Mean of the two directions, in nats.
    """
    return (_one_way(scores, positives) + _one_way(scores.T, positives.T)) / 2


def _one_way(scores: Tensor, positives: Tensor) -> Tensor:
    count = positives.sum(1)
    some = count > 0
    log_share = F.log_softmax(scores, dim=1)
    each = -(log_share * positives).sum(1) / count.clamp(min=1)
    return each[some].mean() if bool(some.any()) else scores.sum() * 0


def nested_contrastive(
    queries: Tensor, gallery: Tensor, positives: Tensor, weights: Mapping[int, float], temperature: float
) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the weighted contrastive loss over all code lengths, and each length's own.

    Parameters
    ----------
    queries, gallery : Tensor, float, shape (n, 128) and (m, 128)
        Margins; their signs are compared, with the straight-through gradient.
    positives : Tensor, bool, shape (n, m)
    weights : mapping of length to weight
        Lengths in bits; weights are divided by their sum.
    temperature : float
        Of the similarity ``1 - 2 d / length`` at 128 bits, where d is the Hamming distance. A shorter code
        has fewer steps between the same ends, so its temperature grows with sqrt(128 / length).
    """
    left, right = sign_straight_through(queries), sign_straight_through(gallery)
    losses: dict[int, Tensor] = {}
    for length in weights:
        similarity = left[:, :length] @ right[:, :length].T / length
        losses[length] = contrastive(similarity / (temperature * (128 / length) ** 0.5), positives)
    total = sum(weights.values())
    return torch.stack([losses[n] * (w / total) for n, w in weights.items()]).sum(), losses


def distillation(
    margins_a: Tensor, margins_b: Tensor, teacher: Tensor, length: int, temperature: float
) -> Tensor:
    """Cross entropy between the teacher's ranking of a batch and that of the codes of one length.

    Parameters
    ----------
    margins_a, margins_b : Tensor, float, shape (n, 128) and (m, 128)
    teacher : Tensor, float, shape (n, m)
        Scores already divided by the teacher's temperature; no gradient flows into them.
    """
    a, b = sign_straight_through(margins_a[:, :length]), sign_straight_through(margins_b[:, :length])
    scores = a @ b.T / length / (temperature * (128 / length) ** 0.5)
    target = teacher.detach()
    rows = -(target.softmax(1) * F.log_softmax(scores, 1)).sum(1).mean()
    columns = -(target.softmax(0) * F.log_softmax(scores, 0)).sum(0).mean()
    return (rows + columns) / 2


def quantisation(margins: Tensor) -> Tensor:
    """Mean squared distance of margins from their signs: small when signs lose little."""
    return (margins.abs() - 1).square().mean()


def balance(margins: Tensor) -> Tensor:
    """Mean squared average of each bit's sign over the batch: zero when each bit is on half the time."""
    return sign_straight_through(margins).mean(0).square().mean()


def decorrelation(margins: Tensor) -> Tensor:
    """Mean squared correlation between different bits over the batch: small when no two say the same."""
    codes = sign_straight_through(margins)
    gram = codes.T @ codes / len(codes)
    return (gram - torch.diag(gram.diagonal())).square().mean()
