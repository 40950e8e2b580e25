"""The compare panel over HTTP beside the same panel of the owner, on the same runs in the same run.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_remote_compare.py [--rounds 20] [--only NAME]

Each is a workspace of its own behind a live Jupyter server on this machine. ``open`` makes the panel of all
its runs, ``idle`` looks again where nothing has changed, ``live`` looks again after each of three running
runs has logged one point of every metric. Requests and bytes (of bodies, not of heads) are those of one look.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_http import doors

import workbench as wb
from workbench.panels import ComparePanel
from workbench.store import records
from workbench.store.points import Batch

TESTS = Path(__file__).parents[1]

#: Runs, metrics, points of each, settings.
SHAPES = {
    "twenty": (20, 8, 1000, 20),
    "hundred": (100, 20, 30, 50),
    "many": (300, 8, 100, 20),
    "million": (4, 2, 1_000_000, 10),
}

LIVE = 3


def fill(home: wb.Workspace, runs: int, metrics: int, points: int, settings: int) -> list[int]:
    """Log runs that are over, but for the last few."""
    steps = np.arange(points)
    ids = []
    for number in range(runs):
        config = {f"part{key // 10}": {f"key{key % 10}": number * key} for key in range(settings)}
        row = home.store.add_run(records.RunRecord(experiment_id=0, config=config), "sweep")
        batch = Batch(steps.tolist(), (1.79e9 + steps / 3).tolist(), np.sin(steps / 50 + number).tolist())
        names = [f"val/m{metric}" for metric in range(metrics)]
        home.store.add_batches({(row.id or 0, name): batch for name in names}, {})
        if number < runs - LIVE:
            home.store.end_run(row.id or 0, "succeeded")
        ids.append(row.id or 0)
    return ids


def timed(call: Callable[[], Any], rounds: int, before: Callable[[], Any] = lambda: None) -> str:
    """Return the median and the 95th percentile of a call, in milliseconds."""
    took = []
    for _ in range(rounds):
        before()
        start = time.perf_counter()
        call()
        took.append((time.perf_counter() - start) * 1000)
    took.sort()
    return f"{statistics.median(took):8.1f} {took[min(len(took) - 1, int(0.95 * len(took)))]:8.1f}"


def measure(name: str, rounds: int, live_server: Any) -> None:
    """Measure one workspace and print a line each of opening, idling and living."""
    shape = SHAPES[name]
    print(f"\n{name}: {shape[0]} runs x {shape[1]} metrics x {shape[2]:,} points, {shape[3]} settings")
    print(f"{'':8}{'owner p50':>9} {'p95':>8}   {'HTTP p50':>9} {'p95':>8}   requests  bytes down    up")
    with tempfile.TemporaryDirectory() as folder, wb.Workspace(Path(folder) / "results") as home:
        ids = fill(home, *shape)
        with live_server(home.path, Path(folder) / "state") as served:
            ws = wb.connect(served.url, served.token)
            asked: list[tuple[int, int]] = []
            ws.door._http.event_hooks = {
                "response": [lambda one: asked.append((len(one.read()), len(one.request.content)))]
            }

            def row(label: str, calls: Any, rounds: int, before: Callable[[], Any] = lambda: None) -> None:
                owner, http = (timed(call, rounds, before) for call in calls)
                before()
                asked.clear()
                calls[1]()
                down, up = (sum(column) for column in zip(*asked, strict=True))
                print(f"{label:8}{owner}   {http}   {len(asked):8} {down:11,} {up:7,}")

            def log() -> None:
                now = time.time()
                names = [(run, f"val/m{metric}") for run in ids[-LIVE:] for metric in range(shape[1])]
                home.store.add_batches(dict.fromkeys(names, Batch([10**7], [now], [0.5])), {})

            row("open", [lambda: ComparePanel(home, ids).close(), lambda: ComparePanel(ws, ids).close()], 5)
            panels = [ComparePanel(home, ids), ComparePanel(ws, ids)]
            row("idle", [panel.refresh for panel in panels], rounds)
            row("live", [panel.refresh for panel in panels], rounds, log)
            assert panels[0].state["comparison"] == panels[1].state["comparison"]
            for panel in panels:
                panel.close()
            ws.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=SHAPES)
    given = parser.parse_args()
    for name in [given.only] if given.only else SHAPES:
        measure(name, given.rounds, doors().live_server)


if __name__ == "__main__":
    main()
