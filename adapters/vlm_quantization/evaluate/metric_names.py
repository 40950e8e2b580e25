"""Metrics of an evaluation by name: for a job's result, and for comparing two results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate import baselines, funnel, stability
from adapters.vlm_quantization.evaluate.tasks import FLOAT, LEARNED, Task
from adapters.vlm_quantization.evaluate.tested import DRAWN, GIVEN, NAMES

if TYPE_CHECKING:
    from adapters.vlm_quantization.options import FamilyEvalOptions


def metrics_of(tasks: Sequence[Task], ks: Sequence[int]) -> dict[str, float]:
    """Return every metric by name, such as ``drawings/en/t2i/R@10@64`` or ``…/ITQ/R@10@64``.

    The learned code and the float features have all metrics of the report; other methods have only R@k at the
    largest k. ``retention@64`` is the learned code's R@k divided by that of the float features.
    """
    out: dict[str, float] = {}
    last = max(ks)
    kept = {"mAP", "MRR", "MedR", f"NDCG@{last}", "P@r2", "R@r2"}
    kept |= {f"{what}@{k}" for k in ks for what in ("P", "R", "hit")}
    for task in tasks:
        for method, records in task.records.items():
            own = method in (FLOAT, LEARNED)
            inner = "" if own else f"{method}/"
            for record in records:
                if record.name in (kept if own else {f"R@{last}"}) and record.value == record.value:
                    length = "float" if record.bits is None else record.bits
                    out[f"{task.prefix}/{inner}{record.name}@{length}"] = record.value
        shares = baselines.retention(task.records[LEARNED], task.records[FLOAT], f"R@{last}")
        out |= {f"{task.prefix}/retention@{b}": share for b, share in shares.items() if share == share}
    return out


def possible_names(options: FamilyEvalOptions) -> list[str]:
    """Return the names that an evaluation's metrics can have, the headline first; ``*`` depends on the data.

    The data decides on languages and on the other methods that are fitted; a metric without a value for these
    data (such as the precision within a radius that is always empty) is left out of a result.
    """
    last, lengths = max(options.ks), [*map(str, reversed(CODE_LENGTHS)), "float"]
    kinds = [f"R@{last}", "mAP", *(f"{what}@{k}" for what in ("R", "hit", "P") for k in options.ks)]
    kinds += ["MRR", f"NDCG@{last}", "MedR", "P@r2", "R@r2", "retention"]
    own = [f"{kind}@{length}" for kind in dict.fromkeys(kinds) for length in lengths]
    others = [f"*/R@{last}@{length}" for length in lengths]
    headline = [f"{direction}/{name}" for direction in options.directions for name in [*own, *others]]
    return [
        *headline,
        *(f"{part}/*/{name}" for part in _possible_parts(options) for name in headline),
        *stability.possible_names(options),
        *funnel.possible_names(),
    ]


def _possible_parts(options: FamilyEvalOptions) -> list[str]:
    """Return the names of the parts that an evaluation may measure."""
    if not options.split:
        other = ["all"] if options.collection else []
        return [DRAWN["test_drawings"][1], DRAWN["test_concepts"][1], "test", "query", *other]
    drawn = [name for key, (_, name) in DRAWN.items() if key.partition("_")[0] == options.split]
    return list(dict.fromkeys([*drawn, GIVEN[options.split][1]]))


def headlines(metrics: Mapping[str, float], languages: Sequence[str]) -> dict[str, float]:
    """Return metrics such as ``t2i/R@10@128``: the first of the parts, mean over languages."""
    for part in NAMES:
        prefix = f"{part}/{languages[0]}/"
        names = [name.removeprefix(prefix) for name in metrics if name.startswith(prefix)]
        if names:
            present = [language for language in languages if f"{part}/{language}/{names[0]}" in metrics]
            return {
                name: sum(metrics[f"{part}/{language}/{name}"] for language in present) / len(present)
                for name in names
                if all(f"{part}/{language}/{name}" in metrics for language in present)
            }
    return {}


def samples_of(tasks: Sequence[Task], ks: Sequence[int], metrics: Mapping[str, float]) -> list[wb.Samples]:
    """Return per-query scores, so that two results can be compared query by query.

    There is one entry per task for its mAP and R@k, and one per direction for the headline, whose queries are
    those of all languages. The latter needs equally many counting queries in each language, since only then
    the mean over languages is the mean over queries.
    """
    last = max(ks)
    out = []
    for task in tasks:
        scores = {}
        for method in (LEARNED, FLOAT):
            for record in task.records[method]:
                if record.name in ("mAP", f"R@{last}"):
                    length = "float" if record.bits is None else record.bits
                    name = f"{task.prefix}/{record.name}@{length}"
                    if name in metrics:
                        scores[name] = _kept(record.per_query)
        out.append(wb.Samples(ids=task.query_ids, scores=scores, groups=task.queries.concepts))
    part = tasks[0].part
    for direction in dict.fromkeys(task.direction for task in tasks):
        together = [task for task in tasks if (task.part, task.direction) == (part, direction)]
        scores = {}
        for method in (LEARNED, FLOAT):
            for first in together[0].records[method]:
                length = "float" if first.bits is None else first.bits
                name = f"{direction}/{first.name}@{length}"
                each = [task.record(method, first.name, first.bits) for task in together]
                rows = [record.per_query for record in each if record is not None]
                counted = {int((~np.isnan(row)).sum()) for row in rows}
                if first.name in ("mAP", f"R@{last}") and name in metrics and len(counted) == 1:
                    scores[name] = _kept(np.concatenate(rows))
        if scores:
            ids = [one for task in together for one in task.query_ids]
            # A concept that is asked for in two languages is one group.
            groups = [concept for task in together for concept in task.queries.concepts]
            out.append(wb.Samples(ids=ids, scores=scores, groups=groups))
    return out


def _kept(per_query: NDArray[np.float64]) -> list[float]:
    """Return scores at the stored precision, so that a result does not change when read back."""
    scores: list[float] = per_query.astype(np.float32).tolist()
    return scores
