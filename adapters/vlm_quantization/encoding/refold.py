"""Nested codes out of separate ones: one threshold per bit, so that short codes are prefixes of the long one.

A model with a BatchNorm per code length has separate codes: its 8-bit code may differ from the first 8 bits
of its 128-bit code. An index stores one code per item, of which each length is a prefix, so such a model must
be refolded: of the thresholds that a bit has at different lengths, one is kept for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, pack_codes
from adapters.vlm_quantization.encoding.peer_head import Norm, signs
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.metrics.relevance import Relevance

#: Thresholds by code length.
Norms = Mapping[int, Norm]

#: Ways to refold: the thresholds of the longest code, or per bit those that agree best with all lengths.
LONGEST, AGREEING = "longest", "agreeing"


@dataclass(frozen=True)
class Differing:
    """How far the separate code of one length is from being a prefix.

    Attributes
    ----------
    length : int
    ever : int
        Positions at which it differs for at least one item.
    mean : float
        Positions that differ per item.
    """

    length: int
    ever: int
    mean: float


@dataclass(frozen=True)
class Kept:
    """R@k of text → picture at one code length; ``length`` is None for the float features."""

    length: int | None
    ways: Mapping[str, float]


def differing(outputs: NDArray[np.float32], norms: Norms, folded: Norm) -> list[Differing]:
    """Compare the separate code of each length with the prefix of a folded code.

    Parameters
    ----------
    outputs : ndarray, float32, shape (n, 128)
        Outputs of a head for a sample.
    norms : mapping
        The separate thresholds.
    folded : (scale, shift)
        The thresholds of the folded code, each (128,).
    """
    long = signs(outputs, folded)
    out = []
    for length in sorted(norms):
        apart = signs(outputs, norms[length]) != long[:, :length]
        out.append(Differing(length, int(apart.any(axis=0).sum()), float(apart.sum(axis=1).mean())))
    return out


def fold(outputs: NDArray[np.float32], norms: Norms, way: str) -> Norm:
    """Return one scale and one shift per bit, each float32 (128,).

    Parameters
    ----------
    outputs : ndarray, float32, shape (n, 128)
        Outputs of a head for a sample; only :data:`AGREEING` looks at them.
    norms : mapping
        The separate thresholds; those of 128 bits must be there.
    way : {"longest", "agreeing"}
        ``longest`` takes the thresholds of the 128-bit code, which so stays as it is. ``agreeing`` takes for
        each bit the threshold, among those of the lengths that have the bit, whose signs differ least from
        those of all of these lengths. A bit of a short code counts for more: each length is weighted by
        ``1 / length``.
    """
    scale, shift = (part.copy() for part in norms[CODE_BITS])
    if way == LONGEST:
        return scale, shift
    lengths = sorted(norms)
    for bit in range(CODE_BITS):
        having = [length for length in lengths if length > bit]
        column = outputs[:, bit]
        each = {length: column * norms[length][0][bit] + norms[length][1][bit] >= 0 for length in having}
        losses = {
            one: sum(float((each[one] != each[other]).mean()) / other for other in having)
            # the longest first: among equals, the long code stays as it is
            for one in reversed(having)
        }
        best = min(losses, key=lambda length: losses[length])
        scale[bit], shift[bit] = norms[best][0][bit], norms[best][1][bit]
    return scale, shift


def recall(
    outputs: Mapping[str, NDArray[np.float32]],
    norms: Mapping[str, Norms],
    folded: Mapping[str, Mapping[str, Norm]],
    features: Mapping[str, NDArray[np.float32]],
    relevance: Relevance,
    k: int = 10,
) -> list[Kept]:
    """Measure R@k of text → picture by separate codes, by each way of folding, and by float cosine.

    Parameters
    ----------
    outputs, norms, features : mapping
        By ``"image"`` and ``"text"``: outputs of the heads, separate thresholds, and unit float features.
    folded : mapping
        By way of folding, then by ``"image"`` and ``"text"``.
    relevance : Relevance
        Of pictures (columns) to texts (rows).

    Returns
    -------
    list of Kept
        One per supported code length, with the ways ``"separate"`` (if the model has that length) and those
        of ``folded``; and a last one with the way ``"float"``.
    """

    def measured(text: NDArray[np.bool_], image: NDArray[np.bool_]) -> float:
        length = text.shape[1]
        records = evaluate_codes(
            pack_codes(text), pack_codes(image), relevance, bits=(length,), ks=(k,), radii=()
        )
        return next(float(record.value) for record in records if record.name == f"R@{k}")

    rows = []
    for length in CODE_LENGTHS:
        ways = {}
        if length in norms["text"] and length in norms["image"]:
            text, image = (signs(outputs[side], norms[side][length]) for side in ("text", "image"))
            ways["separate"] = measured(text, image)
        for way, thresholds in folded.items():
            text, image = (signs(outputs[side], thresholds[side])[:, :length] for side in ("text", "image"))
            ways[way] = measured(text, image)
        rows.append(Kept(length, ways))
    records = evaluate_scores(features["text"], features["image"], relevance, ks=(k,))
    value = next(float(record.value) for record in records if record.name == f"R@{k}")
    return [*rows, Kept(None, {"float": value})]
