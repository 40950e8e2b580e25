"""The train job."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization import views as shared_views
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.checkpoint import BEST
from adapters.vlm_quantization.job_inputs import (
    left_out,
    problems_of,
    refuse_without_captions,
    splits_of,
    stages,
)
from adapters.vlm_quantization.towers.device import chosen_device, place
from adapters.vlm_quantization.towers.features import Encoding, picture_features, remembered_texts
from adapters.vlm_quantization.towers.registry import about_encoder, image_name, image_tower, text_tower
from adapters.vlm_quantization.train import resuming, train
from adapters.vlm_quantization.train.finite import NotFinite
from adapters.vlm_quantization.train.picture_views import view_features
from adapters.vlm_quantization.train.state import StateFile, remove_old_states, state_path
from adapters.vlm_quantization.train.validation import DECIDING
from workbench import BadInput, Result, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.evaluate.subject import Subject
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.towers.tower import TextTower
    from adapters.vlm_quantization.train.picture_views import ViewFeatures
    from adapters.vlm_quantization.train.state import State
    from adapters.vlm_quantization.train.train import Trained, Training
    from workbench import JobContext, Run

#: Setting of a run that holds what is recorded about an encoder of one's own: revision, files, processor.
ENCODER_RECORD = "encoder_record"


#: Captions whose tokens are counted at a time.
_COUNTED = 2048


@dataclass(frozen=True)
class TrainingData:
    """The pictures of a training.

    Attributes
    ----------
    collection : CaptionedImages
        All pictures with their captions.
    splits : Splits
        Which of them are trained on, validated on and held out.
    checked : dict of str to int
        What the leakage check counted.
    """

    collection: CaptionedImages
    splits: Splits
    checked: Mapping[str, int]


@dataclass(frozen=True)
class TrainingInputs:
    """What the frozen encoder makes of the pictures and texts.

    Attributes
    ----------
    features : ndarray, float32, shape (n, d)
        Of all pictures of the collection.
    tower : str
        Fingerprint of the network that made them.
    texts : TextTower or None
        The frozen text tower, which remembers the texts of the collection; None with n-grams alone.
    views : ViewFeatures or None
        Features of the pictures' views; None without views.
    about : dict
        What is recorded about an encoder of one's own; empty for a built-in one.
    """

    features: NDArray[np.float32]
    tower: str
    texts: TextTower | None
    views: ViewFeatures | None
    about: Mapping[str, Any]


@dataclass(frozen=True)
class TrainedRun:
    """One run, and its outcome.

    Attributes
    ----------
    run : Run
        It has the curves and the checkpoints.
    trained : Trained
        Steps, and the validation metrics of its best model.
    notes : tuple of str
        What was resumed, or why not.
    """

    run: Run
    trained: Trained
    notes: tuple[str, ...] = ()


def run_training(options: TrainOptions, job: JobContext) -> Result:
    """Train hash heads and a text tower, or the encoder too; the run stores curves and checkpoints.

    These are the steps of the train notebook in one call.
    """
    if options.from_checkpoint:
        from adapters.vlm_quantization.train.taken_over import take_over

        return take_over(options, job)
    options = settings_of(options, job)
    data = open_data(options, job)
    inputs = encode_inputs(data, options, job)
    runs = train_models(data, inputs, options, job)
    return training_result(data, inputs, runs, options, job)


def settings_of(options: TrainOptions, job: JobContext) -> TrainOptions:
    """Return the options of a training; one that resumes a run has those of the run.

    Raises
    ------
    workbench.BadInput
        There is nothing to resume, or an option is given that the run had another value of.
    UnknownRun
        There is no run to resume.
    """
    return options if options.resume is None else resuming.resumed_options(options, job.workspace)


def open_data(options: TrainOptions, job: JobContext) -> TrainingData:
    """Open the collection, split it, and check that nothing held out is in the training part.

    Raises
    ------
    workbench.BadInput
        The collection is unusable, or has no captions; or a checkpoint is to be taken over.
    LeakageError
        A picture is in two parts.
    """
    if options.from_checkpoint:
        raise BadInput(
            "from_checkpoint takes a model over, which has other steps than a training",
            hint="Submit it as a job: workbench jobs submit train --option from_checkpoint=FILE",
        )
    cache = job.workspace.cache
    collection = open_collection(options.collection, cache_dir=cache, progress=job.progress)
    refuse_without_captions(collection)
    splits = splits_of(collection, options.model_dump(), cache, job.progress)
    checked = check_leakage(collection, splits, accept_duplicates=options.accept_training_pictures_in_test)
    return TrainingData(collection, splits, checked)


def encode_inputs(data: TrainingData, options: TrainOptions, job: JobContext) -> TrainingInputs:
    """Encode all pictures and texts with the frozen encoder, or read what an earlier job encoded."""
    cache = job.workspace.cache
    about = about_encoder(options.encoder)
    device = chosen_device(options.device)
    tower = place(image_tower(image_name(options.encoder)), device)
    how = Encoding(batch_size=options.batch_size, progress=job.progress, say=print)
    features = picture_features(data.collection, tower, cache, how=how)
    count = options.views if options.tune == "heads" else 0  # trained towers encode views as they come
    views = view_features(data.collection, tower, count, cache, how=how, flip=options.flip_views)
    frozen = train.frozen_texts(options)
    texts = None
    if frozen:
        texts = remembered_texts(data.collection, place(text_tower(frozen), device), cache, how=how)
    return TrainingInputs(features, tower.fingerprint, texts, views, about)


def set_up_model(data: TrainingData, inputs: TrainingInputs, options: TrainOptions) -> Training:
    """Make the model of the first seed, with its weights as they are before training."""
    first = _of_seed(options, _seeds(options)[0])
    return _set_up(data, inputs, first)


def _set_up(
    data: TrainingData, inputs: TrainingInputs, options: TrainOptions, saved: State | None = None
) -> Training:
    return train.set_up(
        data.collection,
        data.splits,
        inputs.features,
        inputs.tower,
        options,
        inputs.texts,
        inputs.views,
        saved,
    )


def train_models(
    data: TrainingData,
    inputs: TrainingInputs,
    options: TrainOptions,
    job: JobContext,
    *,
    first: Training | None = None,
    watch: Callable[[Run], object] | None = None,
) -> dict[int, TrainedRun]:
    """Train one model per seed; each is a run with its curves and checkpoints.

    Parameters
    ----------
    data, inputs, options, job
        As the steps before returned them.
    first : Training, optional
        A model that is set up for the first seed, possibly changed; see :func:`set_up_model`.
    watch : callable, optional
        Called with the run at each step, and once when it has ended.

    Returns
    -------
    dict of int to TrainedRun
        By seed.
    """
    seeds = _seeds(options)
    remove_old_states(job.workspace.path, lambda: {run.id for run in job.workspace.runs()})
    done: dict[int, TrainedRun] = {}
    for seed in seeds:
        own = _of_seed(options, seed)
        with stages(job)(f"seed {seed}", 1 / len(seeds)) if len(seeds) > 1 else nullcontext():
            done[seed] = _train_model(data, inputs, own, job, first, watch)
        first = None
    return done


def _train_model(
    data: TrainingData,
    inputs: TrainingInputs,
    options: TrainOptions,
    job: JobContext,
    training: Training | None,
    watch: Callable[[Run], object] | None,
) -> TrainedRun:
    """Train the model of one seed, or go on with an earlier attempt at it."""
    identity = resuming.identity_of(
        options,
        data.collection.fingerprint,
        data.splits.fingerprints["train"],
        inputs.tower,
        "" if inputs.texts is None else inputs.texts.fingerprint,
    )
    found, note = resuming.find_state(options, identity, job)
    notes = [note] if note else []
    if found is not None and (trained := resuming.already_trained(found)):
        return TrainedRun(found.run, trained, tuple(notes))
    recorded = {ENCODER_RECORD: inputs.about} if inputs.about else {}
    config = options.model_dump() | recorded | {"resume": None}
    if found is not None:
        config[resuming.RESUMED] = {"run": found.run.id, "step": resuming.step_of(found.state)}
        notes.append(f"Resumed: run {found.run.id} after step {config[resuming.RESUMED]['step']:,}.")
    with (
        _items_written(job),
        job.start_run(options.experiment, name=options.name, config=config) as run,
    ):
        if found is not None:
            resuming.take_over_record(found, run)
        keeper = StateFile(state_path(job.workspace.path, run.id), options.save_state_every, before=run.flush)
        saved = None if found is None else found.state
        trained = train.fit(
            training if training and saved is None else _set_up(data, inputs, options, saved),
            run,
            _watched(job.progress, run, watch),
            keeper=keeper,
            identity=identity,
            saved=saved,
        )
        keeper.save({**identity, **resuming.finished(trained)}, {})
    if watch is not None:
        watch(run)
    return TrainedRun(run, trained, tuple(notes))


@contextmanager
def _items_written(job: JobContext) -> Iterator[None]:
    """Write the items of a batch that stopped a training into a file beside the job's notebook."""
    try:
        yield
    except NotFinite as error:
        text = "".join(f"{item}\n" for item in error.items)
        file = job.write_file(f"batch-of-step-{error.step}.txt", text)
        error.advice = f"All of them: {file}"
        raise


def _watched(progress: OnProgress, run: Run, watch: Callable[[Run], object] | None) -> OnProgress:
    """Return a progress function that also lets somebody look at the run."""
    if watch is None:
        return progress

    def both(done: float, total: float | None = None, message: str = "") -> None:
        progress(done, total, message)
        watch(run)

    return both


def _seeds(options: TrainOptions) -> list[int]:
    return list(dict.fromkeys(options.seeds)) or [options.seed]


def _of_seed(options: TrainOptions, seed: int) -> TrainOptions:
    """Return the options of one run."""
    name = f"{options.name}-s{seed}" if len(_seeds(options)) > 1 else options.name
    return options.model_copy(update={"seed": seed, "seeds": (), "name": name})


def training_result(
    data: TrainingData,
    inputs: TrainingInputs,
    runs: Mapping[int, TrainedRun],
    options: TrainOptions,
    job: JobContext,
) -> Result:
    """Return the result of the job: the validation metrics of the best run, with what was trained on."""
    result = _trained(runs, data.collection, data.splits, data.checked, job)
    notes = [note for done in runs.values() for note in done.notes]
    notes += tuning_notes(options, chosen_device(options.device))
    result.views[-1].notes.extend([*notes, *encoder_notes(inputs.about)])
    frozen = train.frozen_texts(options)
    if frozen and (note := cut_note(data.collection, text_tower(frozen))):
        result.warnings.append(note)
    for _, path in resuming.states_of_job(job):  # nothing is left to go on with
        path.unlink(missing_ok=True)
    if options.resume is not None:
        state_path(job.workspace.path, options.resume).unlink(missing_ok=True)
    return result


def best_on_validation(
    data: TrainingData, inputs: TrainingInputs, runs: Mapping[int, TrainedRun]
) -> tuple[Subject, CaptionedImages, NDArray[np.int64]]:
    """Return the best model with the pictures of the collection, the collection, and the validation rows.

    Without a validation part the rows are those of the training part.
    """
    import numpy as np

    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.evaluate.subject import FromFeatures, FromPictures

    encoder = HashEncoder.load(Path(runs[_best_seed(runs)].run.checkpoint(BEST)))
    parts = data.splits
    rows = np.concatenate([parts.val_drawings, parts.val_concepts, parts.val])
    rows = np.sort(rows) if len(rows) else parts.train
    if encoder.tower.fingerprint != inputs.tower:  # it was trained too
        return FromPictures(encoder, data.collection), data.collection, rows
    return FromFeatures(encoder, inputs.features), data.collection, rows


def _best_seed(runs: Mapping[int, TrainedRun]) -> int:
    return max(runs, key=lambda seed: runs[seed].trained.best.get(DECIDING, 0.0))


def tuning_notes(options: TrainOptions, device: str) -> list[str]:
    """Return sentences on how towers were trained, and where; empty for heads on the CPU."""
    notes = []
    if options.tune != "heads":
        what = "Both towers" if options.tune == "towers" else f"Changes of rank {options.lora_rank} (LoRA)"
        parts = "" if options.accumulate == 1 else f", in {options.accumulate} parts per batch"
        notes.append(
            f"{what} were trained too, at a peak learning rate of {options.tower_lr:g}, "
            f"in {options.precision}{parts}."
        )
    if device != "cpu":
        notes.append(f"Computed on {device}.")
    return notes


def encoder_notes(about: Mapping[str, Any]) -> list[str]:
    """Return sentences about an encoder of one's own: its library, and how near OpenVINO is to torch."""
    if not about:
        return []
    revision = f", revision {about['revision']}" if about.get("revision") else ""
    notes = [f"Encoder: {about['type'] or 'model'} by {about['library']}{revision}."]
    for side, executed in about.get("openvino", {}).items():
        notes.append(
            f"OpenVINO executes its {side} in {executed['precision']}; lowest cosine to torch in float32, "
            f"measured at conversion: {executed['cosine']:.5f}."
        )
    return notes


def cut_note(collection: CaptionedImages, tower: Any) -> str:
    """Return a warning about captions that a text tower reads only in part; empty if there are none."""
    count = getattr(tower, "cut_texts", None)
    if count is None:
        return ""
    captions = sorted(
        {text for item in collection.items for texts in item.captions.values() for text in texts}
    )
    cut = sum(count(captions[start : start + _COUNTED]) for start in range(0, len(captions), _COUNTED))
    if not cut:
        return ""
    are = "caption is" if cut == 1 else "captions are"
    read = f"the text network reads only the first {tower.most_tokens} tokens"
    return f"{cut:,} of {len(captions):,} {are} too long: {read}"


def _trained(
    done: Mapping[int, TrainedRun],
    collection: CaptionedImages,
    splits: Splits,
    checked: Mapping[str, int],
    job: JobContext,
) -> Result:
    """Return the result: the run, or with several seeds, all runs and the best one on validation."""
    best = _best_seed(done)
    run, trained = done[best].run, done[best].trained
    metrics = trained.best
    headline = metrics.get("val/R@10@128")
    score = "" if headline is None else f", validation R@10 {headline:.3f} at 128 bits"
    counts = ", ".join(f"{count:,} {part.replace('_', ' ')}" for part, count in splits.counts.items())
    notes = [
        f"Collection {collection.name}: {len(collection):,} pictures; {counts}.",
        _leakage_note(checked),
        *splits.notes,
    ]
    views = [View(kind="metrics_table", title="Validation", data=_validation_rows(metrics), notes=notes)]
    made: dict[str, Any] = {"run": run.id, "checkpoint": BEST}
    summary = f"best at step {trained.best_step} of {trained.steps}{score}{left_out(collection)}"
    if len(done) > 1:
        by_seed = {seed: one.trained.best for seed, one in done.items()}
        views.insert(0, shared_views.seeds_view(by_seed, list(metrics)))
        made["runs"] = [one.run.id for one in done.values()]
        summary = f"{len(done)} seeds, best seed {best}: {summary}"
    return Result(
        summary=summary,
        metrics=metrics,
        headline=[DECIDING],
        views=views,
        made=made,
        warnings=problems_of(collection, job),
    )


def _leakage_note(checked: Mapping[str, int]) -> str:
    if duplicates := checked.get("duplicates"):
        pictures = "1 picture is" if duplicates == 1 else f"{duplicates:,} pictures are"
        return f"Leakage: {pictures} in two parts, as you accepted."
    concepts = f", {checked['concepts']:,} concepts" if "concepts" in checked else ""
    return f"Leakage check passed: {checked['items']:,} items{concepts}."


def _validation_rows(metrics: Mapping[str, float]) -> dict[str, Any]:
    return {"rows": [{"name": name, "value": value} for name, value in metrics.items()]}
