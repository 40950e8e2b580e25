"""Which pictures of a test the model was trained on: equal ones, and near duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.data.leakage import refuse_shared, shared_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.evaluate.tested import MeasuredOn


@dataclass(frozen=True)
class Overlap:
    """Pairs of a training picture (row of the run's collection) and a picture that is asked about.

    Attributes
    ----------
    equal : list of (int, int)
        Pairs with equal pixels; only where they were accepted.
    near : list of (int, int)
        Near duplicates, without equal ones; each picture that is asked about at most once.
    looked : bool
        Whether near duplicates were looked for.
    """

    equal: list[tuple[int, int]]
    near: list[tuple[int, int]]
    looked: bool


def find_overlap(
    training: CaptionedImages,
    trained: NDArray[np.int64],
    tested: MeasuredOn,
    *,
    accept: bool,
    near: bool,
    cache: Path | None = None,
    progress: OnProgress | None = None,
) -> Overlap:
    """Compare the pictures that are asked about with those that the model was trained on.

    A gallery of other pictures may contain training pictures, as its protocol says; it is not compared.

    Parameters
    ----------
    training : CaptionedImages
        The run's collection.
    trained : ndarray of int64
        Rows of it that the model was trained on.
    tested : MeasuredOn
    accept : bool
        Whether equal pictures are reported instead of refused.
    near : bool
        Whether near duplicates are looked for: every picture is decoded once.
    cache : Path, optional
        Cache folder.
    progress : callable, optional
        ``progress(done, total, message)``.

    Raises
    ------
    LeakageError
        Equal pictures that are not accepted.
    """
    asked = np.unique(np.concatenate([part.queries for part in tested.parts]))
    equal = shared_pictures(training, trained.tolist(), tested.collection, asked.tolist())
    if not accept:
        refuse_shared(training, tested.collection, equal)
    if not near:
        return Overlap(equal, [], looked=False)
    from adapters.vlm_quantization.data.lookalikes import comparable_rows, lookalikes, looks_of

    if tested.collection is training:
        comparable = comparable_rows(training)
        trained, asked = np.intersect1d(trained, comparable), np.intersect1d(asked, comparable)
    if not len(trained) or not len(asked):
        return Overlap(equal, [], looked=False)
    looks = looks_of(training, cache, progress)
    others = looks if tested.collection is training else looks_of(tested.collection, cache, progress)
    known = {row for _, row in equal}
    first: dict[int, int] = {}
    for own, row in lookalikes(looks, trained, others, asked):
        if row not in known:
            first.setdefault(row, own)
    return Overlap(equal, [(own, row) for row, own in first.items()], looked=True)
