"""The eval job: from its options to a reproducible result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.evaluate import measuring, metric_names, tasks
from adapters.vlm_quantization.evaluate.funnel import Funnel, measure_funnel
from adapters.vlm_quantization.evaluate.overlap import find_overlap
from adapters.vlm_quantization.evaluate.report import against_baselines, curves, health, tables
from adapters.vlm_quantization.evaluate.report.card import leakage_view, overlap_rows, run_card
from adapters.vlm_quantization.evaluate.report.duplicates import duplicate_views, duplicate_warnings
from adapters.vlm_quantization.evaluate.report.funnel import funnel_views
from adapters.vlm_quantization.evaluate.report.stability import stability_views
from adapters.vlm_quantization.evaluate.report.worst import worst_views
from adapters.vlm_quantization.evaluate.seeds import metrics_of_run, refuse_other_data
from adapters.vlm_quantization.evaluate.stability import Stability, measure_stability
from adapters.vlm_quantization.evaluate.subject import FromFeatures
from adapters.vlm_quantization.evaluate.tested import MeasuredOn, chosen_parts, is_refit, trained_rows
from adapters.vlm_quantization.job_inputs import (
    choose_run,
    chosen_encoding,
    collection_of,
    left_out,
    open_encoder,
    other_seeds,
    problems_of,
    splits_of,
    stages,
)
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes
from adapters.vlm_quantization.metrics.protocols import protocol_of
from adapters.vlm_quantization.options import EvalOptions
from adapters.vlm_quantization.towers.device import use_device
from adapters.vlm_quantization.towers.features import Encoding, picture_features, remembered_texts
from adapters.vlm_quantization.train import single_length
from adapters.vlm_quantization.train.picture_views import view_features
from adapters.vlm_quantization.views import seeds_view
from workbench import BadInput, Result, View

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.evaluate.overlap import Overlap
    from adapters.vlm_quantization.evaluate.subject import Origin, Subject
    from adapters.vlm_quantization.evaluate.tasks import Task
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import FamilyEvalOptions
    from workbench import JobContext, Run


#: Descriptions of rankings for the report.
WORDS = {
    tasks.LEARNED: "the code of this model; each length is a prefix of the longest",
    single_length.NAME: single_length.WORDS,
}


@dataclass(frozen=True)
class ModelUnderTest:
    """The checkpoint of an evaluation.

    Attributes
    ----------
    run : Run
        The run that it belongs to.
    encoder : object
        The opened checkpoint.
    origin : Origin
        What it was trained on.
    others : dict of int to Run
        Runs with further seeds, by seed.
    """

    run: Run
    encoder: Any
    origin: Origin
    others: Mapping[int, Run]


@dataclass(frozen=True)
class TestData:
    """What an evaluation measures on.

    Attributes
    ----------
    collection : CaptionedImages
        The collection that the model was trained on.
    splits : Splits
        Its parts.
    measured_on : Splits
        The same without what the options leave out.
    tested : MeasuredOn
        The pictures that are asked about: parts of this collection, or of another one.
    is_own : bool
        Whether they are of this collection.
    subject, asked : Subject
        The model with the pictures of this collection, and with those that are asked about.
    checked : dict of str to int
        What the leakage check counted.
    overlap : Overlap
        Pictures of the test that equal training pictures, or look like them.
    """

    __test__ = False  # pytest collects classes by name

    collection: CaptionedImages
    splits: Splits
    measured_on: Splits
    tested: MeasuredOn
    is_own: bool
    subject: Subject
    asked: Subject
    checked: Mapping[str, int]
    overlap: Overlap


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    tasks : list of Task
        One per part, direction and language, with the records of every method.
    metrics : dict of str to float
        By full name.
    by_seed : dict of int to dict
        The metrics of each seed.
    words : dict of str to str
        Descriptions of the methods.
    stability : Stability
        What changes of pictures and texts do to their codes.
    funnel : Funnel
        What a search in stages finds of an exact one.
    """

    tasks: list[Task]
    metrics: Mapping[str, float]
    by_seed: Mapping[int, Mapping[str, float]]
    words: Mapping[str, str]
    stability: Stability
    funnel: Funnel


def run_evaluation(options: FamilyEvalOptions, job: JobContext, family: Family) -> Result:
    """Evaluate a checkpoint on held-out pictures, or on another collection, and write the report.

    These are the steps of the evaluate notebook in one call.

    Raises
    ------
    workbench.BadInput
        The run, checkpoint or collection is unusable, or nothing is held out to evaluate on.
    LeakageError
        The model was trained on pictures of the test.
    """
    model = load_model(options, job, family)
    data = open_test(model, options, job, family)
    measured = measure(model, data, options, job, family)
    report = write_report(model, data, measured, options, job)
    return evaluation_result(model, data, measured, report, options, job)


def load_model(options: FamilyEvalOptions, job: JobContext, family: Family) -> ModelUnderTest:
    """Open the checkpoint, and find the runs with further seeds."""
    run = choose_run(job.workspace, options.run, options.checkpoint, family)
    encoder = use_device(open_encoder(run, options.checkpoint, family), options)
    origin = family.origin(run, encoder)
    if origin.taken_from and isinstance(options, EvalOptions) and options.single_length:
        raise BadInput(
            f"run {run.id} was taken over from {origin.taken_from}, so nothing can be trained as it was",
            hint="Evaluate without single_length.",
        )
    return ModelUnderTest(run, encoder, origin, other_seeds(job.workspace, run, options))


def open_test(model: ModelUnderTest, options: FamilyEvalOptions, job: JobContext, family: Family) -> TestData:
    """Open the pictures that are asked about, and compare them with those that the model was trained on.

    Raises
    ------
    workbench.BadInput
        A collection is unusable, nothing is held out, or the model was trained on another split.
    LeakageError
        The model was trained on pictures of the test.
    """
    run, encoder, origin = model.run, model.encoder, model.origin
    source, cache = collection_of(run), job.workspace.cache
    is_own = options.collection in ("", source)
    stage = _shares(job, options, len(model.others))
    with stage("pictures"):
        collection = open_collection(source, cache_dir=cache, progress=job.progress)
        given = chosen_encoding(options)
        subject = family.subject(encoder, collection, cache, job.progress, **given)
        splits = splits_of(collection, run.config, cache, job.progress)
        tested = _tested(collection, splits, is_own=is_own, options=options, job=job)
        asked = subject
        if not is_own:
            asked = family.subject(encoder, tested.collection, cache, job.progress, **given)
    if is_own or not is_refit(origin, collection):
        refuse_other_data(run, options.checkpoint, origin, splits, collection)
    accepted = options.accept_training_pictures_in_test
    checked = check_leakage(collection, splits, accept_duplicates=accepted)
    with stage("duplicates"):
        overlap = find_overlap(
            collection,
            trained_rows(origin, collection, splits),
            tested,
            accept=accepted,
            near=options.near_duplicates,
            cache=cache,
            progress=job.progress,
        )
    measured_on = splits if options.flags else splits.without_flags(collection)
    return TestData(
        collection, splits, measured_on, tested, is_own, subject, asked, checked=checked, overlap=overlap
    )


def measure(
    model: ModelUnderTest, data: TestData, options: FamilyEvalOptions, job: JobContext, family: Family
) -> Measured:
    """Ask every query by every method, and compute the metrics; other seeds are measured in the same way."""
    stage = _shares(job, options, len(model.others))
    with stage("measuring"):
        fitted = []
        if options.baselines:
            fitted = measuring.fit(data.collection, data.measured_on, data.subject, job.progress)
        measured = measuring.evaluate(data.tested, fitted, data.asked, options, job)
    with stage("stability"):
        stability = measure_stability(data.tested.collection, measured, data.asked, options, job.progress)
        funnel = measure_funnel(measured)
    words = dict(WORDS)
    if options.baselines:
        words |= {one.name: one.words for one in measuring.fitted_on(measured)}
    if isinstance(options, EvalOptions) and options.single_length:
        with stage("separately trained codes"):
            _add_single_lengths(
                data.collection,
                data.measured_on,
                data.tested,
                model.encoder,
                model.run,
                measured,
                options,
                job,
            )
    metrics = metric_names.metrics_of(measured, options.ks)
    metrics |= metric_names.headlines(metrics, [task.language for task in measured])
    by_seed = {model.origin.seed: metrics}
    for seed, other in model.others.items():
        with stage(f"seed {seed}", "seed"):
            by_seed[seed] = metrics_of_run(
                other, options, data.collection, data.splits, data.measured_on, data.tested, job, family
            )
    return Measured(measured, metrics, by_seed, words, stability, funnel)


def write_report(
    model: ModelUnderTest,
    data: TestData,
    measured: Measured,
    options: FamilyEvalOptions,
    job: JobContext,
) -> dict[str, list[View]]:
    """Return the sections of the report with their views, from ``"summary"`` to ``"run card"``."""
    collection, tested, overlap = data.collection, data.tested, data.overlap
    with _shares(job, options, len(model.others))("report"):
        sections = _sections(
            tested.collection,
            measured.tasks,
            measured.metrics,
            measured.by_seed,
            measured.words,
            options,
            job.progress,
        )
        sections["funnel"] = funnel_views(measured.funnel)
        sections["stability"] = stability_views(measured.stability)
        sections["run card"] = duplicate_views(collection, tested.collection, overlap)
    sections["run card"] += [
        leakage_view(data.checked, data.splits, overlap_rows(tested, overlap), accepted=len(overlap.equal)),
        run_card(
            model.run,
            options,
            model.origin,
            collection,
            data.measured_on,
            tested,
            is_own=data.is_own,
        ),
    ]
    return sections


def evaluation_result(
    model: ModelUnderTest,
    data: TestData,
    measured: Measured,
    report: Mapping[str, Sequence[View]],
    options: FamilyEvalOptions,
    job: JobContext,
) -> Result:
    """Return the result of the job: the metrics with the whole report."""
    collection, tested, metrics = data.collection, data.tested, measured.metrics
    run, origin, overlap = model.run, model.origin, data.overlap
    last = max(options.ks)
    at = next((n for way in options.directions if (n := f"{way}/R@{last}@128") in metrics), "")
    starts = tuple(f"{way}/{name}@" for way in options.directions for name in (f"R@{last}", "mAP"))
    where = _where(tested, options, is_own=data.is_own)
    return Result(
        summary=f"{_summary(at, metrics)} (run {run.id}{where}){left_out(tested.collection)}",
        metrics={**metrics, **measured.stability.metrics, **measured.funnel.metrics},
        headline=[name for name in metrics if name.startswith(starts) and not name.startswith("i2t/mAP")],
        views=[view for views in report.values() for view in views],
        made={"run": run.id, "checkpoint": options.checkpoint},
        warnings=[
            *_unknown_training(origin.taken_from),
            *duplicate_warnings(collection, tested.collection, overlap),
            *_problems(collection, tested, job),
        ],
        samples=metric_names.samples_of(measured.tasks, options.ks, metrics),
    )


def _unknown_training(taken_from: str) -> list[str]:
    """Return a warning about a model that was trained elsewhere."""
    if not taken_from:
        return []
    return [
        f"The model was taken over from {taken_from}: what it was trained on is unknown, so it may have seen "
        "pictures that are called held out here."
    ]


def _tested(
    collection: CaptionedImages,
    splits: Splits,
    *,
    is_own: bool,
    options: FamilyEvalOptions,
    job: JobContext,
) -> MeasuredOn:
    """Return what is measured on: parts of the run's collection, or of another one."""
    if is_own:
        return MeasuredOn(collection, chosen_parts(collection, splits, options))
    other = open_collection(options.collection, cache_dir=job.workspace.cache, progress=job.progress)
    return MeasuredOn(other, chosen_parts(other, None, options))


def _problems(collection: CaptionedImages, tested: MeasuredOn, job: JobContext) -> list[str]:
    """Return the warnings about the collections that were opened."""
    own = problems_of(tested.collection, job)
    if tested.collection is collection or not collection.problems:
        return own
    return [*own, f"In the run's collection, {collection.problem_summary}"]


def _where(tested: MeasuredOn, options: FamilyEvalOptions, *, is_own: bool) -> str:
    """Return what a job's summary adds if not the run's own test parts were measured."""
    if is_own and not options.split:
        return ""
    name = "" if is_own else f"{tested.collection.name}, "
    return f"; {name}{' and '.join(part.words for part in tested.parts)}"


def _shares(job: JobContext, options: FamilyEvalOptions, n_seeds: int) -> Callable[..., Any]:
    """Return a stage function whose shares of the progress match the cost of each stage."""
    costs = {
        "pictures": 3.0,
        "duplicates": 0.5,
        "measuring": 3.0,
        "stability": 1.0,
        "seed": 2.0,
        "report": 1.0,
    }
    total = sum(costs.values()) + (n_seeds - 1) * costs["seed"]
    if isinstance(options, EvalOptions) and options.single_length:
        costs["separately trained codes"] = 60.0
        total += 60.0
    return lambda name, kind="": stages(job)(name, costs[kind or name] / total)


def _add_single_lengths(
    collection: CaptionedImages,
    splits: Splits,
    tested: MeasuredOn,
    encoder: HashEncoder,
    run: Run,
    measured: Sequence[Task],
    options: EvalOptions,
    job: JobContext,
) -> None:
    """Train a separate code for each length and measure it on the same tasks."""
    cache = job.workspace.cache
    how = Encoding(batch_size=options.batch_size, progress=job.progress)
    frozen = encoder.text_tower
    views = view_features(
        collection,
        encoder.tower,
        int(run.config.get("views", 0)),
        cache,
        how=how,
        flip=bool(run.config.get("flip_views", False)),
    )
    models = single_length.train_single_lengths(
        collection,
        splits,
        picture_features(collection, encoder.tower, cache, how=how),
        encoder.checkpoint.provenance.tower,
        run.config,
        job.progress,
        frozen and remembered_texts(collection, frozen, cache, how=how),
        views,
    )
    features = picture_features(tested.collection, encoder.tower, cache, how=how)
    for length, model in models.items():
        subject = FromFeatures(model, features)
        if frozen is not None:  # tuned towers are in the checkpoint of the run alone
            subject.texts = partial(model.encode_texts, tower=frozen)
        for task in tasks.tasks(tested.collection, tested.parts, subject, options):
            nested = next(one for one in measured if one.prefix == task.prefix)
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
    for task in measured:
        names = ("mAP", f"R@{max(options.ks)}")
        task.resample(
            ((single_length.NAME, bits, name) for bits in CODE_LENGTHS for name in names), options.resamples
        )


def _summary(name: str, metrics: Mapping[str, float]) -> str:
    """Return one metric for the list of jobs, with its share of the float metric."""
    if not name:
        return "no metric at 128 bits"
    direction, _, metric = name.partition("/")
    kept = metrics.get(f"{direction}/retention@128")
    share = "" if kept is None else f", {kept:.0%} of float cosine"
    arrow = tasks.DIRECTIONS[direction][2]
    return f"{arrow} {metric.removesuffix('@128')} {metrics[name]:.3f} at 128 bits{share}"


# --- the report ---------------------------------------------------------------------------------------------


def _sections(
    collection: CaptionedImages,
    measured: Sequence[Task],
    metrics: Mapping[str, float],
    by_seed: Mapping[int, Mapping[str, float]],
    words: Mapping[str, str],
    options: FamilyEvalOptions,
    progress: Callable[..., None],
) -> dict[str, list[View]]:
    name = f"R@{max(options.ks)}"
    parts: list[tuple[str, Callable[[], View | list[View]]]] = [
        ("summary", lambda: tables.summary(measured, metrics, options.ks)),
        ("summary", lambda: seeds_view(by_seed, _claims(metrics, name)) if len(by_seed) > 1 else []),
        ("summary", lambda: tables.retrieval_tables(measured, options.ks, options.protocol)),
        ("by length", lambda: curves.length_curves(measured, name)),
        ("by length", lambda: curves.retention_curves(measured, name)),
        ("by length", lambda: tables.ties_table(measured, options.ks)),
        ("baselines", lambda: against_baselines.baseline_views(measured, name, words)),
        ("diagnostics", lambda: curves.precision_recall_views(measured)),
        ("diagnostics", lambda: health.health_views(measured)),
        ("worst queries", lambda: worst_views(collection, measured, options.worst)),
    ]
    sections: dict[str, list[View]] = {}
    for done, (section, part) in enumerate(parts):
        progress(done, len(parts), "writing the report")
        made = part()
        sections.setdefault(section, []).extend(made if isinstance(made, list) else [made])
    return sections


def _claims(metrics: Mapping[str, float], name: str) -> list[str]:
    lengths = [*map(str, CODE_LENGTHS), "float"]
    return [
        full
        for way in ("t2i", "i2t")
        for what in (name, "mAP")
        for b in lengths
        if (full := f"{way}/{what}@{b}") in metrics
    ]
