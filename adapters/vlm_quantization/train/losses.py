"""The training loss: a contrastive term at every code length, and terms that keep the bits useful."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.vlm_quantization.codes import CODE_BITS
from adapters.vlm_quantization.hash_layer import sign_straight_through
from adapters.vlm_quantization.model import CrossModalHashModel, stack_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.train.batches import TrainingBatch


class Targets(NamedTuple):
    """Target distributions along each row and along each column; all zero where there is no positive.

    Attributes
    ----------
    rows, columns : Tensor, float, shape (n, m)
        The rows of ``rows`` and the columns of ``columns`` sum to one or to zero.
    """

    rows: Tensor
    columns: Tensor


class LogShares(NamedTuple):
    """Log-softmax of scores along each row and along each column; each of shape (n, m)."""

    rows: Tensor
    columns: Tensor


def spread(positives: Tensor) -> Targets:
    """Return targets spread evenly over positives.

    As in supervised contrastive learning (Khosla et al., NeurIPS 2020, the variant with the mean outside the
    logarithm).

    Parameters
    ----------
    positives : Tensor, bool, shape (n, m)
        Which pairs belong together.
    """
    marks = positives.float()
    return Targets(marks / marks.sum(1, keepdim=True).clamp(min=1), marks / marks.sum(0).clamp(min=1))


def softened(scores: Tensor) -> Targets:
    """Return the softmax of a teacher's scores as targets; no gradient flows into the teacher.

    Parameters
    ----------
    scores : Tensor, float, shape (n, m)
        Already divided by the teacher's temperature.
    """
    fixed = scores.detach()
    return Targets(fixed.softmax(1), fixed.softmax(0))


def log_shares(scores: Tensor) -> LogShares:
    """Return the log-softmax of scores, to be computed once for several :func:`cross_entropy` targets.

    Parameters
    ----------
    scores : Tensor, float, shape (n, m)
        Similarity divided by a temperature.
    """
    return LogShares(F.log_softmax(scores, 1), F.log_softmax(scores, 0))


def cross_entropy(logs: LogShares, targets: Targets) -> Tensor:
    """Return the mean of the two directions, in nats; rows and columns without a target do not count."""
    sums = []
    for along, log, target in zip((1, 0), logs, targets, strict=True):
        sums.append(-(log * target).sum() / target.sum(along).count_nonzero().clamp(min=1))
    return (sums[0] + sums[1]) / 2


def code_scores(
    queries: Tensor, gallery: Tensor, lengths: Sequence[int], temperature: float
) -> dict[int, Tensor]:
    """Return the scores of codes at each length, all from one product over the bits.

    Parameters
    ----------
    queries, gallery : Tensor, float, shape (n, 128) and (m, 128)
        Margins; their signs are compared, with the straight-through gradient.
    lengths : sequence of int
        In bits, ascending.
    temperature : float
        For the similarity ``1 - 2 d / length`` at 128 bits, where d is the Hamming distance. A shorter code
        has fewer steps over the same range, so its temperature grows with sqrt(128 / length).

    Returns
    -------
    dict of int to Tensor, float, shape (n, m)
    """
    left, right = sign_straight_through(queries), sign_straight_through(gallery)
    out: dict[int, Tensor] = {}
    agreed: Tensor | None = None
    done = 0
    for length in lengths:
        more = left[:, done:length] @ right[:, done:length].T
        agreed, done = more if agreed is None else agreed + more, length
        out[length] = agreed * (1 / (length * temperature * (128 / length) ** 0.5))
    return out


def quantisation(margins: Tensor) -> Tensor:
    """Mean squared distance of margins from their signs: small when the signs lose little."""
    return (margins.abs() - 1).square().mean()


def balance(margins: Tensor) -> Tensor:
    """Mean squared average of each bit's sign over the batch: zero when each bit is on half the time."""
    return sign_straight_through(margins).mean(0).square().mean()


def decorrelation(margins: Tensor) -> Tensor:
    """Mean squared correlation between different bits over the batch: small when no two are redundant."""
    codes = sign_straight_through(margins)
    gram = codes.T @ codes / len(codes)
    return (gram - torch.diag(gram.diagonal())).square().mean()


def consistency(one: Tensor, other: Tensor, weights: Mapping[int, float]) -> Tensor:
    """Return the share of bits in which the codes of two views differ: a weighted mean over lengths.

    Parameters
    ----------
    one, other : Tensor, float, shape (n, 128)
        Margins of two views of each picture.
    weights : mapping of int to float
        Weight of each code length; they sum to one.
    """
    apart = (1 - sign_straight_through(one) * sign_straight_through(other)) / 2
    by_bit = apart.mean(0)
    return _weighted({length: by_bit[:length].mean() for length in weights}, weights)


def batch_loss(
    model: CrossModalHashModel,
    batch: TrainingBatch,
    pictures: Callable[[], Tensor],
    frozen: Callable[[], Tensor] | None,
    options: TrainOptions,
    compared: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one batch, and its terms by name.

    Parameters
    ----------
    model : CrossModalHashModel
    batch : TrainingBatch
    pictures : callable
        Draws the components of the batch's pictures, float32, shape (n, image_components).
    frozen : callable, optional
        Draws the components of its texts, float32, shape (t * n, text_components); needed if the model has
        a text tower. It is called after the pictures' vectors were computed.
    options : TrainOptions
    compared : callable, optional
        Returns the components of a weak view of each picture, then of a strong one, float32,
        shape (2 n, image_components); needed if the options weight consistency.
    """
    images = model.image_vectors(pictures())
    positives = torch.from_numpy(batch.positives).to(images.device)
    rows, offsets = stack_rows(batch.rows) if model.config.ngrams else (None, None)
    if rows is not None and offsets is not None:
        rows, offsets = rows.to(images.device), offsets.to(images.device)
    texts = model.text_vectors(rows, offsets, None if frozen is None else frozen())
    similarity = texts @ images.T / options.float_temperature
    image_margins, text_margins = model.image_code(images), model.text_code(texts)
    marks = spread(positives)
    parts = {"float": cross_entropy(log_shares(similarity), marks)}
    weights = length_weights(options.lengths, options.short_weight)
    scores = code_scores(text_margins, image_margins, sorted(weights), options.temperature)
    logs = {length: log_shares(one) for length, one in scores.items()}
    by_length = {length: cross_entropy(one, marks) for length, one in logs.items()}
    loss = parts["float"] + _weighted(by_length, weights)
    both = (image_margins, text_margins)
    for name, weight, term in (
        ("quantisation", options.quantisation, quantisation),
        ("balance", options.balance, balance),
        ("decorrelation", options.decorrelation, decorrelation),
    ):
        if weight:
            parts[name] = (term(both[0]) + term(both[1])) / 2
            loss = loss + 2 * weight * parts[name]
    if options.consistency and compared is not None:
        one, other = model.image_code.settled(model.image_vectors(compared())).chunk(2)
        parts["consistency"] = consistency(one, other, weights)
        loss = loss + options.consistency * parts["consistency"]
    if options.distillation:
        teacher = softened(similarity)
        each = {length: cross_entropy(one, teacher) for length, one in logs.items()}
        parts["distillation"] = _weighted(each, weights)
        loss = loss + options.distillation * parts["distillation"]
    parts |= {f"code@{length}": value for length, value in by_length.items()}
    return loss, {"loss": loss, **parts}


def _weighted(by_length: Mapping[int, Tensor], weights: Mapping[int, float]) -> Tensor:
    return torch.stack([weights[length] * value for length, value in by_length.items()]).sum()


def length_weights(lengths: Sequence[int], power: float) -> dict[int, float]:
    """Return the weight of each code length: ``(128 / length) ** power``, normalised to sum to one.

    Short codes are harder to learn, and their bits are part of every longer code, so improving them costs
    the longer codes little.
    """
    plain = {length: (CODE_BITS / length) ** power for length in lengths}
    return {length: weight / sum(plain.values()) for length, weight in plain.items()}
