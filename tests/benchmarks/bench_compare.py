"""Comparing, timed beside MLflow and trackio in the same run, on the same numbers.

    pip install mlflow-skinny sqlalchemy alembic trackio        # the peers, by hand: no test needs them
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_compare.py [--json] [--points 1000000] [--no-browser]

What is timed, each with a warm file cache, as the median (p50) and the 95th percentile of repeated calls:

data        100 runs x 50 settings x 20 metrics, ready to be put into a table: settings and final values.
            Ours: ``ws.compare``, differences and trophies included. MLflow: ``MlflowClient.search_runs`` on
            SQLite. trackio: every run's config and its last logged row, straight from its storage.
history     one metric of 10,000 points. Ours: the store's curve. MLflow: ``get_metric_history``. trackio:
            ``get_metric_values``.
panel       the compare panel of 100 runs x 70 columns: time in the kernel, messages and bytes to the page,
            the static HTML of a saved notebook included.
million     a million points in 20 curves: kernel time until the panel can be shown, bytes, and (in a headless
            Chromium, without Jupyter between) the time from there until everything is drawn.

A peer that is not installed is left out and said so.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import workbench as wb
from workbench.commands.examination import BROWSERS
from workbench.compare.reading import Curves
from workbench.panels import ComparePanel
from workbench.store import records
from workbench.store.points import Batch, Key

RUNS, PARTS, KEYS, METRICS, STEPS, HISTORY, CURVES = 100, 5, 10, 20, 30, 10_000, 20


def timed(call: Callable[[], Any], seconds: float = 3.0, least: int = 7) -> dict[str, float]:
    """Return the median and the 95th percentile of a call, in milliseconds."""
    call()
    gc.collect()
    took: list[float] = []
    while len(took) < least or sum(took) < seconds:
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
        if len(took) >= 500:
            break
    took.sort()
    p95 = took[min(len(took) - 1, int(0.95 * len(took)))]
    return {"p50": statistics.median(took) * 1000, "p95": p95 * 1000, "calls": len(took)}


def settings(run: int) -> dict[str, dict[str, int]]:
    return {f"part{part}": {f"key{key}": run * key + part for key in range(KEYS)} for part in range(PARTS)}


def value(run: int, metric: int, step: int) -> float:
    return run / (step + 1) + metric


def batch(steps: range, values: list[float]) -> Batch:
    return Batch(steps, [float(step) for step in steps], values)


# Ours --------------------------------------------------------------------------------------------


def our_workspace(folder: Path) -> wb.Workspace:
    home = wb.Workspace(folder)
    for run in range(RUNS):
        row = home.store.add_run(records.RunRecord(experiment_id=0, config=settings(run)), "sweep")
        batches: dict[Key, Batch] = {
            (row.id or 0, f"val/metric{metric}"): batch(
                range(STEPS), [value(run, metric, step) for step in range(STEPS)]
            )
            for metric in range(METRICS)
        }
        home.store.add_batches(batches, dict.fromkeys(batches, "higher"))
        home.store.end_run(row.id or 0, "succeeded")
    row = home.store.add_run(records.RunRecord(experiment_id=0), "history")
    losses = [1 / (step + 1) for step in range(HISTORY)]
    home.store.add_batches({(row.id or 0, "loss"): batch(range(HISTORY), losses)}, {})
    return home


def ours(folder: Path, wire: Wire) -> dict[str, Any]:
    home = our_workspace(folder)
    ids = range(1, RUNS + 1)
    history = (RUNS + 1, "loss")
    out = {
        "data": timed(lambda: home.compare(ids)),
        "history": timed(lambda: Curves(home.store).series({history: HISTORY})[history]),
    }
    assert len(home.compare(ids).final) == METRICS
    assert len(home.compare(ids).config) == PARTS * KEYS
    assert len(Curves(home.store).series({history: HISTORY})[history]) == HISTORY
    out["panel"] = panel(home, ids, wire)
    home.close()
    return out


class Wire:
    """Messages that panels send, as (bytes of JSON and of buffers)."""

    def __init__(self) -> None:
        self.messages: list[int] = []


def counted() -> Wire:
    """Count what goes to the page from now on, below the widgets and above the sockets."""
    import comm
    import comm.base_comm

    wire = Wire()

    def publish(
        self: Any, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
    ) -> None:
        size = len(json.dumps([data, metadata], default=str))
        wire.messages.append(size + sum(memoryview(one).nbytes for one in buffers or ()))

    comm.base_comm.BaseComm.publish_msg = publish
    comm.create_comm = lambda *args, **named: comm.base_comm.BaseComm(*args, **named)
    return wire


def panel(home: wb.Workspace, ids: Any, wire: Wire, repeats: int = 9) -> dict[str, Any]:
    took = []
    for _ in range(repeats + 1):
        wire.messages.clear()
        start = time.perf_counter()
        shown = ComparePanel(home, ids)
        bundle, _metadata = shown._repr_mimebundle_()
        took.append(time.perf_counter() - start)
        shown.close()
    sent = [*wire.messages, len(json.dumps(bundle))]
    took = sorted(took[1:])
    return {
        "p50": statistics.median(took) * 1000,
        "p95": took[-1] * 1000,
        "calls": repeats,
        "messages": len(sent),
        "bytes": sum(sent),
    }


def million(folder: Path, points: int, browser: bool, wire: Wire) -> dict[str, Any]:
    home = wb.Workspace(folder)
    each = points // CURVES
    for run in range(CURVES):
        row = home.store.add_run(records.RunRecord(experiment_id=0, config={"seed": run}), "long")
        for start in range(0, each, 20_000):
            steps = range(start, min(start + 20_000, each))
            losses = [1 / (step + 1) + (step * 7919 % 101) / 1e4 for step in steps]
            home.store.add_batches({(row.id or 0, "val/loss"): batch(steps, losses)}, {})
        home.store.end_run(row.id or 0, "succeeded")
    ids = range(1, CURVES + 1)
    out = panel(home, ids, wire, repeats=5)
    if browser:
        out["drawn"] = drawn(home, ids)
    home.close()
    return out


def drawn(home: wb.Workspace, ids: Any) -> float:
    """Return the milliseconds from data in the page to everything drawn, the median of five pages."""
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
    from bridge import Bridge

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    flags = ["--no-sandbox", "--disable-gpu"]
    took = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        for _ in range(5):
            page = Bridge(browser, ComparePanel(home, ids))
            assert page.page.locator(".wb-chart .wb-line").count() == CURVES
            took.append(float(page.page.evaluate("window.drawnIn")))
            page.close()
        browser.close()
    return statistics.median(took)


# Peers -------------------------------------------------------------------------------------------


def mlflow_figures(folder: Path) -> dict[str, Any]:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("sweep", artifact_location=str(folder / "artifacts"))
    for run in range(RUNS):
        made = client.create_run(experiment)
        flat = {
            f"{part}.{key}": str(one) for part, inner in settings(run).items() for key, one in inner.items()
        }
        metrics = [
            Metric(f"val/metric{metric}", value(run, metric, step), step, step)
            for metric in range(METRICS)
            for step in range(STEPS)
        ]
        client.log_batch(made.info.run_id, metrics[:900], [Param(*pair) for pair in flat.items()])
    long = client.create_run(client.create_experiment("history", artifact_location=str(folder / "artifacts")))
    for start in range(0, HISTORY, 1000):
        batch = [Metric("loss", 1 / (step + 1), step, step) for step in range(start, start + 1000)]
        client.log_batch(long.info.run_id, batch)
    found = client.search_runs([experiment], max_results=1000)
    assert len(found) == RUNS
    assert len(found[0].data.params) == PARTS * KEYS
    assert len(found[0].data.metrics) == METRICS
    assert len(client.get_metric_history(long.info.run_id, "loss")) == HISTORY
    return {
        "data": timed(lambda: client.search_runs([experiment], max_results=1000)),
        "history": timed(lambda: client.get_metric_history(long.info.run_id, "loss")),
    }


def trackio_figures(folder: Path) -> dict[str, Any]:
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    from trackio.sqlite_storage import SQLiteStorage

    for run in range(RUNS):
        rows = [
            {f"val/metric{metric}": value(run, metric, step) for metric in range(METRICS)}
            for step in range(STEPS)
        ]
        SQLiteStorage.bulk_log(
            "sweep", f"run-{run}", rows, steps=list(range(STEPS)), config=settings(run), run_id=f"run-{run}"
        )
    SQLiteStorage.bulk_log(
        "history",
        "long",
        [{"loss": 1 / (step + 1)} for step in range(HISTORY)],
        steps=list(range(HISTORY)),
        run_id="long",
    )
    runs = [{"name": f"run-{run}", "id": f"run-{run}"} for run in range(RUNS)]

    def data() -> Any:
        configs = SQLiteStorage.get_all_run_configs("sweep")
        return configs, SQLiteStorage.get_logs_batch("sweep", runs, max_points=1, scalar_only=True)

    def history() -> Any:
        return SQLiteStorage.get_metric_values("history", "long", "loss", run_id="long")

    configs, last = data()
    assert len(configs) == RUNS
    assert len(last) == RUNS
    return {"data": timed(data), "history": timed(history), "history_points": len(history())}


def main() -> None:
    """Run everything and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--no-browser", action="store_true")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    wire = counted()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["workbench"] = ours(folder / "ours", wire)
        for peer, measure in (("mlflow", mlflow_figures), ("trackio", trackio_figures)):
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    figures[peer] = measure(folder)
            except ImportError as error:
                figures[peer] = {"missing": f"{error}; pip install mlflow-skinny sqlalchemy alembic trackio"}
        figures["workbench"]["million"] = million(folder / "long", given.points, not given.no_browser, wire)
    if given.json:
        print(json.dumps(figures))
        return
    for who, parts in figures.items():
        for what, numbers in parts.items():
            if not isinstance(numbers, dict):
                print(f"{who:10} {what:10} {numbers}")
                continue
            more = "".join(
                f"  {key} {numbers[key]:,.0f}" for key in ("messages", "bytes", "drawn") if key in numbers
            )
            print(f"{who:10} {what:10} p50 {numbers['p50']:9.2f} ms  p95 {numbers['p95']:9.2f} ms{more}")


if __name__ == "__main__":
    main()
