"""Go on with a training that was killed: find its state, check that it fits, and keep its record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.encoding.checkpoint import LAST
from adapters.vlm_quantization.options import TrainOptions
from workbench import BadInput, CorruptFile, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from adapters.vlm_quantization.train.state import State
    from adapters.vlm_quantization.train.train import Trained
    from workbench import JobContext, Run, WorkspaceView

#: Options that a training may change when it goes on: the others decide about its weights.
FREE = ("name", "experiment", "seeds", "resume", "save_state_every", "device")


#: Setting of a run that says from which run and step it went on.
RESUMED = "resumed_from"


@dataclass(frozen=True)
class Found:
    """A state to go on from, and the run that left it."""

    run: Run
    state: State


def identity_of(options: TrainOptions, data: str, split: str, tower: str, text_tower: str) -> dict[str, Any]:
    """Return what decides about a training's weights, JSON data.

    Parameters
    ----------
    options : TrainOptions
    data, split : str
        Fingerprints of the collection and of the part that is trained on.
    tower, text_tower : str
        Fingerprints of the encoder's towers.
    """
    own = options.model_dump(mode="json", exclude=set(FREE))
    return {"options": own, "data": data, "split": split, "tower": tower, "text_tower": text_tower}


def refuse_other(identity: Mapping[str, Any], state: State, run_id: int) -> None:
    """Refuse a state of a training that would have given other weights.

    Raises
    ------
    BadInput
        Options, collection, split or encoder are others; the message names them.
    """
    was = state.about
    if changed := _changed(identity["options"], was.get("options", {})):
        raise BadInput(
            f"run {run_id} cannot be resumed with other options: {changed}",
            hint="Leave these options out, or train again without resume.",
        )
    words = {"data": "the collection", "split": "the split", "tower": "the encoder's picture tower"}
    words["text_tower"] = "the encoder's text tower"
    others = [word for name, word in words.items() if identity[name] != was.get(name)]
    if others:
        raise BadInput(
            f"run {run_id} cannot be resumed: {' and '.join(others)} changed since",
            hint="Put them back as they were, or train again without resume.",
        )


def _changed(now: Mapping[str, Any], was: Mapping[str, Any]) -> str:
    names = sorted(name for name in {*now, *was} if now.get(name) != was.get(name))
    return ", ".join(f"{name}={now.get(name)!r} instead of {was.get(name)!r}" for name in names)


def resumed_options(options: TrainOptions, workspace: WorkspaceView) -> TrainOptions:
    """Return the options of a training that resumes a run: the run's, with those that may be others.

    Raises
    ------
    BadInput
        There is nothing to resume, or an option is given that the run had another value of.
    UnknownRun
        No run has that id.
    """
    from adapters.vlm_quantization.train.state import state_path

    assert options.resume is not None  # noqa: S101  # asked only then
    run = workspace.run(options.resume)
    if run.status == "running":
        raise BadInput(f"run {run.id} is still running", hint="Cancel its job first, or wait for it.")
    if not state_path(workspace.path, run.id).is_file():
        why = "it ended well" if run.status == "succeeded" else "it has left no state"
        raise BadInput(
            f"run {run.id} cannot be resumed: {why}",
            hint="A training leaves a state every `save_state_every` seconds, and keeps it if it is killed, "
            "cancelled or fails.",
        )
    config = {name: value for name, value in run.config.items() if name in TrainOptions.model_fields}
    before = TrainOptions.model_validate(config | {"resume": None, "seeds": ()})
    plain, default = before.model_dump(), TrainOptions().model_dump()
    given = {name: value for name, value in options.model_dump().items() if value != default[name]}
    conflicts = {name: value for name, value in given.items() if name not in FREE and plain[name] != value}
    if conflicts:
        raise BadInput(
            f"run {run.id} cannot be resumed with other options: "
            f"{_changed(conflicts, _of(plain, conflicts))}",
            hint="Leave these options out, or train again without resume.",
        )
    free = {name: value for name, value in given.items() if name in FREE and name != "seeds"}
    return before.model_copy(update={**free, "resume": options.resume})


def _of(values: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names}


def states_of_job(job: JobContext) -> Iterator[tuple[Run, Path]]:
    """Yield the runs of an earlier attempt at this job that left a state, the newest first."""
    from adapters.vlm_quantization.train.state import saved_runs, state_path

    for run_id in saved_runs(job.workspace.path):
        try:
            run = job.workspace.run(run_id)
        except UnknownRun:
            continue
        if run.job_id == job.id:
            yield run, state_path(job.workspace.path, run_id)


def find_state(
    options: TrainOptions, identity: Mapping[str, Any], job: JobContext
) -> tuple[Found | None, str]:
    """Return the state to go on from, and a note about one of this job that cannot be used.

    A run that the options name must fit. A run of an earlier attempt at this job, whose process was killed,
    is used if it fits.

    Raises
    ------
    BadInput, CorruptFile
        The named run's state does not fit, or is damaged.
    """
    from adapters.vlm_quantization.train.state import read_state, state_path

    if options.resume is not None:
        run = job.workspace.run(options.resume)
        state = read_state(state_path(job.workspace.path, run.id))
        refuse_other(identity, state, run.id)
        return Found(run, state), ""
    note = ""
    for run, path in states_of_job(job):
        if run.config.get("seed") != options.seed:
            continue
        try:
            state = read_state(path)
            refuse_other(identity, state, run.id)
        except (BadInput, CorruptFile) as error:
            note = note or f"The training began again: {error.message}."
            continue
        return Found(run, state), note
    return None, note


def finished(trained: Trained) -> dict[str, Any]:
    """Return what is left of the state when a training has ended, for another attempt at its job."""
    return {"finished": asdict(trained)}


def already_trained(found: Found | None) -> Trained | None:
    """Return the outcome of a training that had ended before its job was killed."""
    from adapters.vlm_quantization.train.train import Trained

    outcome = None if found is None else found.state.about.get("finished")
    return None if outcome is None else Trained(**outcome)


def step_of(state: State) -> int:
    """Return the step of the training that a state was saved after; in a refit, the last one before it."""
    return int(state.about["first_steps" if state.about["phase"] == "refit" else "step"])


def take_over_record(found: Found, run: Run) -> None:
    """Copy the curves up to a state, and the last checkpoint, from the run that left it."""
    last = step_of(found.state)
    for name in found.run.summary:
        points = [point for point in found.run.metric_points(name) if point[0] <= last]
        if points:
            steps, times, values = zip(*points, strict=True)
            run.log_many({name: values}, steps=steps, times=times)
    for file in found.run.checkpoints():
        if file.name == LAST:
            run.log_checkpoint(LAST, file)
