"""Measure the codes and the features of a checkpoint on a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate import baselines
from adapters.vlm_quantization.evaluate.tasks import (
    FLOAT,
    FLOAT_QUERY,
    LEARNED,
    RESCORED,
    Task,
    tasks,
)
from adapters.vlm_quantization.job_inputs import stages
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.protocols import protocol_of

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.evaluate.subject import Subject
    from adapters.vlm_quantization.evaluate.tested import MeasuredOn
    from adapters.vlm_quantization.options import FamilyEvalOptions


#: Maximum number of texts that baselines are fitted on; more take time without changing the result.
MAX_FITTED_TEXTS = 4_000


def measure(task: Task, fitted: Sequence[baselines.Baseline], options: FamilyEvalOptions) -> None:
    """Measure a task by every method, and store the records on the task."""
    rules = protocol_of(options.protocol)
    ks, query, gallery = options.ks, task.queries, task.gallery
    floats: dict[str, Any] = {"ks": ks, "protocol": rules, "itself": task.itself}
    task.fitted = fitted
    task.records[LEARNED] = evaluate_codes(query.codes, gallery.codes, task.relevance, **floats)
    task.records[FLOAT] = evaluate_scores(query.features, gallery.features, task.relevance, **floats)
    if task.itself is not None or not options.baselines:
        return
    at_last: dict[str, Any] = {"ks": (max(ks),), "protocol": rules}
    task.records[RESCORED] = baselines.evaluate_rescored(
        query.codes, gallery.codes, query.features, gallery.features, task.relevance, **at_last
    )
    if query.margins is not None:
        task.records[FLOAT_QUERY] = baselines.evaluate_float_query(
            query.margins, gallery.codes, task.relevance, **at_last
        )
    for baseline in fitted:
        task.records[baseline.name] = baseline.evaluate(
            query.features, gallery.features, (query.kind, gallery.kind), task.relevance, **at_last
        )


def fit(
    collection: CaptionedImages,
    splits: Splits,
    subject: Subject,
    progress: OnProgress | None = None,
) -> list[baselines.Baseline]:
    """Fit the baselines on the training part: its pictures, and their names and keywords."""
    candidates = []
    for row in splits.train.tolist():
        item = collection.items[row]
        for words in (*item.captions.values(), *item.keywords.values()):
            candidates += words
    chosen = sorted(set(candidates))
    if len(chosen) > MAX_FITTED_TEXTS:
        rng = np.random.Generator(np.random.PCG64(0))
        chosen = [chosen[place] for place in np.sort(rng.permutation(len(chosen))[:MAX_FITTED_TEXTS])]
    images = subject.pictures(splits.train).features
    texts = subject.texts(chosen).features

    def report(done: int, total: int) -> None:
        if progress:
            progress(done, total, "fitting baselines")

    return baselines.fit_baselines(images, texts, progress=report)


def fitted_on(measured: Sequence[Task]) -> list[baselines.Baseline]:
    """Return the baselines that tasks were measured with."""
    return list(measured[0].fitted)


def evaluate(
    tested: MeasuredOn,
    fitted: Sequence[baselines.Baseline],
    subject: Subject,
    options: FamilyEvalOptions,
    job: Any,
) -> list[Task]:
    """Measure a checkpoint on every part, in every requested direction and every language.

    Parameters
    ----------
    tested : MeasuredOn
        The data.
    fitted : sequence of Baseline
        Baselines to measure beside it, see :func:`fit`.
    subject : Subject
        The model, with the pictures of that collection.
    options : FamilyEvalOptions
    job : workbench.JobContext
        Receives progress, and stops the work when cancelled.

    Raises
    ------
    workbench.BadInput
        The pictures have no captions.
    """
    stage = stages(job)
    measured = list(tasks(tested.collection, tested.parts, subject, options))
    if not measured:
        raise wb.BadInput(
            f"the pictures of {tested.collection.name!r} have no captions to ask for",
            hint="Evaluate on a collection with captions.",
        )
    with stage("ranking", 0.9):
        for done, task in enumerate(measured):
            job.progress(done, len(measured), task.words)
            measure(task, fitted, options)
            task.resample(_claims(task, options.ks), options.resamples)
    return measured


def _claims(task: Task, ks: Sequence[int]) -> list[tuple[str, int | None, str]]:
    """Return the metrics that get an interval: those of the main table, and the headline of every method."""
    main = ["mAP", "MRR", *(f"R@{k}" for k in ks), f"hit@{max(ks)}", f"NDCG@{max(ks)}"]
    out: list[tuple[str, int | None, str]] = []
    for method in task.records:
        lengths = (None,) if method == FLOAT else CODE_LENGTHS
        names = main if method in (FLOAT, LEARNED) else ["mAP", f"R@{max(ks)}"]
        out += [(method, bits, name) for bits in lengths for name in names]
    return out
