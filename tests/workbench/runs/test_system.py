"""What the machine did beside a run: sampled apart from everything that the training logs."""

from __future__ import annotations

import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.waiting import until
from workbench.compare.finals import final_rows
from workbench.runs import system
from workbench.runs.system import Machine, Sampler, switched_on


class Still:
    """A machine that does always the same."""

    def sample(self) -> dict[str, float]:
        return {"system/cpu": 12.5, "system/memory": 40.0}


@pytest.fixture
def sampled(workspace: wb.Workspace) -> wb.Workspace:
    """A workspace that samples without pause."""
    workspace._sampler = Sampler(0.005, Still)
    return workspace


def has_samples(run: wb.Run, number: int = 2) -> bool:
    return run.system.get("system/cpu", {"count": 0})["count"] >= number


def test_samples_disturb_nothing_that_the_training_logs(sampled: wb.Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    run = sampled.start_run("e", better={"*": "higher"}, system=True)
    run.log({"m": 0.5}, step=0)
    until(lambda: has_samples(run))
    run.log({"m": 0.7})  # the next step, whatever the seconds are
    run.log_checkpoint("a.bin", tmp_path / "file", keep_best=1, metric="m")
    assert [step for step, _, _ in run.metric_points("m")] == [0, 1]
    assert sampled.run(run.id)._next_step() == 2
    assert list(run.summary) == ["m"]
    assert run.system["system/memory"]["last"] == 40.0
    assert run.system["system/cpu"]["best"] is None  # no pattern of the training's holds for it
    run.finish()
    (kept,) = run.checkpoints()
    assert dict(kept.metrics) == {"m": 0.7}
    outcome = run.outcome
    assert (outcome["points"], outcome["steps"], list(outcome["metrics"])) == (2, 1, ["m"])
    assert [row.name for row in sampled.compare([run.id]).final] == ["m"]
    count = run.system["system/cpu"]["count"]
    assert count == len(run.metric_points("system/cpu"))
    until(lambda: not [one for one in threading.enumerate() if one.name == "workbench-system"])
    assert run.system["system/cpu"]["count"] == count  # nothing is logged to a run that has ended


def test_resuming_keeps_the_samples_of_the_machine(sampled: wb.Workspace) -> None:
    run = sampled.start_run("e", system=True)
    run.log({"m": 1.0}, step=5)
    until(lambda: has_samples(run))
    run.finish("failed")
    before = run.system["system/cpu"]["count"]
    again = sampled.resume_run(run.id, step=-1)
    assert again.summary == {}
    assert again.system["system/cpu"]["count"] >= before
    again.finish()


def test_a_chart_can_be_made_of_it_and_the_table_leaves_it_out(sampled: wb.Workspace) -> None:
    with sampled.start_run("e", system=True) as run:
        run.log({"m": 1.0})
        until(lambda: has_samples(run))
    panel = wb.panels.ComparePanel(sampled)
    panel.look_now()
    assert panel.state["metrics"] == ["m", "system/cpu", "system/memory"]
    assert [row["name"] for row in panel.state["comparison"]["final"]] == ["m"]
    panel.set(metrics=["system/cpu"])
    assert {line["metric"] for part in (panel.curves, panel.live) for line in part["lines"]} == {"system/cpu"}
    panel.close()
    assert final_rows([{"system/cpu": {"last": 1.0}}]) == []


def test_the_switch(monkeypatch: pytest.MonkeyPatch, sampled: wb.Workspace) -> None:
    monkeypatch.setenv(system.SWITCH, "0")
    assert [switched_on(one) for one in (None, True, False)] == [False, True, False]
    monkeypatch.delenv(system.SWITCH)
    assert switched_on(None)
    with sampled.start_run("e", system=False) as run:
        run.log({"m": 1.0})
    assert run.system == {}
    assert sampled._sampler._thread is None


def test_a_machine_tells_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    machine = Machine()
    first = machine.sample()
    assert {"system/cpu", "system/memory", "system/process.cpu", "system/process.memory"} <= first.keys()
    assert all(type(value) is float and value >= 0 for value in first.values())
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)  # a container without a network

    def hidden() -> Any:
        raise FileNotFoundError("/proc/diskstats")

    monkeypatch.setattr(psutil, "disk_io_counters", hidden)
    assert not [name for name in machine.sample() if "disk" in name or "network" in name]


def test_gpus_are_read_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def no_power(handle: Any) -> int:
        raise NVMLError

    fake = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda at: at,
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=50 + handle),
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=1, total=4),
        nvmlDeviceGetPowerUsage=no_power,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    values = {name: value for name, value in Machine().sample().items() if "gpu" in name}
    assert values == {
        "system/gpu.0": 50.0, "system/gpu.0.memory": 25.0, "system/gpu.1": 51.0, "system/gpu.1.memory": 25.0,
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]  # the package is missing
    assert not [name for name in Machine().sample() if "gpu" in name]


def test_what_cannot_be_sampled_ends_the_thread_and_not_the_training(workspace: wb.Workspace) -> None:
    def broken() -> Any:
        raise RuntimeError("no such machine")

    workspace._sampler = Sampler(0.005, broken)
    with workspace.start_run("e", system=True) as run:
        run.log({"m": 1.0})
    assert run.status == "succeeded"
    assert run.system == {}


def test_a_closed_workspace_and_a_forked_child_sample_nothing(sampled: wb.Workspace) -> None:
    run = sampled.start_run("e", system=True)
    assert sampled._sampler._runs
    run.finish()
    sampled._sampler._runs[99] = (sampled._writer, 0.0)
    sampled._sampler._pid = os.getpid() + 1  # as in a child
    other = sampled.start_run("e", system=True)
    assert list(sampled._sampler._runs) == [other.id]
    other.finish()
    sampled._sampler.begin(other.id, sampled._writer, 0.0)
    sampled._sampler.stop()
    assert sampled._sampler._runs == {}
