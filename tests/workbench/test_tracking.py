import gc
import math
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import workbench as wb


def test_a_run_keeps_what_it_was_started_with(workspace: wb.Workspace) -> None:
    config = {"lr": 1e-3, "nested": {"길이": [8, 16], "path": Path("a/b")}, "n": np.int64(3)}
    run = workspace.start_run("emoji", name="nested-128", config=config, tags={"kind": "try"})
    found = workspace.run(run.id)
    assert (found.name, found.experiment, found.status) == ("nested-128", "emoji", "running")
    assert found.config == {"lr": 1e-3, "nested": {"길이": [8, 16], "path": "a/b"}, "n": 3}
    assert found.tags == {"kind": "try"}
    assert workspace.start_run("emoji").name == "run-2"


def test_a_config_without_a_plain_form_is_refused_where_it_is(workspace: wb.Workspace) -> None:
    with pytest.raises(wb.BadInput, match=r"config\.model\.fn is a function"):
        workspace.start_run("e", config={"model": {"fn": lambda: None}})
    assert workspace.runs() == []


def test_summaries_and_points_are_there_at_once(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e", better={"val/*": "higher"})
    for step, value in ((1, 0.5), (2, 0.75), (3, 0.7)):
        run.log({"train/loss": 1 - value, "val/mAP": value}, step=step)
    assert run.summary["val/mAP"] == {
        "last": 0.7,
        "min": 0.5,
        "max": 0.75,
        "best": 0.75,
        "best_step": 2,
        "last_step": 3,
        "count": 3,
        "nonfinite": 0,
        "better": "higher",
    }
    assert run.summary["train/loss"]["best"] is None
    assert [(step, value) for step, _, value in run.metric_points("val/mAP")] == [
        (1, 0.5),
        (2, 0.75),
        (3, 0.7),
    ]
    assert len(run.metric_points("val/mAP", after=1)) == 1


def test_a_logged_number_is_written_without_being_asked_for(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e")
    run.log({"m": 1.0})
    done = threading.Event()
    for _ in range(100):
        if workspace.store.points(run.id, "m"):
            break
        done.wait(0.05)
    assert len(workspace.store.points(run.id, "m")) == 1


def test_steps_count_on_by_themselves_and_may_go_back(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e")
    run.log({"m": 1.0})
    run.log({"m": 2.0}, step=10)
    run.log({"m": 3.0})
    run.log({"m": 4.0}, step=4)
    assert [step for step, _, _ in run.metric_points("m")] == [0, 10, 11, 4]
    workspace.run(run.id).log({"m": 5.0})  # another handle goes on from what is there
    assert run.metric_points("m")[-1][0] == 5


@pytest.mark.parametrize(
    "value",
    [1, 2.5, np.float32(0.5), np.array(3), np.array([4.0]), Decimal("1.5"), 10**30, math.nan, math.inf],
)
def test_anything_that_is_one_real_number_can_be_logged(workspace: wb.Workspace, value: object) -> None:
    run = workspace.start_run("e")
    run.log({"m": value})
    ((_, _, kept),) = run.metric_points("m")
    assert str(kept) == str(float(np.asarray(value, float).item()))


@pytest.mark.parametrize(
    "value", ["0.5", None, True, 1j, [1.0], np.array([1.0, 2.0]), {}, object(), 10**400, b"1"]
)
def test_anything_else_is_refused_and_nothing_of_the_call_is_logged(
    workspace: wb.Workspace, value: object
) -> None:
    run = workspace.start_run("e")
    with pytest.raises(wb.BadInput, match=r"metric 'bad'.*one real number"):
        run.log({"good": 1.0, "bad": value})
    assert run.summary == {}


@pytest.mark.parametrize("name", ["", "  ", "x" * 251, 3, "a\0b"])
def test_a_metric_needs_a_name(workspace: wb.Workspace, name: str) -> None:
    with pytest.raises(wb.BadInput, match="metric name"):
        workspace.start_run("e").log({name: 1.0})


@pytest.mark.parametrize("step", [0.5, "1", True, 2**63, -(2**63) - 1])
def test_a_step_is_a_whole_number(workspace: wb.Workspace, step: int) -> None:
    with pytest.raises(wb.BadInput, match="step"):
        workspace.start_run("e").log({"m": 1.0}, step=step)


def test_nothing_more_is_logged_to_a_run_that_is_over(workspace: wb.Workspace) -> None:
    with workspace.start_run("e") as run:
        run.log({"m": 1.0})
    assert (run.status, workspace.run(run.id).status) == ("succeeded", "succeeded")
    assert run.finished_at is not None
    with pytest.raises(wb.WrongState, match="succeeded"):
        run.log({"m": 2.0})
    run.finish("failed")
    assert run.status == "succeeded"


def test_a_run_whose_block_raises_failed_and_kept_everything(workspace: wb.Workspace) -> None:
    def fail() -> None:
        with workspace.start_run("e") as run:
            run.log({"m": 1.0})
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    found = workspace.run(1)
    assert found.status == "failed"
    assert found.error == {"type": "ZeroDivisionError", "message": "division by zero"}
    assert found.summary["m"]["last"] == 1.0


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "1 / 0"])
def test_nothing_is_lost_when_the_interpreter_exits(tmp_path: Path, ending: str) -> None:
    program = (
        "import sys, workbench as wb\n"
        "run = wb.Workspace(sys.argv[1]).start_run('e')\n"
        f"for step in range(1000): run.log({{'m': step}})\n{ending}"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.DEVNULL, check=False)
    with wb.Workspace(tmp_path) as home:
        assert home.run(1).summary["m"]["count"] == 1000


def test_points_that_could_not_be_written_are_written_later(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workspace.start_run("e")

    def refuse(*_: object, **__: object) -> None:
        raise wb.StoreError("the database refused: disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(workspace.store, "add_batches", refuse)
        run.log({"m": 1.0})
        with pytest.raises(wb.StoreError, match="full"):
            run.flush()
    assert [value for _, _, value in run.metric_points("m")] == [1.0]


def test_closing_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(3):
        with wb.Workspace(tmp_path) as home, home.start_run("e") as run:
            run.log({"m": 1.0})
    gc.collect()
    assert threading.active_count() == before


def test_a_checkpoint_is_a_copy_listed_with_its_size_and_step(
    workspace: wb.Workspace, tmp_path: Path
) -> None:
    source = tmp_path / "made"
    run = workspace.start_run("e")
    run.log({"m": 1.0}, step=7)
    for text in ("first", "second one"):
        source.write_text(text)
        kept = run.log_checkpoint("epoch-3.bin", source)
    source.unlink()
    assert kept == run.checkpoint_dir / "epoch-3.bin"
    (found,) = workspace.run(run.id).checkpoints()
    assert (found.name, found.size, found.step) == ("epoch-3.bin", 10, 7)
    assert Path(found).read_text() == "second one"
    assert [path.name for path in run.checkpoint_dir.iterdir()] == ["epoch-3.bin"]


def test_a_checkpoint_written_in_place_is_only_recorded(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e")
    path = run.checkpoint_dir / "last.bin"
    path.write_bytes(b"123")
    assert run.log_checkpoint("last.bin", path, step=2) == path
    assert [(found.name, found.size, found.step) for found in run.checkpoints()] == [("last.bin", 3, 2)]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ".x", ""])
def test_a_checkpoint_stays_inside_its_folder(workspace: wb.Workspace, tmp_path: Path, name: str) -> None:
    source = tmp_path / "made"
    source.write_text("x")
    run = workspace.start_run("e")
    with pytest.raises(wb.BadName):
        run.log_checkpoint(name, source)
    assert list(run.checkpoint_dir.iterdir()) == []


def test_a_checkpoint_that_is_no_file_is_refused(workspace: wb.Workspace, tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "missing"):
        with pytest.raises(wb.BadInput, match="no file"):
            workspace.start_run("e").log_checkpoint("x", source)


def test_a_copy_that_fails_leaves_the_old_checkpoint(
    workspace: wb.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "made"
    source.write_text("old")
    run = workspace.start_run("e")
    run.log_checkpoint("x.bin", source)

    def fail(_source: Path, target: Path) -> None:
        target.write_text("ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.files.shutil.copyfile", fail)
    source.write_text("new")
    with pytest.raises(OSError, match="space"):
        run.log_checkpoint("x.bin", source)
    assert [path.read_text() for path in run.checkpoint_dir.iterdir()] == ["old"]
