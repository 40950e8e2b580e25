"""Runs of the same training with other seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.vlm_quantization.evaluate import measuring, metric_names
from adapters.vlm_quantization.evaluate.tested import is_refit
from adapters.vlm_quantization.job_inputs import chosen_encoding, open_encoder
from adapters.vlm_quantization.towers.device import use_device
from workbench import BadInput

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.evaluate.subject import Origin
    from adapters.vlm_quantization.evaluate.tested import MeasuredOn
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import FamilyEvalOptions
    from workbench import JobContext, Run


def refuse_other_data(
    run: Run, checkpoint: str, origin: Origin, splits: Splits, collection: CaptionedImages
) -> None:
    """Refuse a checkpoint that may have seen held-out data.

    Raises
    ------
    BadInput
        The checkpoint was trained on other data, or on another split.
    """
    if origin.taken_from:
        return  # what it was trained on is unknown, which the evaluation says
    if origin.split != splits.fingerprints["train"]:
        raise BadInput(
            f"{checkpoint} of run {run.id} was trained on other data, or on another split, "
            f"than the current {collection.name!r}",
            hint="It may have seen the held-out pictures. Evaluate best.safetensors, or train again.",
        )


def metrics_of_run(
    run: Run,
    options: FamilyEvalOptions,
    collection: CaptionedImages,
    splits: Splits,
    measured_on: Splits,
    tested: MeasuredOn,
    job: JobContext,
    family: Family,
) -> dict[str, float]:
    """Return the metrics of another run, measured as the first one was."""
    encoder = use_device(open_encoder(run, options.checkpoint, family), options)
    origin, is_own = family.origin(run, encoder), tested.collection is collection
    if is_own or not is_refit(origin, collection):
        refuse_other_data(run, options.checkpoint, origin, splits, collection)
    short = options.model_copy(update={"resamples": 10})
    cache = job.workspace.cache
    given = chosen_encoding(options)
    subject = family.subject(encoder, collection, cache, job.progress, **given)
    asked = subject
    if not is_own:
        asked = family.subject(encoder, tested.collection, cache, job.progress, **given)
    fitted = measuring.fit(collection, measured_on, subject) if options.baselines else []
    measured = measuring.evaluate(tested, fitted, asked, short, job)
    metrics = metric_names.metrics_of(measured, options.ks)
    return metrics | metric_names.headlines(metrics, [task.language for task in measured])
