"""The train job."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
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
from adapters.vlm_quantization.towers.features import picture_features, remembered_texts
from adapters.vlm_quantization.towers.registry import about_encoder, image_name, image_tower, text_tower
from adapters.vlm_quantization.train import resuming, train
from adapters.vlm_quantization.train.finite import NotFinite
from adapters.vlm_quantization.train.state import StateFile, remove_old_states, state_path
from adapters.vlm_quantization.train.validation import DECIDING
from workbench import Result, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.options import TrainOptions
    from workbench import JobContext, Run

#: Setting of a run that holds what is recorded about an encoder of one's own: revision, files, processor.
ENCODER_RECORD = "encoder_record"


#: Captions whose tokens are counted at a time.
_COUNTED = 2048


def run_training(options: TrainOptions, job: JobContext) -> Result:
    """Train hash heads and a text tower, or the encoder too; the run stores curves and checkpoints."""
    if options.from_checkpoint:
        from adapters.vlm_quantization.train.taken_over import take_over

        return take_over(options, job)
    if options.resume is not None:
        options = resuming.resumed_options(options, job.workspace)
    cache = job.workspace.cache
    device = chosen_device(options.device)
    collection = open_collection(options.collection, cache_dir=cache, progress=job.progress)
    refuse_without_captions(collection)
    splits = splits_of(collection, options.model_dump(), cache, job.progress)
    checked = check_leakage(collection, splits, accept_duplicates=options.accept_training_pictures_in_test)
    about = about_encoder(options.encoder)
    recorded = {ENCODER_RECORD: about} if about else {}
    tower = place(image_tower(image_name(options.encoder)), device)
    features = picture_features(collection, tower, cache, job.progress)
    frozen = train.frozen_texts(options)
    texts = None
    if frozen:
        texts = remembered_texts(collection, place(text_tower(frozen), device), cache, job.progress)
    seeds = list(dict.fromkeys(options.seeds)) or [options.seed]
    remove_old_states(cache, lambda: {run.id for run in job.workspace.runs()})
    done: dict[int, tuple[Run, Any]] = {}
    notes: list[str] = []
    for seed in seeds:
        several = len(seeds) > 1
        own = options.model_copy(
            update={
                "seed": seed,
                "seeds": (),
                "name": f"{options.name}-s{seed}" if several else options.name,
            }
        )
        identity = resuming.identity_of(
            own,
            collection.fingerprint,
            splits.fingerprints["train"],
            tower.fingerprint,
            "" if texts is None else texts.fingerprint,
        )
        found, note = resuming.find_state(own, identity, job)
        notes += [note] if note else []
        if found is not None and (trained := resuming.already_trained(found)):
            done[seed] = (found.run, trained)
            continue
        config = own.model_dump() | recorded | {"resume": None}
        if found is not None:
            config[resuming.RESUMED] = {"run": found.run.id, "step": resuming.step_of(found.state)}
            notes.append(f"Resumed: run {found.run.id} after step {config[resuming.RESUMED]['step']:,}.")
        with (
            stages(job)(f"seed {seed}", 1 / len(seeds)) if several else nullcontext(),
            _items_written(job),
            job.start_run(own.experiment, name=own.name, config=config) as run,
        ):
            if found is not None:
                resuming.take_over_record(found, run)
            keeper = StateFile(state_path(cache, run.id), own.save_state_every, before=run.flush)
            trained = train.train(
                collection,
                splits,
                features,
                tower.fingerprint,
                own,
                run,
                job.progress,
                texts,
                keeper=keeper,
                identity=identity,
                saved=None if found is None else found.state,
            )
            keeper.save({**identity, **resuming.finished(trained)}, {})
        done[seed] = (run, trained)
    result = _trained(done, collection, splits, checked, job)
    result.views[-1].notes.extend([*notes, *tuning_notes(options, device), *encoder_notes(about)])
    if frozen and (note := cut_note(collection, text_tower(frozen))):
        result.warnings.append(note)
    for _, path in resuming.states_of_job(job):  # nothing is left to go on with
        path.unlink(missing_ok=True)
    if options.resume is not None:
        state_path(cache, options.resume).unlink(missing_ok=True)
    return result


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
    done: Mapping[int, tuple[Run, Any]],
    collection: CaptionedImages,
    splits: Splits,
    checked: Mapping[str, int],
    job: JobContext,
) -> Result:
    """Return the result: the run, or with several seeds, all runs and the best one on validation."""
    best = max(done, key=lambda seed: done[seed][1].best.get(DECIDING, 0.0))
    run, trained = done[best]
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
        by_seed = {seed: one.best for seed, (_, one) in done.items()}
        views.insert(0, shared_views.seeds_view(by_seed, list(metrics)))
        made["runs"] = [one.id for one, _ in done.values()]
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
