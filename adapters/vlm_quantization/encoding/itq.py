"""Codes of float features by linear maps that need no training: principal axes, and ITQ's rotations."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.codes import CODE_LENGTHS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

#: Rounds of ITQ; its authors use 50.
ITQ_ROUNDS = 50


#: Number of components that a nested code rounds. Bits beyond it round them once more, in another rotation:
#: on drawings of emoji, of which half were fitted, the drawing of the same concept in another style is then
#: among the first ten for .47 of the queries at 128 bits; with 64 further components it is so for .40.
NESTED_COMPONENTS = 64


#: Components whose variance is at most this share of the largest are rounding errors.
_LEAST_VARIANCE = 1e-9


def principal_axes(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the principal axes (d, d) of centred rows (n, d), by falling variance, as columns."""
    axes: NDArray[np.float64] = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return axes


def itq_rotation(components: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the rotation (b, b) that minimises the distance of components (n, b) to their signs.

    Signs and rotation are updated in turn; each rotation step is an orthogonal Procrustes problem (Gong and
    Lazebnik, CVPR 2011).
    """
    width = components.shape[1]
    rotation = np.linalg.qr(rng.standard_normal((width, width)))[0]
    # only products of signs and components are needed, so float32 suffices and halves the time
    rows = components.astype(np.float32)
    for _ in range(ITQ_ROUNDS):
        signs = np.where(rows @ rotation.astype(np.float32) >= 0, np.float32(1), np.float32(-1))
        left, _, right = np.linalg.svd(rows.T @ signs)
        rotation = (left @ right).astype(np.float64)
    return rotation


def nested_planes(
    centred: NDArray[np.float64],
    method: str,
    rng: np.random.Generator,
    *,
    lengths: Sequence[int] = CODE_LENGTHS,
    progress: Callable[[int, int], object] | None = None,
) -> NDArray[np.float64]:
    """Return hyperplanes (d, bits) whose signs are a nested code: its first b bits are the code of length b.

    Parameters
    ----------
    centred : ndarray, float64, shape (n, d)
        Features minus their mean.
    method : {"itq", "sign"}
        ``"sign"``: the signs of the principal components, by falling variance. ``"itq"``: each length adds
        the next components, rotated among themselves by :func:`itq_rotation`, up to
        :data:`NESTED_COMPONENTS`; longer codes add further rotations of those.
    rng : numpy.random.Generator
        For the first rotation of each part.
    lengths : sequence of int
        Code lengths, ascending; the last is the number of planes.
    progress : callable, optional
        ``progress(done, total)``.

    Returns
    -------
    ndarray, float64, shape (d, lengths[-1])
        Random hyperplanes if all rows are equal. If there are fewer components than bits, as with few rows,
        the other bits round the same components in random rotations.
    """
    axes = principal_axes(centred)
    spread = np.square(centred @ axes).sum(axis=0)
    rank = int((spread > _LEAST_VARIANCE * spread.max(initial=0)).sum()) if spread.any() else 0
    if not rank:
        return rng.standard_normal((centred.shape[1], lengths[-1]))
    used = min(rank, lengths[-1] if method == "sign" else NESTED_COMPONENTS)
    planes: list[NDArray[np.float64]] = []
    for start, stop in itertools.pairwise((0, *lengths)):
        if progress:
            progress(start, lengths[-1])
        among = slice(start, stop) if stop <= used else slice(0, used)
        part = axes[:, among]
        while (missing := stop - sum(one.shape[1] for one in planes)) > 0:
            width = part.shape[1]
            if method == "itq":
                rotation = itq_rotation(centred @ part, rng)
            elif stop <= used:
                rotation = np.eye(width)
            else:
                rotation = np.linalg.qr(rng.standard_normal((width, width)))[0]
            planes.append((part @ rotation)[:, :missing])
    return np.concatenate(planes, axis=1)
