"""How much of an exact search a funnel finds: recall after each stage, and the time of each.

The search option ``method="funnel"`` is what is measured, on the queries of the first test part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.index.ranking import cosine_search
from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes
from adapters.vlm_quantization.search.funnel import Query, funnel_search, stage_lengths, survivors_of
from adapters.vlm_quantization.search.options import OVERSAMPLING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from adapters.vlm_quantization.evaluate.tasks import Task

#: Number of hits.
TOP = 10


#: Values of the option ``oversampling`` that are measured; the default of a search is among them.
OVERSAMPLINGS = (1.0, 2.0, 5.0, 10.0, OVERSAMPLING, 50.0)


#: Queries that are measured, over all languages.
QUERIES = 120


#: Code lengths of the stages, in bits.
LENGTHS = stage_lengths(CODE_LENGTHS, CODE_LENGTHS[-1])


@dataclass(frozen=True)
class Row:
    """One stage, or another way to search, at one oversampling.

    Attributes
    ----------
    name : str
        Such as ``"8 bits"``.
    left : float
        Number of items that it leaves, mean over galleries.
    recall : float
        Mean share of the ten nearest by float cosine that are among them, 0 to 1.
    ms : float
        Milliseconds per query, median.
    """

    name: str
    left: float
    recall: float
    ms: float


@dataclass(frozen=True)
class Funnel:
    """What was measured.

    Attributes
    ----------
    words : str
        What was asked: part, direction and languages.
    queries, gallery : int
        Number of queries, and of items in the largest gallery.
    by_oversampling : dict of float to list of Row
        The stages; the last one is the rescoring by float features, whose recall is that of the funnel.
    others : list of Row
        The codes alone, and the exact search.
    """

    words: str = ""
    queries: int = 0
    gallery: int = 0
    by_oversampling: dict[float, list[Row]] = field(default_factory=dict)
    others: list[Row] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, float]:
        """Return ``funnel/recall@10``, and what the codes of each stage keep: ``funnel/recall@10@8``."""
        stages = self.by_oversampling.get(OVERSAMPLING, [])
        return {name: row.recall for name, row in zip(_names(), stages, strict=False)}


def _names() -> list[str]:
    return [*(f"funnel/recall@{TOP}@{length}" for length in LENGTHS), f"funnel/recall@{TOP}"]


def possible_names() -> list[str]:
    """Return the names that :attr:`Funnel.metrics` has, the whole funnel first."""
    return list(reversed(_names()))


def measure_funnel(tasks: Sequence[Task]) -> Funnel:
    """Search by funnel with a sample of the queries of the first part, and compare with float cosine.

    Parameters
    ----------
    tasks : sequence of Task
        The measured tasks, at least one. Those with texts as queries count if there are any, else the first.
    """
    part = [task for task in tasks if task.part == tasks[0].part and task.itself is None] or [tasks[0]]
    chosen = [task for task in part if task.direction == "t2i"] or part[:1]
    recalls: dict[tuple[float, int], list[float]] = {}
    times: dict[tuple[float, int], list[float]] = {}
    left: dict[tuple[float, int], list[int]] = {}
    others: dict[str, list[tuple[float, float]]] = {"codes": [], "exact": []}
    for place, task in enumerate(chosen):
        gallery = task.gallery
        prefixes = PrefixCodes(gallery.codes)
        count = QUERIES // len(chosen) + (place < QUERIES % len(chosen))
        rows = np.linspace(0, len(task.queries.ids), num=min(count, len(task.queries.ids)), endpoint=False)
        for row in rows.astype(int).tolist():
            feature = task.queries.features[row]
            query = Query(task.queries.codes[row], feature)
            (right, _), took = _timed(lambda: cosine_search(gallery.features, feature, k=TOP))  # noqa: B023
            others["exact"].append((1.0, took))
            (near, _), took = _timed(lambda: prefixes.search(query.code, bits=LENGTHS[-1], k=TOP))  # noqa: B023
            others["codes"].append((_shared(near, right), took))
            for oversampling in OVERSAMPLINGS:
                found = funnel_search(
                    prefixes,
                    gallery.features,
                    query,
                    lengths=LENGTHS,
                    survivors=survivors_of(TOP, oversampling, len(gallery.ids), len(LENGTHS)),
                    k=TOP,
                )
                for number, stage in enumerate(found.stages):
                    key = oversampling, number
                    recalls.setdefault(key, []).append(_shared(stage.rows, right))
                    times.setdefault(key, []).append(stage.took_ms)
                    left.setdefault(key, []).append(len(stage.rows))
    names = [*(f"{length} bits" for length in LENGTHS), "float cosine of the rest"]
    return Funnel(
        words=f"{chosen[0].split}, {chosen[0].arrow}, {' and '.join(task.language for task in chosen)}",
        queries=len(others["exact"]),
        gallery=max(len(task.gallery.ids) for task in chosen),
        by_oversampling={
            oversampling: [
                Row(
                    name,
                    float(np.mean(left[oversampling, number])),
                    float(np.mean(recalls[oversampling, number])),
                    float(np.median(times[oversampling, number])),
                )
                for number, name in enumerate(names)
            ]
            for oversampling in OVERSAMPLINGS
        },
        others=[
            Row(
                name,
                min(TOP, max(len(task.gallery.ids) for task in chosen)),
                float(np.mean([recall for recall, _ in others[key]])),
                float(np.median([took for _, took in others[key]])),
            )
            for key, name in (
                ("codes", f"{LENGTHS[-1]} bits alone"),
                ("exact", "float cosine of all (exact)"),
            )
        ],
    )


def _shared(found: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    return float(np.isin(right, found).mean())


def _timed(
    search: Callable[[], tuple[NDArray[np.int64], NDArray[np.generic]]],
) -> tuple[tuple[NDArray[np.int64], NDArray[np.generic]], float]:
    start = time.perf_counter()
    found = search()
    return found, (time.perf_counter() - start) * 1e3
