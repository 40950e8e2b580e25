"""Latency of the HTTP API with 1,000 jobs, beside a bare tornado handler and the Jupyter server's own API.

    python tests/benchmarks/bench_http.py [--jobs 1000] [--rounds 100] [--index DIR]

Every row is asked over one kept connection, one request after another, in the same run on the same machine;
the rows take turns, so that whatever else the machine does falls on all of them alike. The bare handler is a
tornado server that answers a fixed document of the size of a page of 25 jobs: the least that any of this can
take. ``--index`` is an index folder of an installed adapter, searched besides the words of the toy one.

Beside them, logging from another machine: what a call of ``run.log`` costs who logs, and how many points a
second arrive, over HTTP and in the workspace itself, the one after the other with the same numbers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

import workbench as wb
from workbench.store import records

TESTS = Path(__file__).parents[1]

BARE = """
import sys, asyncio, tornado.web
class Page(tornado.web.RequestHandler):
    def get(self):
        self.set_header("Content-Type", "application/json")
        self.finish(PAGE)
PAGE = open(sys.argv[2], "rb").read()
async def main():
    tornado.web.Application([("/", Page)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""


def doors() -> ModuleType:
    """Return the module of the tests that starts a live server."""
    path = TESTS / "workbench" / "conftest.py"
    spec = importlib.util.spec_from_file_location("doors_of_the_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def fill(home: wb.Workspace, count: int) -> None:
    """Add jobs as they look after a while: most ended, the newest one running."""
    for number in range(count):
        running = number == count - 1
        row = records.JobRecord(
            type="eval",
            adapter="toy",
            status="running" if running else "succeeded",
            options={
                "steps": 3,
                "k": 3,
                "name": "words",
                "run": None,
                "collection": "photos",
                "seed": number,
            },
            progress_done=40,
            progress_total=100,
            progress_message="encoding images",
            summary="t2i/R@10@128 0.430 (run 3)",
            attempt=1,
            started_at=time.time() - 60,
            finished_at=None if running else time.time(),
            lease_until=time.time() + 1e6 if running else None,
        )
        home.store.add_job(row)


def timed(ask: Callable[[], httpx.Response]) -> float:
    start = time.perf_counter()
    answer = ask()
    took = (time.perf_counter() - start) * 1e3
    assert answer.status_code in (200, 304), answer.text
    return took


def logged(workspace: wb.Workspace, calls: int, metrics: int) -> tuple[float, float, float]:
    """Return microseconds a call of ``log``, and points a second until all are there: singly, and at once."""
    names = [f"m{number}" for number in range(metrics)]
    with workspace.start_run("bench") as run:
        run.log(dict.fromkeys(names, 0.0))
        run.flush()
        start = time.perf_counter()
        for step in range(calls):
            run.log(dict.fromkeys(names, step * 0.5), step=step)
        called = time.perf_counter() - start
        run.flush()
        rate = calls * metrics / (time.perf_counter() - start)
        curve = [step * 0.5 for step in range(calls * metrics)]
        start = time.perf_counter()
        run.log_many({"curve": curve})
        run.flush()
        return called / calls * 1e6, rate, len(curve) / (time.perf_counter() - start)


def measure_logging(live: Any, calls: int) -> None:
    """Print what logging costs here and over HTTP."""
    print(f"{'logging':<40} {'us a call':>10} {'points/s':>10} {'log_many points/s':>18}")
    with wb.Workspace(live.home) as local, wb.connect(live.url, live.token) as remote:
        for metrics in (1, 10):
            for name, workspace in (("in the workspace", local), ("over HTTP", remote)):
                call, rate, many = logged(workspace, calls, metrics)
                print(f"{f'{name}, {metrics} metrics a call':<40} {call:10.1f} {rate:10,.0f} {many:18,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--index", type=Path, help="an index folder to be searched, too")
    parser.add_argument("--query", default="강아지")
    parser.add_argument("--calls", type=int, default=20_000, help="calls of run.log")
    given = parser.parse_args()
    tests = doors()
    folder = Path(tempfile.mkdtemp(prefix="bench-http-"))
    tests.install(folder, "toy", (TESTS / "adapters" / "toy.py").read_text(encoding="utf-8"))
    os.environ["PYTHONPATH"] = str(folder)
    home = folder / "results"
    tests.make_index(home, "words")
    if given.index:
        shutil.copytree(given.index, home / "indexes" / "given")
    with wb.Workspace(home) as workspace:
        fill(workspace, given.jobs)
    with tests.live_server(home, folder / "state") as live, httpx.Client(timeout=120) as client:
        api, headers = live.api, live.headers
        page = folder / "page.json"
        page.write_bytes(client.get(f"{api}/jobs?limit=25", headers=headers).content)
        port = httpx.URL(live.url).port + 1  # type: ignore[operator]
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(port), str(page)])
        tag = client.get(f"{api}/jobs?limit=25&status=succeeded", headers=headers).headers["ETag"]

        def get(path: str, **more: str) -> Callable[[], httpx.Response]:
            return lambda: client.get(f"{live.url}{path}", headers={**headers, **more})

        def search(index: str, query: str) -> Callable[[], httpx.Response]:
            body = {"index": index, "query": query, "k": 20}
            return lambda: client.post(f"{api}/search/text", headers=headers, json=body)

        rows: dict[str, Callable[[], httpx.Response]] = {
            "bare tornado handler, 25 jobs' bytes": lambda: client.get(f"http://127.0.0.1:{port}/"),
            "jupyter: GET api/kernels": get("api/kernels"),
            "jupyter: GET api/contents": get("api/contents"),
            "GET jobs?limit=25": get("workbench/api/jobs?limit=25"),
            "GET jobs?limit=25, unchanged (304)": get(
                "workbench/api/jobs?limit=25&status=succeeded", **{"If-None-Match": tag}
            ),
            "GET jobs?limit=1000": get("workbench/api/jobs?limit=1000"),
            "GET jobs/{id}": get(f"workbench/api/jobs/{given.jobs}"),
            "GET jobs/{id}/progress": get(f"workbench/api/jobs/{given.jobs}/progress"),
            "POST search/text, toy index": search("words", "dog"),
        }
        if given.index:
            rows[f"POST search/text, {given.index.name}"] = search("given", given.query)
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                try:
                    client.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            took: dict[str, list[float]] = {name: [] for name in rows}
            for number in range(given.rounds + 5):
                for name, ask in rows.items():
                    ms = timed(ask)
                    if number >= 5:
                        took[name].append(ms)
        finally:
            bare.terminate()
            bare.wait()
        measure_logging(live, given.calls)
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{given.jobs} jobs, {given.rounds} rounds, milliseconds; load {os.getloadavg()[0]:.1f}")
    print(f"{'':<40} {'p50':>8} {'p95':>8}")
    for name, all_ms in took.items():
        p95 = statistics.quantiles(all_ms, n=20)[-1]
        print(f"{name:<40} {statistics.median(all_ms):8.2f} {p95:8.2f}")
    print(json.dumps({name: round(statistics.median(all_ms), 3) for name, all_ms in took.items()}))


if __name__ == "__main__":
    main()
