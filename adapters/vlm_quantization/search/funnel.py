"""Search in stages: short codes leave few items, longer ones fewer, and the float query ranks what is left.

Every stage is exact among the items that the one before it left, so with as many survivors as there are items
the funnel finds what its last stage finds alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.neighbours.prefix_codes import THREADS, PrefixCodes, check_k

#: The lengths whose codes a funnel compares, in bits, as far as the searched length goes.
STAGES = (8, 32, 128)


#: At the least, a stage leaves this share of the items, by how many code stages follow it. Short codes are so
#: coarse that a multiple of k alone would lose what is looked for: of the ten nearest by float cosine among
#: the demo's 3,828 pictures, a quarter by 8 bits holds 90 %, an eighth 80 % and a sixteenth 62 %; a sixteenth
#: by 32 bits, of that quarter, holds 83 % (300 captions as queries).
LEAST_SHARES = (0.0, 1 / 16, 1 / 4)


#: How the last stage ranks: by cosine of the float features, or by the float query against the codes' bits.
Rescoring = Literal["features", "bits"]


class Query(NamedTuple):
    """An encoded query.

    Attributes
    ----------
    code : ndarray, uint8, shape (bytes,)
        Packed code.
    feature : ndarray, float32, shape (d,)
        Features of unit norm.
    margins : ndarray, float32, shape (bits,), or None
        Distance of each bit from its threshold; None if not known.
    """

    code: NDArray[np.uint8]
    feature: NDArray[np.float32]
    margins: NDArray[np.float32] | None = None


class Stage(NamedTuple):
    """What one stage of a funnel left.

    Attributes
    ----------
    name : str
        Such as ``"8 bits"``.
    rows : ndarray, int64
        The survivors, best first, ties by row.
    took_ms : float
    """

    name: str
    rows: NDArray[np.int64]
    took_ms: float


class Found(NamedTuple):
    """Rows and values, best first, and the stages that led there.

    Attributes
    ----------
    rows : ndarray, int64, shape (min(k, items),)
    scores : ndarray, float64
        Cosines, or agreements of the float query with the bits, -1 to 1.
    stages : list of Stage
        The last one is the rescoring.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    stages: list[Stage]


def stage_lengths(lengths: Sequence[int], bits: int) -> tuple[int, ...]:
    """Return the code lengths of a funnel that ends at ``bits``: shorter ones of :data:`STAGES`, and it."""
    return (*(one for one in STAGES if one < bits and one in lengths), bits)


def survivors_of(k: int, oversampling: float, n: int, stages: int) -> tuple[int, ...]:
    """Return how many items each code stage leaves, in descending order.

    The last leaves ``oversampling`` times ``k``, each one before it four times as many, or its share of
    :data:`LEAST_SHARES` if that is more.

    Parameters
    ----------
    k : int
        Number of hits.
    oversampling : float
        At least 1.
    n : int
        Number of items.
    stages : int
        Number of code stages.
    """
    out = []
    for left in range(stages):
        share = LEAST_SHARES[min(left, len(LEAST_SHARES) - 1)]
        wanted = max(int(np.ceil(k * oversampling * 4**left)), int(np.ceil(share * n)), k)
        out.append(min(wanted, n))
    return tuple(reversed(out))


def funnel_search(
    prefixes: PrefixCodes,
    features: NDArray[np.float32],
    query: Query,
    *,
    lengths: Sequence[int],
    survivors: Sequence[int],
    k: int,
    rescore: Rescoring = "features",
    threads: int = THREADS,
    among: ArrayLike | None = None,
) -> Found:
    """Find the k best by stages of growing code length and a float query at the end.

    Parameters
    ----------
    prefixes : PrefixCodes
        The codes of n items.
    features : ndarray, float32, shape (n, d)
        Their features of unit norm; read only for the survivors, and not at all by ``rescore="bits"``.
    query : Query
    lengths : sequence of int
        Code length of each stage, ascending.
    survivors : sequence of int
        How many items each stage leaves, at least 1; no fewer than k are kept.
    k : int
        Number of hits, at least 1.
    rescore : {"features", "bits"}
        How the last stage ranks; see :func:`rescored`.
    threads : int
        Threads of the first stage.
    among : array_like, bool (n,) or int (m,), optional
        The items that may be found, as in :meth:`PrefixCodes.search`.

    Raises
    ------
    workbench.BadInput
        The query, a length, k or the items are invalid; or ``rescore="bits"`` and the margins are not known.
    """
    k = check_k(k)
    stages: list[Stage] = []
    for length, most in zip(lengths, survivors, strict=True):
        start = time.perf_counter()
        rows, _ = prefixes.search(query.code, bits=length, k=max(most, k), threads=threads, among=among)
        among = np.sort(rows)
        stages.append(Stage(f"{length} bits", rows, (time.perf_counter() - start) * 1e3))
    start = time.perf_counter()
    kept = np.asarray(among)
    scores = rescored(prefixes, features, query, kept, bits=lengths[-1], rescore=rescore)
    order = np.lexsort((kept, -scores))[:k]
    stages.append(Stage(RESCORED_BY[rescore], kept[order], (time.perf_counter() - start) * 1e3))
    return Found(kept[order], scores[order], stages)


#: What the last stage is called.
RESCORED_BY = {"features": "float cosine", "bits": "float query against bits"}


def rescored(
    prefixes: PrefixCodes,
    features: NDArray[np.float32],
    query: Query,
    rows: NDArray[np.int64],
    *,
    bits: int,
    rescore: Rescoring,
) -> NDArray[np.float64]:
    """Return the score of some rows by the float query, float64, -1 to 1.

    ``"features"`` is the cosine of the features. ``"bits"`` is the sum of the query's margins in the bits
    that agree, minus those that do not, divided by the sum of all: 1 if the whole code agrees. It needs no
    features of the items.

    Raises
    ------
    workbench.BadInput
        The margins are needed and not known.
    """
    if rescore == "features":
        return np.asarray((features[rows].astype(np.float64) * query.feature).sum(axis=1), np.float64)
    if query.margins is None:
        raise wb.BadInput(
            "this model does not tell how far a query is from the threshold of each bit",
            hint="Rank by float features: rescore=features.",
        )
    margins = query.margins[:bits].astype(np.float64)
    signs = np.unpackbits(prefixes.columns[rows][:, : bits // 8], axis=1).astype(np.float64) * 2 - 1
    whole = np.abs(margins).sum()
    return np.asarray((signs * margins).sum(axis=1) / (whole if whole else 1.0), np.float64)
