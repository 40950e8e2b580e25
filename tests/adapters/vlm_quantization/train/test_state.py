"""A training that was killed goes on to the same weights, and says so where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch

import workbench as wb
from adapters.vlm_quantization import adapter as family
from adapters.vlm_quantization.options import TrainOptions
from adapters.vlm_quantization.train import job as train_job
from adapters.vlm_quantization.train import resuming, state
from adapters.vlm_quantization.train.loop import Loop
from tests.adapters.vlm_quantization import shapes
from tests.adapters.vlm_quantization.train.fitting import fit

#: A training with a best model before its end, and a refit, whose texts are n-grams.
HEADS: dict[str, Any] = {"refit_steps": 5, "dropout": 0.2, "ngram_dropout": 0.1}


@pytest.mark.parametrize("schedule", ["cosine", "warm_restarts"])
def test_a_killed_training_goes_on_to_the_same_weights(schedule: str, tmp_path: Path) -> None:
    changes = {**HEADS, "schedule": schedule}
    whole, done = fit(tmp_path / "whole", **changes)
    assert done is not None
    for kill_at in (2, 7, 12, 14) if schedule == "cosine" else (7,):
        keeper = state.StateFile(tmp_path / "state", every=0)
        fit(tmp_path / "killed", kill_at=kill_at, keeper=keeper, **changes)
        saved = state.read_state(keeper.path)
        assert saved.about["step"] == (kill_at - 1 if kill_at <= 12 else kill_at - 13)
        rest, again = fit(tmp_path / f"rest-{kill_at}", saved=saved, **changes)
        assert again is not None
        assert (again.steps, again.best_step, again.best) == (done.steps, done.best_step, done.best)
        names = ("best.safetensors", "refit.safetensors")
        for name in (*names, "last.safetensors") if kill_at <= 12 else names:
            assert (rest.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_state_is_saved_at_the_time_whole_and_read_without_unpickling(tmp_path: Path) -> None:
    flushed: list[int] = []
    keeper = state.StateFile(tmp_path / "deep" / "run-3.safetensors", 1e6, before=lambda: flushed.append(1))
    assert not keeper.due
    keeper.save({"step": 3, "big": 2**100}, {"random/cpu": torch.get_rng_state(), "n": torch.tensor(4)})
    assert flushed == [1]
    assert [file.name for file in keeper.path.parent.iterdir()] == ["run-3.safetensors"]
    read = state.read_state(keeper.path)
    assert read.about == {"step": 3, "big": 2**100}
    assert read.tensors["n"].item() == 4
    assert torch.equal(read.tensors["random/cpu"], torch.get_rng_state())
    for data in (b"", keeper.path.read_bytes()[:-8], b"\x80\x04."):
        keeper.path.write_bytes(data)
        with pytest.raises(wb.CorruptFile, match="not a readable state"):
            state.read_state(keeper.path)
    with pytest.raises(wb.CorruptFile, match="no such file"):
        state.read_state(tmp_path / "none")
    assert Loop  # the states are its own


def test_a_state_that_is_replaced_while_it_is_read_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = state.StateFile(tmp_path / "run-3.safetensors", 1e6)
    keeper.save({"step": 3}, {"n": torch.zeros(1000)})

    def replaced(*_: Any, **__: Any) -> Any:  # what torch says of a file that became shorter
        raise RuntimeError("file <…> size <424708> is smaller than expected size of <424788>")

    monkeypatch.setattr(safetensors, "safe_open", replaced)
    with pytest.raises(wb.CorruptFile, match="not a readable state"):
        state.read_state(keeper.path)


def test_states_of_deleted_runs_are_removed(tmp_path: Path) -> None:
    for run in (1, 2, 10):
        state.StateFile(state.state_path(tmp_path, run)).save({}, {})
    (tmp_path / "training" / "run-x.safetensors").touch()
    assert state.saved_runs(tmp_path) == [10, 2, 1]
    state.remove_old_states(tmp_path, lambda: {2})
    assert state.saved_runs(tmp_path) == [2]
    state.remove_old_states(tmp_path / "none", lambda: pytest.fail("no state: nobody is asked"))


@pytest.fixture
def killed(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> wb.Run:
    """A run whose training was cancelled at step 9 of 12, and left its state."""
    monkeypatch.setattr(train_job, "open_collection", lambda *_, **__: shapes.collection())
    options = shapes.options(steps=12, validate_every=4, save_state_every=0, name="first", **HEADS)

    def stop(done: float, *_: Any) -> None:
        if done == 9:
            raise KeyboardInterrupt

    def train() -> None:
        with wb.job_scope("train", "vlm_quantization", options.model_dump(), workspace=workspace) as job:
            monkeypatch.setattr(job, "progress", stop)
            job.adapter.train(job.options, job)

    with pytest.raises(KeyboardInterrupt):
        train()
    return workspace.runs()[0]


def test_a_run_is_resumed_by_its_number_alone(workspace: wb.Workspace, killed: wb.Run) -> None:
    assert state.saved_runs(workspace.path) == [killed.id]
    with wb.job_scope("train", "vlm_quantization", {"resume": killed.id}, workspace=workspace) as job:
        result = job.finish(job.adapter.train(job.options, job))
    run = workspace.runs()[0]
    assert run.id != killed.id
    assert (run.name, run.config["steps"], run.config["encoder"]) == ("first", 12, "random")
    assert run.config[resuming.RESUMED] == {"run": killed.id, "step": 8}
    assert f"Resumed: run {killed.id} after step 8." in result.views[-1].notes
    whole, _ = fit(Path(run.checkpoint("best.safetensors")).parent.parent / "whole", **HEADS)
    for name in ("best.safetensors", "refit.safetensors"):
        assert Path(run.checkpoint(name)).read_bytes() == (whole.folder / name).read_bytes()
    # the curve is whole: what the first run logged, then what this one did
    assert [point[0] for point in run.metric_points("val/R@10")] == [4, 8, 12]
    assert state.saved_runs(workspace.path) == []
    problems = dict(family.find_problems("train", TrainOptions(resume=run.id), workspace))
    assert "it ended well" in problems["resume"]


def test_what_does_not_fit_a_state_is_refused_by_name(workspace: wb.Workspace, killed: wb.Run) -> None:
    def problem(**changes: Any) -> str:
        options = TrainOptions(resume=killed.id, **changes)
        return dict(family.find_problems("train", options, workspace)).get("resume", "")

    assert problem() == problem(name="other", device="cpu") == ""
    assert "steps=13 instead of 12" in problem(steps=13)
    assert "Leave these options out" in problem(steps=13)
    saved = state.read_state(state.state_path(workspace.path, killed.id))
    identity = {name: saved.about[name] for name in ("options", "data", "split", "tower", "text_tower")}
    resuming.refuse_other(identity, saved, killed.id)
    with pytest.raises(wb.BadInput, match="the collection changed since"):
        resuming.refuse_other(identity | {"data": "other"}, saved, killed.id)
    with workspace.start_run("shapes") as running:
        state.StateFile(state.state_path(workspace.path, running.id)).save({}, {})
        options = TrainOptions(resume=running.id)
        assert "is still running" in dict(family.find_problems("train", options, workspace))["resume"]
    unknown = TrainOptions(resume=99)
    assert "99" in dict(family.find_problems("train", unknown, workspace))["resume"]


def test_another_attempt_at_a_job_goes_on_by_itself(workspace: wb.Workspace, killed: wb.Run) -> None:
    class Attempt:
        """The same job, begun once more after its worker was killed."""

        id, workspace = killed.job_id, None

    job: Any = Attempt()
    job.workspace = workspace
    saved = state.read_state(state.state_path(workspace.path, killed.id))
    identity = {name: saved.about[name] for name in ("options", "data", "split", "tower", "text_tower")}
    options = shapes.options()
    found, note = resuming.find_state(options, identity, job)
    assert found is not None
    assert (found.run.id, note) == (killed.id, "")
    assert resuming.already_trained(found) is None
    assert resuming.find_state(options.model_copy(update={"seed": 1}), identity, job) == (None, "")
    found, note = resuming.find_state(options, identity | {"data": "other"}, job)
    assert found is None
    assert "The training began again" in note
    job.id = 99
    assert resuming.find_state(options, identity, job) == (None, "")
