"""SIGKILL of the worker while it trains: another attempt goes on to the weights of an unharmed training."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import workbench as wb
from adapters.vlm_quantization.dummy import write_dummy_collection
from adapters.vlm_quantization.train.resuming import RESUMED
from adapters.vlm_quantization.train.state import read_state, saved_runs, state_path
from tests.conftest import workspace_in
from workbench.errors import CorruptFile


def until(happened: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_training_whose_worker_is_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    settings = {
        "collection": str(write_dummy_collection(tmp_path / "shapes", 24)),
        "encoder": "random",
        "text_tower": "ngrams",
        "steps": 240,
        "refit_steps": 10,
        "validate_every": 60,
        "batch": 16,
        "hidden": 64,
        "dim": 32,
        "text_buckets": 512,
        "text_width": 32,
        "patience": 9,
        "save_state_every": 0,
        "device": "cpu",
    }
    with workspace_in(tmp_path / "results") as home:

        def is_under_way() -> bool:
            for run in saved_runs(home.path):
                try:
                    return int(read_state(state_path(home.path, run)).about["step"]) >= 30
                except CorruptFile:  # it is replaced just now
                    return False
            return False

        job = home.submit("train", adapter="vlm_quantization", options=settings)
        until(is_under_way)
        row = home.store.job(job.id)
        assert row is not None
        assert row.worker_pid is not None
        os.kill(row.worker_pid, signal.SIGKILL)
        job.wait(120)
        assert (job.status, job.attempt) == ("succeeded", 2)
        second, first = home.runs()
        assert (first.status, second.status) == ("lost", "succeeded")
        resumed = second.config[RESUMED]
        assert resumed["run"] == first.id
        assert 30 <= resumed["step"] < 240
        assert saved_runs(home.path) == []
        with wb.job_scope("train", "vlm_quantization", settings, workspace=home) as undisturbed:
            undisturbed.finish(undisturbed.adapter.train(undisturbed.options, undisturbed))
        whole = home.runs()[0]
        for name in ("best.safetensors", "last.safetensors", "refit.safetensors"):
            assert Path(second.checkpoint(name)).read_bytes() == Path(whole.checkpoint(name)).read_bytes()
        assert second.metric_points("val/R@10")[0][0] == 60
