"""Runs of the same training with other seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.vlm_quantization.evaluate import measuring, metric_names
from adapters.vlm_quantization.evaluate.tested import is_refit
from adapters.vlm_quantization.job_inputs import open_encoder
from workbench import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.evaluate.tested import MeasuredOn
    from adapters.vlm_quantization.options import EvalOptions
    from workbench import JobContext, Run


def refuse_other_data(
    run: Run, checkpoint: str, encoder: HashEncoder, splits: Splits, collection: CaptionedImages
) -> None:
    """Refuse a checkpoint that may have seen held-out data.

    Raises
    ------
    BadInput
        The checkpoint was trained on other data, or on another split.
    """
    if encoder.checkpoint.provenance.split != splits.fingerprints["train"]:
        raise BadInput(
            f"{checkpoint} of run {run.id} was trained on other data, or on another split, "
            f"than the current {collection.name!r}",
            hint="It may have seen the held-out pictures. Evaluate best.safetensors, or train again.",
        )


def metrics_of_run(
    run: Run,
    options: EvalOptions,
    collection: CaptionedImages,
    splits: Splits,
    measured_on: Splits,
    features: NDArray[np.float32],
    tested: MeasuredOn,
    job: JobContext,
) -> dict[str, float]:
    """Return the metrics of another run, measured as the first one was."""
    encoder = open_encoder(run, options.checkpoint)
    if tested.collection is collection or not is_refit(encoder, collection):
        refuse_other_data(run, options.checkpoint, encoder, splits, collection)
    short = options.model_copy(update={"resamples": 10})
    fitted = measuring.fit(collection, measured_on, encoder, features) if options.baselines else []
    measured = measuring.evaluate(tested, fitted, encoder, short, job)
    metrics = metric_names.metrics_of(measured, options.ks)
    return metrics | metric_names.headlines(metrics, [task.language for task in measured])
