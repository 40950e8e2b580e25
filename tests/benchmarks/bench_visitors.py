"""How many visitors a published page serves at once, and how fast it appears.

    python tests/benchmarks/bench_visitors.py INDEX [--workspace DIR] [--visitors 200] [--seconds 300]

publishes an index of a workspace (that of ``workbench demo``) and lets programs that speak the page's
protocol search every five seconds, with two browsers among them. It prints failures, the times from question
to thumbnails, and the memory of the server and the search service, first and last. Loads of the page follow,
and what they leave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import struct
import threading
import time
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import sync_playwright

from workbench.commands.examination import BROWSERS
from workbench.host import processes
from workbench.publish import page

#: Seconds between two questions of a visitor.
EVERY = 5.0

#: What is asked.
QUERIES = (
    "강아지",
    "dog",
    "red heart",
    "pizza",
    "피자",
    "a ship at sea",
    "고양이",
    "flag",
    "house",
    "비행기",
)

#: Loads of the page at the end.
LOADS = 1000


async def visitor(
    client: httpx.AsyncClient, number: int, until: float, took: list[float], bad: list[str]
) -> None:
    """Load the page, then search until the time is over."""
    await asyncio.sleep(EVERY * (number * 0.618 % 1))
    response = await client.get("")
    if response.status_code != 200:
        bad.append(f"page: {response.status_code}")
    turn = number
    while time.monotonic() < until:
        began = time.perf_counter()
        turn += 1
        asked = {
            "type": "search",
            "seq": turn,
            "by": "text",
            "query": QUERIES[turn % len(QUERIES)],
            "k": 20,
            "options": {"bits": (16, 64, 128)[turn % 3]},
        }
        try:
            response = await client.post("page/search", json=asked)
            size = struct.unpack_from(">I", response.content)[0]
            if response.status_code != 200 or len(json.loads(response.content[4 : 4 + size])["hits"]) < 20:
                bad.append(f"search: {response.status_code}")
        except (httpx.HTTPError, struct.error, ValueError, KeyError) as error:
            bad.append(f"search: {type(error).__name__}")
        spent = time.perf_counter() - began
        took.append(spent)
        await asyncio.sleep(max(EVERY - spent, 0))


async def crowd(url: str, visitors: int, seconds: float) -> tuple[list[float], list[str]]:
    """Let visitors search for a while, and return their times in seconds and their failures."""
    took: list[float] = []
    bad: list[str] = []
    until = time.monotonic() + seconds
    clients = [httpx.AsyncClient(base_url=url, timeout=60) for _ in range(visitors)]
    await asyncio.gather(*(visitor(one, n, until, took, bad) for n, one in enumerate(clients)))
    for one in clients:
        await one.aclose()
    return took, bad


def browse(url: str, seconds: float, box: list[float], shown: list[float]) -> None:
    """Search with a browser; note when its box can be used, and when thumbnails are decoded."""
    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        until, turn = time.monotonic() + seconds, 0
        began = time.perf_counter()
        tab.goto(url, wait_until="commit")
        tab.get_by_label("Query").wait_for()
        box.append(time.perf_counter() - began)
        while time.monotonic() < until:
            turn += 1
            shown.append(tab.evaluate(_ASK, QUERIES[turn % len(QUERIES)]) / 1e3)
            time.sleep(min(EVERY, max(until - time.monotonic(), 0)))
        browser.close()


#: Ask, and return the milliseconds until twenty thumbnails of the answer are decoded.
_ASK = """async (query) => {
  const input = document.querySelector('input[type=text]');
  input.value = query;
  const former = document.querySelector('.wb-results').firstElementChild;
  const began = performance.now();
  input.form.requestSubmit();
  for (;;) {
    await new Promise(requestAnimationFrame);
    const pictures = [...document.querySelectorAll('.wb-hit img')];
    if (document.querySelector('.wb-results').firstElementChild !== former && pictures.length >= 20) {
      await Promise.all(pictures.slice(0, 20).map((one) => one.decode()));
      return performance.now() - began;
    }
  }
}"""


def memory(process: psutil.Process) -> str:
    """Return the resident memory of a process and its children, in MiB."""
    everybody = [process, *process.children(recursive=True)]
    return f"{sum(one.memory_info().rss for one in everybody) / 2**20:.0f} MiB in {len(everybody)} processes"


def percentile(times: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return 1e3 * statistics.quantiles(times, n=1000)[int(share * 1000) - 1]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--workspace", default="results")
    parser.add_argument("--visitors", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    asked = parser.parse_args()
    home = Path(asked.workspace)
    server, url = page.serve(home, asked.index)
    try:
        first = httpx.get(url, timeout=300)
        print(f"page: {len(first.content):,} bytes of HTML, nothing else is loaded")
        box: list[float] = []
        shown: list[float] = []
        browse(url, 40, box, shown)
        print(
            f"one browser alone: box {1e3 * box[0]:.0f} ms, thumbnails {[round(1e3 * s) for s in shown]} ms"
        )
        process = psutil.Process(server.pid)
        print("before:", memory(process))
        shown.clear()
        browsers = [threading.Thread(target=browse, args=(url, asked.seconds, box, shown)) for _ in range(2)]
        for one in browsers:
            one.start()
        took, bad = asyncio.run(crowd(url, asked.visitors, asked.seconds))
        for one in browsers:
            one.join()
        print(f"{asked.visitors} visitors for {asked.seconds:g} s: {len(took):,} searches, {len(bad)} failed")
        middle, high = percentile(took, 0.5), percentile(took, 0.95)
        print(f"  p50 {middle:.0f} ms, p95 {high:.0f} ms, most {1e3 * max(took):.0f} ms")
        print(f"  in a browser beside them: thumbnails p50 {1e3 * statistics.median(shown):.0f} ms")
        print("after:", memory(process), *sorted(set(bad))[:5])
        began = time.perf_counter()
        for _ in range(LOADS):
            httpx.get(url, timeout=60).raise_for_status()
        print(f"{LOADS} loads in {time.perf_counter() - began:.1f} s; then:", memory(process))
    finally:
        server.terminate()
        server.wait(60)
        assert not processes.started(server.pid)


if __name__ == "__main__":
    main()
