"""Runs of the same training with other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.evaluate import measuring, metric_names
from adapters.vlm_quantization.job_inputs import checkpoint_names, open_encoder
from workbench import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
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


# --- seeds --------------------------------------------------------------------------------------------------


def other_seeds(job: JobContext, run: Run, options: EvalOptions) -> dict[int, Run]:
    """Return for each further seed the newest run that differs from the chosen one only in its seed.

    Raises
    ------
    workbench.BadInput
        A seed has no such run.
    """
    seeds = [seed for seed in dict.fromkeys(options.seeds) if seed != run.config.get("seed")]
    out: dict[int, Run] = {}
    for other in job.workspace.runs(run.experiment) if seeds else ():
        seed = other.config.get("seed")
        if (
            seed in seeds
            and seed not in out
            and _apart_from_seed(other.config) == _apart_from_seed(run.config)
            and options.checkpoint in checkpoint_names(other)
        ):
            out[seed] = other
    missing = [seed for seed in seeds if seed not in out]
    if missing:
        raise BadInput(
            f"experiment {run.experiment!r} has no run like run {run.id} with seed "
            f"{', '.join(map(str, missing))} and checkpoint {options.checkpoint}",
            hint=f"Train them with seeds={list(options.seeds)} and the same options.",
        )
    return {seed: out[seed] for seed in seeds}


def _apart_from_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("seed", "seeds", "name")}


def metrics_of_run(
    run: Run,
    options: EvalOptions,
    collection: CaptionedImages,
    splits: Splits,
    measured_on: Splits,
    features: NDArray[np.float32],
    job: JobContext,
) -> dict[str, float]:
    """Return the metrics of another run, measured as the first one was."""
    encoder = open_encoder(run, options.checkpoint)
    refuse_other_data(run, options.checkpoint, encoder, splits, collection)
    short = options.model_copy(update={"resamples": 10})
    measured = measuring.evaluate(collection, measured_on, encoder, features, short, job)
    metrics = metric_names.metrics_of(measured, options.ks)
    return metrics | metric_names.headlines(metrics, [task.language for task in measured])
