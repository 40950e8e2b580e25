"""The eval job: from its options to a result, with what has to be known to make it again."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization import evaluation, health_report, metric_names, report, single_length
from adapters.vlm_quantization.adapter import (
    checkpoint_names,
    choose_run,
    open_collection,
    open_encoder,
    stages,
)
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data import check_leakage, make_splits
from adapters.vlm_quantization.evaluator import evaluate_codes
from adapters.vlm_quantization.features import picture_features
from adapters.vlm_quantization.protocols import protocol_of
from adapters.vlm_quantization.worst import worst_views
from workbench import BadInput, Result, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data import CaptionedImages
    from adapters.vlm_quantization.encoder import HashEncoder
    from adapters.vlm_quantization.evaluation import Task
    from adapters.vlm_quantization.options import EvalOptions
    from adapters.vlm_quantization.splits import Splits
    from workbench import JobContext, Run

#: Packages whose versions a number may depend on.
PACKAGES = ("notebook-workbench", "numpy", "torch", "pillow")

#: Rankings that are explained where they are named in the report.
WORDS = {
    evaluation.LEARNED: "the code of this model; each length is a prefix of the longest",
    single_length.NAME: single_length.WORDS,
}


def run_evaluation(options: EvalOptions, job: JobContext) -> Result:
    """Evaluate a checkpoint on held-out drawings and held-out concepts, and write the report.

    Raises
    ------
    workbench.BadInput
        A run, checkpoint or collection that cannot be used, or nothing held out to evaluate on.
    """
    run = choose_run(job, options.run, options.checkpoint)
    encoder = open_encoder(run, options.checkpoint)
    others = _other_seeds(job, run, options)
    stage = _shares(job, options, len(others))
    with stage("pictures"):
        collection = open_collection(run.config["collection"], job.workspace.cache, job)
        features = picture_features(collection, encoder.tower, job.workspace.cache, job.progress)
    splits = make_splits(collection, run.config["split_seed"])
    _refuse_other_data(run, options.checkpoint, encoder, splits, collection)
    checked = check_leakage(collection, splits)
    measured_on = splits if options.flags else splits.without_flags(collection)

    with stage("measuring"):
        found = evaluation.evaluate(collection, measured_on, encoder, features, options, job)
    words = dict(WORDS)
    if options.baselines:
        words |= {one.name: one.words for one in evaluation.fitted_on(found)}
    if options.single_length:
        with stage("separately trained codes"):
            _add_single_lengths(collection, measured_on, encoder, features, run, found, options, job)
    metrics = metric_names.metrics_of(found, options.ks)
    metrics |= metric_names.headlines(metrics, [task.language for task in found])
    by_seed = {int(encoder.checkpoint.provenance.seed): metrics}
    for seed, other in others.items():
        with stage(f"seed {seed}", "seed"):
            by_seed[seed] = _metrics_of_run(other, options, collection, splits, measured_on, features, job)

    with stage("report"):
        views = _views(collection, found, metrics, by_seed, words, options, job.progress)
    views += [_leakage(checked, splits), _run_card(run, options, encoder, collection, measured_on)]
    last = max(options.ks)
    at = next((n for way in options.directions if (n := f"{way}/R@{last}@128") in metrics), "")
    wanted = tuple(f"{way}/{name}@" for way in options.directions for name in (f"R@{last}", "mAP"))
    return Result(
        summary=f"{_said(at, metrics)} (run {run.id})",
        metrics=metrics,
        headline=[name for name in metrics if name.startswith(wanted) and not name.startswith("i2t/mAP")],
        views=views,
        made={"run": run.id, "checkpoint": options.checkpoint},
        warnings=[collection.problem_summary] if collection.problems else [],
        samples=metric_names.samples_of(found, options.ks, metrics),
    )


def _shares(job: JobContext, options: EvalOptions, n_seeds: int) -> Callable[..., Any]:
    """Return stages whose shares of the whole are about what each costs."""
    costs = {"pictures": 3.0, "measuring": 3.0, "seed": 2.0, "report": 1.0}
    total = sum(costs.values()) + (n_seeds - 1) * costs["seed"]
    if options.single_length:
        costs["separately trained codes"] = 60.0
        total += 60.0
    return lambda name, kind="": stages(job)(name, costs[kind or name] / total)


def _refuse_other_data(
    run: Run, checkpoint: str, encoder: HashEncoder, splits: Splits, collection: CaptionedImages
) -> None:
    if encoder.checkpoint.provenance.split != splits.fingerprints["train"]:
        raise BadInput(
            f"{checkpoint} of run {run.id} was trained on other data, or on another split of it, "
            f"than the {collection.name!r} of today",
            hint="It may have seen the held-out pictures. Evaluate best.safetensors, or train again.",
        )


def _add_single_lengths(
    collection: CaptionedImages,
    splits: Splits,
    encoder: HashEncoder,
    features: NDArray[np.float32],
    run: Run,
    found: Sequence[Task],
    options: EvalOptions,
    job: JobContext,
) -> None:
    """Train a code for each length alone and measure it on the same tasks."""
    models = single_length.train_single_lengths(
        collection, splits, features, encoder.checkpoint.provenance.tower, run.config, job.progress
    )
    for length, model in models.items():
        for task in evaluation.tasks(collection, splits, model, features, options):
            nested = next(one for one in found if one.prefix == task.prefix)
            if task.itself is None:
                nested.records.setdefault(single_length.NAME, []).extend(
                    evaluate_codes(
                        task.queries.codes,
                        task.gallery.codes,
                        task.relevance,
                        bits=(length,),
                        ks=(max(options.ks),),
                        protocol=protocol_of(options.protocol),
                        radii=(),
                    )
                )
    for task in found:
        names = ("mAP", f"R@{max(options.ks)}")
        task.resample(
            ((single_length.NAME, bits, name) for bits in CODE_LENGTHS for name in names), options.resamples
        )


def _said(name: str, metrics: Mapping[str, float]) -> str:
    """Return the one number for a list of jobs, with what it is of the float's."""
    if not name:
        return "nothing could be counted"
    direction, _, metric = name.partition("/")
    kept = metrics.get(f"{direction}/retention@128")
    share = "" if kept is None else f", {kept:.0%} of the float's"
    arrow = evaluation.DIRECTIONS[direction][2]
    return f"{arrow} {metric.removesuffix('@128')} {metrics[name]:.3f} at 128 bits{share}"


# --- seeds --------------------------------------------------------------------------------------------------


def _other_seeds(job: JobContext, run: Run, options: EvalOptions) -> dict[int, Run]:
    """Return the newest run of each further seed that is like the chosen one in all but its seed.

    Raises
    ------
    workbench.BadInput
        There is none for a seed.
    """
    wanted = [seed for seed in dict.fromkeys(options.seeds) if seed != run.config.get("seed")]
    out: dict[int, Run] = {}
    for other in job.workspace.runs(run.experiment) if wanted else ():
        seed = other.config.get("seed")
        if (
            seed in wanted
            and seed not in out
            and _apart_from_seed(other.config) == _apart_from_seed(run.config)
            and options.checkpoint in checkpoint_names(other)
        ):
            out[seed] = other
    missing = [seed for seed in wanted if seed not in out]
    if missing:
        raise BadInput(
            f"no run of experiment {run.experiment!r} is as run {run.id} with seed "
            f"{', '.join(map(str, missing))} and has {options.checkpoint}",
            hint=f"Train them with seeds={list(options.seeds)} and the same options.",
        )
    return {seed: out[seed] for seed in wanted}


def _apart_from_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("seed", "seeds", "name")}


def _metrics_of_run(
    run: Run,
    options: EvalOptions,
    collection: CaptionedImages,
    splits: Splits,
    measured_on: Splits,
    features: NDArray[np.float32],
    job: JobContext,
) -> dict[str, float]:
    encoder = open_encoder(run, options.checkpoint)
    _refuse_other_data(run, options.checkpoint, encoder, splits, collection)
    short = options.model_copy(update={"resamples": 10})
    found = evaluation.evaluate(collection, measured_on, encoder, features, short, job)
    metrics = metric_names.metrics_of(found, options.ks)
    return metrics | metric_names.headlines(metrics, [task.language for task in found])


# --- the report ---------------------------------------------------------------------------------------------


def _views(
    collection: CaptionedImages,
    found: Sequence[Task],
    metrics: Mapping[str, float],
    by_seed: Mapping[int, Mapping[str, float]],
    words: Mapping[str, str],
    options: EvalOptions,
    progress: Callable[..., None],
) -> list[View]:
    name = f"R@{max(options.ks)}"
    parts: list[Callable[[], View | list[View]]] = [
        lambda: report.summary(found, metrics, options.ks),
        lambda: report.seeds_view(by_seed, _claims(metrics, name)) if len(by_seed) > 1 else [],
        lambda: report.retrieval_tables(found, options.ks),
        lambda: report.length_curves(found, name),
        lambda: report.retention_curves(found, name),
        lambda: report.ties_table(found, options.ks),
        lambda: report.baseline_views(found, name, words),
        lambda: report.precision_recall_views(found),
        lambda: health_report.health_views(found),
        lambda: worst_views(collection, found, options.worst),
    ]
    views: list[View] = []
    for done, part in enumerate(parts):
        progress(done, len(parts), "writing the report")
        made = part()
        views += made if isinstance(made, list) else [made]
    return views


def _claims(metrics: Mapping[str, float], name: str) -> list[str]:
    lengths = [*map(str, CODE_LENGTHS), "float"]
    return [
        full
        for way in ("t2i", "i2t")
        for what in (name, "mAP")
        for b in lengths
        if (full := f"{way}/{what}@{b}") in metrics
    ]


def _leakage(checked: Mapping[str, int], splits: Splits) -> View:
    words = {
        "items": "Items, each in exactly one part",
        "pictures": "Different pictures, none in two parts",
        "concepts": "Concepts, none on both sides of the concept split",
        "base_words": "Base words, none on both sides of the concept split",
        "held_out_drawings": "Held-out drawings, each with its concept in training in another drawing",
    }
    rows = [(words.get(key, key), count) for key, count in checked.items()]
    return report.card(
        rows,
        "Leakage check: passed",
        ("Checked", "Count"),
        [
            "Checked before anything is measured; a leak stops the evaluation. Pictures are the same where "
            "their pixels are.",
            *splits.notes,
        ],
    )


def _run_card(
    run: Run, options: EvalOptions, encoder: HashEncoder, collection: CaptionedImages, splits: Splits
) -> View:
    trained, config = encoder.checkpoint.provenance, encoder.checkpoint.config
    rules = protocol_of(options.protocol)
    rows: list[tuple[str, Any]] = [
        ("Run", f"{run.id} ({run.name}), experiment {run.experiment}"),
        ("Checkpoint", f"{options.checkpoint}, step {trained.step}, seed {trained.seed}"),
        ("Weights (SHA-256)", encoder.fingerprint),
        ("Collection", f"{collection.name}: {len(collection):,} pictures, {', '.join(collection.languages)}"),
        ("Data (SHA-256)", collection.fingerprint),
        *((f"Split {part.replace('_', ' ')} (SHA-256)", mark) for part, mark in splits.fingerprints.items()),
        ("Flags", "counted" if options.flags else "left out"),
        ("Picture network", trained.tower or config.image_tower),
        ("Pictures", "on white, RGB, sized by the network"),
        ("Texts", f"case-folded character n-grams, Hangul as jamo, {config.text_buckets:,} rows"),
        ("Code", f"{config.bits} bits, prefixes {', '.join(map(str, CODE_LENGTHS))}, one threshold a bit"),
        ("Protocol", options.protocol),
        ("Order of ties in what is shown", "(distance, item id)"),
        ("Intervals", f"{options.resamples:,} bootstrap draws over queries, seed 0"),
        *(("Version", version) for version in _versions()),
    ]
    return report.card(
        rows,
        "Run card",
        ("What", "Value"),
        [
            "With these, the same command gives the same numbers.",
            rules.words,
            f"Options: {options.model_copy(update={'run': run.id}).model_dump_json()}",
        ],
    )


def _versions() -> list[str]:
    out = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            out.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return [*out, f"{platform.system()} {platform.machine()}"]
