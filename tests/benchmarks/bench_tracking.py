"""Logging and reading back, timed beside MLflow, trackio and Aim in the same run, on the same numbers.

    pip install mlflow-skinny trackio aim          # the peers, by hand: no test needs the last two
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_tracking.py [--json FILE] [--quick] [--only NAME …]

Each system has a process and an empty store of its own; all of them are asked for the same, but Aim only for
writing (what has just been written is found by its queries only once it has been indexed):

call        one call that logs two numbers: p50 and p95 in µs, of CALLS calls as fast as they go, and of
            PACED calls with a millisecond between, as a training loop makes them.
durable     points a second from the first call to the moment all of them survive the end of the process,
            SIGKILL included: committed. ``log`` is 20 numbers a call; ``batch`` is the quickest way a system
            has (ours: ``log_many``; MLflow: ``log_batch`` of 1,000; trackio and Aim have none). ``synced``
            is ours with an fsync for each batch: those survive a power cut too.
summaries   last values and settings of 100 runs with 50 settings and 20 metrics: p50 and p95 in ms.
history     one metric of 10,000 points: p50 and p95 in ms.
million     a million points in 20 curves as arrays (ours only), in ms.
start       starting a run, in ms: git revision and surroundings included.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RUNS, KEYS, METRICS, HISTORY, CURVES = 100, 50, 20, 10_000, 20
CALLS, PACED, POINTS = 20_000, 2_000, 1_000_000

CONFIG = {f"group{at % 5}.key{at}": at for at in range(KEYS)}
ROW = {f"metric{at}": at / 7 for at in range(METRICS)}
PAIR = {"train/loss": 0.5, "train/lr": 0.001}


def spread(took: Sequence[float], scale: float) -> dict[str, float]:
    """Return median and 95th percentile of times in seconds, scaled."""
    ordered = sorted(took)
    return {
        "p50": ordered[len(ordered) // 2] * scale,
        "p95": ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)] * scale,
    }


def calls(log: Callable[[int], object], number: int, pause: float = 0.0) -> dict[str, float]:
    """Time single calls, in µs."""
    clock, took = time.perf_counter, []
    for step in range(number):
        start = clock()
        log(step)
        took.append(clock() - start)
        if pause:
            time.sleep(pause)
    return spread(took, 1e6)


def reads(read: Callable[[], object], seconds: float = 3.0) -> dict[str, float]:
    """Time a read again and again, in ms."""
    read()
    took: list[float] = []
    while len(took) < 5 or (sum(took) < seconds and len(took) < 200):
        start = time.perf_counter()
        read()
        took.append(time.perf_counter() - start)
    return spread(took, 1e3)


def rate(points: int, write: Callable[[], object]) -> float:
    """Return points a second."""
    start = time.perf_counter()
    write()
    return points / (time.perf_counter() - start)


def workbench(folder: Path, scale: float) -> dict[str, Any]:
    import numpy as np

    import workbench as wb
    from workbench.store.points import Batch

    out: dict[str, Any] = {"version": wb.__version__}
    with wb.Workspace(folder) as home:
        home.start_run("warm").finish()
        start = time.perf_counter()
        run = home.start_run("calls")
        out["start"] = (time.perf_counter() - start) * 1e3
        out["call"] = calls(lambda step: run.log(PAIR, step=step), int(CALLS * scale))
        out["paced"] = calls(lambda step: run.log(PAIR, step=step), int(PACED * scale), 0.001)
        run.finish()

        points = int(POINTS * scale) // CURVES * CURVES
        steps = np.arange(points // CURVES)
        curves = {f"m{at}": np.sin(steps / (at + 1)) for at in range(CURVES)}

        def one_by_one() -> None:
            with home.start_run("log") as run:
                for step in range(points // METRICS):
                    run.log(ROW, step=step)

        def whole() -> None:
            with home.start_run("batch") as run:
                run.log_many(curves, steps)

        synced = home.start_run("synced").id

        def with_fsync() -> None:
            for at in range(0, len(steps), 2500):
                part = slice(at, at + 2500)
                batches = {
                    (synced, name): Batch(
                        steps[part].tolist(), steps[part].astype(float).tolist(), curve[part].tolist()
                    )
                    for name, curve in curves.items()
                }
                home.store.add_batches(batches, {}, durable=True)

        out["durable"] = {
            "log": rate(points, one_by_one),
            "batch": rate(points, whole),
            "synced": rate(points, with_fsync),
        }
        many = home.runs("batch")[0].id
        keys = [(many, name) for name in curves]
        out["million"] = reads(lambda: home.store.curves(keys)) | {"points": points}
        long = home.start_run("history")
        long.log_many({"m": np.arange(HISTORY) / 7})
        long.finish()
        out["history"] = reads(lambda: long.metric_points("m"))
        assert len(long.metric_points("m")) == HISTORY
        ids = []
        for _ in range(int(RUNS * max(scale, 0.2))):
            with home.start_run("sweep", config=CONFIG) as run:
                for step in range(10):
                    run.log(ROW, step=step)
            ids.append(run.id)
        out["summaries"] = reads(lambda: (home.store.run_table(ids), home.store.summary_table(ids)))
        out["summaries"]["runs"] = len(ids)
    return out


def mlflow(folder: Path, scale: float) -> dict[str, Any]:
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    out: dict[str, Any] = {"version": mlflow.__version__}
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("e")
    start = time.perf_counter()
    run = client.create_run(experiment).info.run_id
    out["start"] = (time.perf_counter() - start) * 1e3

    def log(step: int) -> None:
        client.log_batch(run, metrics=[Metric(name, value, 0, step) for name, value in PAIR.items()])

    out["call"] = calls(log, max(int(CALLS * scale) // 50, 20))
    out["paced"] = calls(log, max(int(PACED * scale) // 10, 20), 0.001)
    points = max(int(POINTS * scale) // 50, 2000)

    def one_by_one() -> None:
        for step in range(points // METRICS // 4):
            client.log_batch(run, metrics=[Metric(name, value, 1, step) for name, value in ROW.items()])

    def whole() -> None:
        for at in range(0, points, 1000):
            metrics = [Metric("batch", step / 7, 2, step) for step in range(at, at + 1000)]
            client.log_batch(run, metrics=metrics)

    out["durable"] = {"log": rate(points // 4, one_by_one), "batch": rate(points, whole)}
    for at in range(0, HISTORY, 1000):
        client.log_batch(run, metrics=[Metric("long", step / 7, 3, step) for step in range(at, at + 1000)])
    out["history"] = reads(lambda: client.get_metric_history(run, "long"))
    assert len(client.get_metric_history(run, "long")) == HISTORY
    sweep = client.create_experiment("sweep")
    number = int(RUNS * max(scale, 0.2))
    for _ in range(number):
        one = client.create_run(sweep).info.run_id
        params = [mlflow.entities.Param(name, str(value)) for name, value in CONFIG.items()]
        for step in range(10):
            metrics = [Metric(name, value, step, step) for name, value in ROW.items()]
            client.log_batch(one, metrics=metrics, params=params if not step else [])
    out["summaries"] = reads(lambda: client.search_runs([sweep], max_results=RUNS))
    out["summaries"]["runs"] = len(client.search_runs([sweep], max_results=RUNS))
    return out


def trackio(folder: Path, scale: float) -> dict[str, Any]:
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    out: dict[str, Any] = {"version": trackio.__version__}
    begin = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    start = time.perf_counter()
    run = trackio.init(project="calls", name="one", **begin)
    out["start"] = (time.perf_counter() - start) * 1e3
    out["call"] = calls(lambda step: run.log(dict(PAIR), step=step), int(CALLS * scale))
    out["paced"] = calls(lambda step: run.log(dict(PAIR), step=step), int(PACED * scale), 0.001)
    trackio.finish()
    points = max(int(POINTS * scale) // 10, 2000)

    def one_by_one() -> None:
        run = trackio.init(project="log", name="one", **begin)
        for step in range(points // METRICS):
            run.log(dict(ROW), step=step)
        trackio.finish()  # it sends what is left

    out["durable"] = {"log": rate(points, one_by_one)}
    stored = len(SQLiteStorage.get_logs("log", "one"))
    out["durable"]["stored"] = stored / (points // METRICS)
    rows = [{"m": step / 7} for step in range(HISTORY)]
    SQLiteStorage.bulk_log("history", "long", rows, steps=list(range(HISTORY)), run_id="long")
    out["history"] = reads(lambda: SQLiteStorage.get_metric_values("history", "long", "m", run_id="long"))
    number = int(RUNS * max(scale, 0.2))
    for at in range(number):
        name = f"run-{at}"
        SQLiteStorage.bulk_log("sweep", name, [ROW] * 10, steps=list(range(10)), config=CONFIG, run_id=name)
    runs = [{"name": f"run-{at}", "id": f"run-{at}"} for at in range(number)]
    out["summaries"] = reads(
        lambda: (
            SQLiteStorage.get_all_run_configs("sweep"),
            SQLiteStorage.get_logs_batch("sweep", runs, max_points=1, scalar_only=True),
        )
    )
    out["summaries"]["runs"] = number
    return out


def aim(folder: Path, scale: float) -> dict[str, Any]:
    import aim
    from aim.__version__ import __version__

    out: dict[str, Any] = {"version": __version__}
    quiet: dict[str, Any] = {"system_tracking_interval": None, "capture_terminal_logs": False}
    start = time.perf_counter()
    run = aim.Run(repo=str(folder), **quiet)
    out["start"] = (time.perf_counter() - start) * 1e3
    out["call"] = calls(lambda step: run.track(PAIR, step=step), max(int(CALLS * scale) // 10, 20))
    out["paced"] = calls(lambda step: run.track(PAIR, step=step), max(int(PACED * scale) // 4, 20), 0.001)
    run.close()
    points = max(int(POINTS * scale) // 50, 2000)

    def one_by_one() -> None:
        run = aim.Run(repo=str(folder), experiment="log", **quiet)
        for step in range(points // METRICS):
            run.track(ROW, step=step)
        run.close()

    out["durable"] = {"log": rate(points, one_by_one)}
    return out


SYSTEMS: dict[str, tuple[Callable[[Path, float], dict[str, Any]], str]] = {
    "workbench": (workbench, "workbench"),
    "mlflow": (mlflow, "mlflow"),
    "trackio": (trackio, "trackio"),
    "aim": (aim, "aim"),
}


def in_its_own_process(name: str, scale: float) -> dict[str, Any]:
    """Run one system's part; return its figures, or why there are none."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
        command = [sys.executable, __file__, "--one", name, "--folder", folder, "--scale", str(scale)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"missing": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    out: dict[str, Any] = json.loads(lines[-1])
    return out


def table(figures: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of the table: what, then one column a system."""

    def pair(part: str, form: str = ",.1f") -> tuple[str, ...]:
        return tuple(
            f"{found[part]['p50']:{form}} / {found[part]['p95']:{form}}" if part in found else "–"
            for found in figures.values()
        )

    def speed(part: str) -> tuple[str, ...]:
        return tuple(
            f"{found['durable'][part]:,.0f}" if part in found.get("durable", {}) else "–"
            for found in figures.values()
        )

    return [
        ("", *(f"{name} {found.get('version', '')}" for name, found in figures.items())),
        ("one call, µs p50 / p95", *pair("call")),
        ("one call in a loop, µs p50 / p95", *pair("paced")),
        ("points a second by log", *speed("log")),
        ("points a second in batches", *speed("batch")),
        ("the same, each batch fsynced", *speed("synced")),
        ("100 runs' values, ms p50 / p95", *pair("summaries")),
        ("10,000 points, ms p50 / p95", *pair("history")),
        ("a million points, ms p50 / p95", *pair("million")),
        (
            "start a run, ms",
            *(f"{found['start']:.1f}" if "start" in found else "–" for found in figures.values()),
        ),
    ]


def main() -> None:
    """Run every system in its own process and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything: does it run?")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, metavar="NAME", default=list(SYSTEMS))
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure, module = SYSTEMS[given.one]
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(module)
            found = measure(given.folder, given.scale)
        print(json.dumps(found), flush=True)
        os._exit(0)  # a peer's threads and servers do not keep the others waiting
    figures = {name: in_its_own_process(name, 0.05 if given.quick else 1.0) for name in given.only}
    rows = table(figures)
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name, found in figures.items():
        if "missing" in found:
            print(f"{name}: {found['missing']} (pip install mlflow-skinny trackio aim)")
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
