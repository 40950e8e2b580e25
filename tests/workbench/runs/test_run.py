import gc
import json
import math
import multiprocessing
import pickle
import platform
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.conftest import with_database
from tests.waiting import until
from workbench.host import processes
from workbench.store import records


def test_a_run_keeps_what_it_was_started_with(workspace: wb.Workspace) -> None:
    config = {"lr": 1e-3, "nested": {"길이": [8, 16], "path": Path("a/b")}, "n": np.int64(3)}
    run = workspace.start_run("emoji", name="nested-128", config=config, tags={"kind": "try"})
    found = workspace.run(run.id)
    assert (found.name, found.experiment, found.status) == ("nested-128", "emoji", "running")
    assert found.config == {"lr": 1e-3, "nested": {"길이": [8, 16], "path": "a/b"}, "n": 3}
    assert found.tags == {"kind": "try"}
    assert workspace.start_run("emoji").name == "run-2"


def test_a_setting_without_a_plain_form_is_kept_as_text(workspace: wb.Workspace) -> None:
    with pytest.warns(UserWarning, match=r"config\.model\.fn, config\.model\.kind"):
        run = workspace.start_run("e", config={"model": {"fn": len, "kind": Path}})
    assert run.config == {"model": {"fn": "builtins.len", "kind": "pathlib.Path"}}
    run.finish()


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
    until(lambda: workspace.store.points(run.id, "m"))
    assert len(workspace.store.points(run.id, "m")) == 1


def test_steps_count_on_by_themselves_and_may_go_back(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e")
    run.log({"m": 1.0})
    run.log({"m": 2.0}, step=10)
    run.log({"m": 3.0})
    run.log({"m": 4.0}, step=4)
    assert [step for step, _, _ in run.metric_points("m")] == [0, 10, 11, 4]
    workspace.run(run.id).log({"m": 5.0})  # another handle continues the steps
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
    "value", ["0.5", None, True, 1j, [1.0], np.array([1.0, 2.0]), object(), 10**400, b"1"]
)
def test_anything_else_is_refused_and_nothing_of_the_call_is_logged(
    workspace: wb.Workspace, value: object
) -> None:
    run = workspace.start_run("e")
    with pytest.raises(wb.BadInput, match=r"metric 'bad'.*must be a real number"):
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
    command = [sys.executable, "-c", program, str(with_database(tmp_path))]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
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

    monkeypatch.setattr("workbench.host.files.shutil.copyfile", fail)
    source.write_text("new")
    with pytest.raises(OSError, match="space"):
        run.log_checkpoint("x.bin", source)
    assert [path.read_text() for path in run.checkpoint_dir.iterdir()] == ["old"]


# Data other than metrics ---------------------------------------------------------------------------


def test_notes_seed_and_surroundings_are_kept(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e", config={"seed": 7}, notes="긴 설명\nsecond line")
    found = workspace.run(run.id)
    assert (found.notes, found.seed) == ("긴 설명\nsecond line", 7)
    about = found.environment
    assert about["python"] == platform.python_version()
    assert about["packages"]["numpy"] == np.__version__
    assert about["host"]
    assert about["command"]
    assert workspace.start_run("e", config={"seed": "any"}).seed is None
    assert workspace.start_run("e", config={"seed": 1}, seed=2**70).refresh().seed == 2**70
    for odd in ("x", 1.5, True):
        with pytest.raises(wb.BadInput, match="seed"):
            workspace.start_run("e", seed=odd)  # type: ignore[arg-type]
    for odd in (3, "a\0b", "\udcff"):
        with pytest.raises(wb.BadInput, match="notes"):
            workspace.start_run("e", notes=odd)  # type: ignore[arg-type]


def test_notes_and_tags_can_be_written_later(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e", tags={"a": 1, "b": 2})
    run.finish()
    other = workspace.run(run.id).annotate(notes="looked at", tags={"b": None, "c": [3]})
    assert (other.notes, other.tags) == ("looked at", {"a": 1, "c": [3]})
    assert workspace.run(run.id).annotate(notes="").tags == {"a": 1, "c": [3]}
    assert workspace.run(run.id).status == "succeeded"


def test_the_outcome_is_collected_when_the_run_ends(workspace: wb.Workspace, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("x")
    with workspace.start_run("e", better={"val/*": "higher"}) as run:
        for epoch in range(3):
            run.log({"train/epoch": epoch + 1, "val/mAP": [0.5, 0.75, 0.25][epoch]}, step=epoch * 10)
        run.log({"odd": math.nan, "far": math.inf}, step=20)
        run.log_checkpoint("last.bin", tmp_path / "made")
        assert run.outcome["status"] == "running"
        assert run.outcome["points"] == 8
    outcome = json.loads(json.dumps(workspace.run(run.id).outcome, allow_nan=False))
    assert workspace.store.run(run.id).outcome == outcome  # type: ignore[union-attr]
    assert {name: outcome[name] for name in ("status", "error", "steps", "epochs", "points")} == {
        "status": "succeeded",
        "error": None,
        "steps": 20,
        "epochs": 3.0,
        "points": 8,
    }
    row = workspace.store.run(run.id)
    assert row is not None
    assert outcome["seconds"] == pytest.approx((row.finished_at or 0.0) - row.created_at)
    assert outcome["metrics"]["val/mAP"] == run.summary["val/mAP"]
    assert outcome["metrics"]["val/mAP"]["best_step"] == 10
    assert (outcome["metrics"]["odd"]["last"], outcome["metrics"]["far"]["last"]) == ("nan", "inf")
    (checkpoint,) = outcome["checkpoints"]
    assert (checkpoint["name"], checkpoint["step"], checkpoint["size"]) == ("last.bin", 20, 1)
    assert checkpoint["metrics"]["val/mAP"] == 0.25


def test_a_run_that_failed_says_with_what_in_its_outcome(workspace: wb.Workspace) -> None:
    with pytest.raises(KeyError), workspace.start_run("e"):
        raise KeyError("missing")
    assert workspace.run(1).outcome["error"] == {"type": "KeyError", "message": "'missing'"}


def test_a_run_ends_with_whatever_its_error_says(database: str, tmp_path: Path) -> None:
    message = "no file 'b\udcffad'\0 강"
    with wb.Workspace(tmp_path, database_url=database) as home:
        with pytest.raises(OSError, match="no file"), home.start_run("e", config={"path": "\udcff"}):
            raise OSError(message)
        found = home.run(1)
        readable = "no file 'b\\udcffad'\N{REPLACEMENT CHARACTER} 강"  # and any database stores it
        assert (found.status, found.error) == ("failed", {"type": "OSError", "message": readable})
        assert found.config == {"path": "\\udcff"}


# Whole curves ------------------------------------------------------------------------------------


def test_whole_curves_are_logged_at_once(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e", better={"m": "lower"})
    values = np.sin(np.arange(70_000, dtype=np.float32))
    values[5] = np.nan
    run.log_many({"m": values, "n": np.arange(70_000)})
    run.log({"m": 0.5})
    run.log_many({"m": [1, 2.5]}, steps=[3, 1], times=[10.0, 20.0])
    points = run.metric_points("m")
    assert [step for step, _, _ in points] == [*range(70_000), 70_000, 3, 1]
    np.testing.assert_array_equal([value for _, _, value in points[:70_000]], values.astype(float))
    assert points[-2:] == [(3, 10.0, 1.0), (1, 20.0, 2.5)]
    assert run.summary["m"]["min"] == np.nanmin(values)
    assert run.summary["n"]["last"] == 69_999
    run.log({"m": 1.0})
    assert run.metric_points("m")[-1][0] == 2
    run.log_many({"m": []})
    run.finish()
    with pytest.raises(wb.WrongState):
        run.log_many({"m": [1.0]})


@pytest.mark.parametrize(
    "arguments",
    [
        {"metrics": {"m": [[1.0]]}},
        {"metrics": {"m": 1.0}},
        {"metrics": {"m": ["a"]}},
        {"metrics": {"m": [1j]}},
        {"metrics": {"m": [True]}},
        {"metrics": {"m": [None]}},
        {"metrics": {"good": [1.0], "m": [1.0, 2.0]}},
        {"metrics": {"m": [1.0]}, "steps": [0.5]},
        {"metrics": {"m": [1.0]}, "steps": [1, 2]},
        {"metrics": {"m": [1.0]}, "steps": [2**64]},
        {"metrics": {"m": [1.0]}, "times": ["now"]},
        {"metrics": {"m": [1.0]}, "times": [math.nan]},
        {"metrics": {"m": [1.0, 2.0]}, "times": [1.7e9, 1.7e12]},
        {"metrics": {"m": [1.0]}, "times": [-1.0]},
        {"metrics": {"": [1.0]}},
    ],
)
def test_what_is_no_curve_is_refused_whole(workspace: wb.Workspace, arguments: dict[str, Any]) -> None:
    run = workspace.start_run("e")
    with pytest.raises(wb.BadInput):
        run.log_many(**arguments)
    assert run.summary == {}


def test_many_threads_log_to_one_run_and_nothing_is_lost(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e")

    def log(name: str) -> None:
        for step in range(2000):
            run.log({name: step, "all": step}, step=step)

    threads = [threading.Thread(target=log, args=[f"m{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: row["count"] for name, row in run.summary.items()} == {
        "all": 8000,
        **{f"m{number}": 2000 for number in range(4)},
    }
    for number in range(4):
        assert [step for step, _, _ in run.metric_points(f"m{number}")] == list(range(2000))


def test_a_full_queue_makes_who_logs_wait_instead_of_filling_the_memory(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.store.writer.QUEUE_POINTS", 100)
    run = workspace.start_run("e")
    for step in range(2000):
        run.log({"m": 1.0}, step=step)
        assert workspace._writer._waiting <= 101
    assert run.summary["m"]["count"] == 2000


def test_an_unexpected_error_is_told_and_does_not_stop_the_writer(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workspace.start_run("e")

    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("something new")

    with monkeypatch.context() as broken:
        broken.setattr(workspace.store, "add_batches", break_down)
        run.log({"m": 1.0})
        with pytest.raises(wb.StoreError, match="something new"):
            run.flush()
    run.log({"m": 2.0})
    assert [value for _, _, value in run.metric_points("m")] == [1.0, 2.0]


# Settled when read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("look", ["runs", "run", "status", "compare"])
def test_looking_at_runs_is_enough_to_see_that_one_is_lost(workspace: wb.Workspace, look: str) -> None:
    program = (
        "import os, sys, workbench as wb\n"
        "run = wb.Workspace(sys.argv[1]).start_run('e')\nrun.log({'m': 1.0}); run.flush()\n"
        "print('ready', flush=True); sys.stdin.read(); os._exit(1)"
    )
    command = [sys.executable, "-c", program, str(workspace.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        handle = workspace.run(1)
        assert handle.status == "running"
        process.communicate(timeout=300)
    status = {
        "runs": lambda: workspace.runs()[0].status,
        "run": lambda: workspace.run(1).status,
        "status": lambda: handle.status,
        "compare": lambda: workspace.compare([1]).runs[0].status,
    }[look]()
    assert status == "lost"
    (row,) = workspace.store.runs()
    assert row.status == "lost"
    assert row.outcome is not None
    assert row.outcome["error"]["message"] == "the process that logged the run is gone"
    with pytest.raises(wb.WrongState, match="lost"):
        workspace.run(1).log({"m": 2.0})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("elsewhere/1234", "running"),
        (f"{processes.host().partition('/')[0]}/before", "lost"),
        ("", "running"),
    ],
)
def test_a_run_of_another_host_is_left_to_it_and_one_from_before_a_reboot_is_lost(
    workspace: wb.Workspace, host: str, status: str
) -> None:
    me = processes.this_process()
    row = records.RunRecord(experiment_id=0, host=host, pid=me.pid, pid_started=me.started)
    workspace.store.add_run(row, "e")
    assert workspace.runs()[0].status == status
    assert workspace.run(1).status == status


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_handle_can_be_given_to_another_process(workspace: wb.Workspace, method: str) -> None:
    """As a Process's argument, and to a pool of processes: there it is ``ws.run(id)``."""
    run = workspace.start_run("e", config={"lr": 0.1})
    run.log({"loss": -1.0}, step=-1)
    context = multiprocessing.get_context(method)
    process = context.Process(target=wb.Run.log, args=(run, {"loss": 0.0}, 0))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for step in range(1, 20):
            pool.submit(wb.Run.log, run, {"loss": float(step)}, step).result()
    # Neither waited for its points to be written: they are, when it ends.
    assert run.refresh().status == "running"
    assert sorted(step for step, _, _ in run.metric_points("loss")) == list(range(-1, 20))
    run.finish()


def test_an_unpickled_handle_is_the_run(workspace: wb.Workspace) -> None:
    with workspace.start_run("e", "name", config={"lr": 0.1}) as run:
        run.log({"loss": 1.0}, step=7)
        again = pickle.loads(pickle.dumps(run))  # noqa: S301  # made here
        assert (again.id, again.name, again.experiment, again.config) == (run.id, "name", "e", {"lr": 0.1})
        again.log({"loss": 2.0})  # counts on
        again.flush()
    assert [(step, value) for step, _, value in run.metric_points("loss")] == [(7, 1.0), (8, 2.0)]
