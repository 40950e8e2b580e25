"""How a build grows with its workers: one and two measured on this machine, up to 64 computed.

Photographs are drawn, opened once, and built into an index by one and by two workers in turn, on local
processes and on a Dask cluster of this machine; each worker computes with one thread, so that two have the
processors of two. The first build of an engine, in which its workers load the model, is not counted::

    .venv/bin/pip install -e ".[demo,dask]"
    .venv/bin/python tests/benchmarks/bench_engine.py [--pictures 1024] [--rounds 3]

The computed line takes, in proportion to the pictures, the seconds of the shards on a worker (``work``) and
what one process does alone before and after them (``alone``: planning, merging, sealing), and what each shard
costs the one who hands them out (``handing``)::

    seconds(n) = alone + max(ceil(shards / n) × work / shards, handing × shards)

It assumes that each worker has a processor like this one's to itself, that the storage they share is as fast
for n of them as this disk is for two, and that the network is no slower than this machine's own. Opening the
collection, which decodes each picture once for its digest, is not in it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before anything reads them; workers inherit them

from bench_quick_index import write_photographs  # noqa: E402

import workbench as wb  # noqa: E402
from adapters.vlm_quantization.data.sources import open_collection  # noqa: E402
from adapters.vlm_quantization.encoding.fitted import fit_codes, open_model  # noqa: E402
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures  # noqa: E402
from adapters.vlm_quantization.index import shards  # noqa: E402
from adapters.vlm_quantization.index.build import build_index  # noqa: E402
from adapters.vlm_quantization.towers import registry  # noqa: E402
from workbench.engine.cluster import Cluster  # noqa: E402
from workbench.engine.engine import Engine  # noqa: E402
from workbench.engine.task import Task  # noqa: E402

#: Items of a shard of the computed line, as a build has them.
SHARD_ITEMS = shards.SHARD_ITEMS

#: Workers of the computed line.
LINE = (1, 2, 4, 8, 16, 32, 64)


class Counted(Engine):
    """An engine that adds up how long its tasks took where they ran."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds: list[float] = []
        self.handing = 0.0

    def submit(self, task: Task) -> None:
        began = time.perf_counter()
        self._engine.submit(task)
        self.handing += time.perf_counter() - began

    def as_completed(self, seconds: float) -> Any:
        for outcome in self._engine.as_completed(seconds):
            if outcome.ending == "done":
                self.seconds.append(outcome.seconds)
            yield outcome

    def cancel(self) -> None:
        self._engine.cancel()

    def close(self) -> None:
        self._engine.close()

    @property
    def workers(self) -> int:
        return self._engine.workers


def main() -> None:
    """Print a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--line-of", type=int, default=100_000, help="pictures of the computed line")
    parser.add_argument("--kinds", nargs="+", choices=("local", "dask"), default=["local", "dask"])
    args = parser.parse_args()
    before = os.getloadavg()[0]
    shards.SHARD_ITEMS = 1  # a batch each, so that few pictures are many shards
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_photographs(home / "photographs", args.pictures)
        began = time.perf_counter()
        collection = open_collection(home / "photographs", cache_dir=home / "cache")
        opening = time.perf_counter() - began
        model = fitted(home / "fitted.safetensors", collection)
        engines: dict[tuple[str, int], Engine] = {}
        for kind in args.kinds:
            for n in (1, 2):
                address = f"local:{n}" if kind == "local" else stack.enter_context(Cluster(n)).address
                engines[kind, n] = stack.enter_context(wb.open_engine(address))
        runs: dict[tuple[str, int], list[dict[str, float]]] = {which: [] for which in engines}
        for number in range(args.rounds + 1):
            for which, engine in engines.items():
                measured = build(home / f"{which[0]}-{which[1]}-{number}", collection, model, engine)
                if number:
                    runs[which].append(measured)
    report(args, runs, opening, (before, os.getloadavg()[0]))


def computed(n: int, pictures: int, measured: int, single: dict[str, float], alone: float) -> float:
    """Return the seconds that ``n`` workers take for some pictures, from what one took for others."""
    times = pictures / measured
    whole = math.ceil(pictures / SHARD_ITEMS)
    work = math.ceil(whole / n) / whole * single["work"] * times  # the last round may not need all workers
    handing = single["handing"] / single["shards"] * whole
    return alone * times + max(work, handing)


def fitted(file: Path, collection: Any) -> Path:
    """Fit codes of the packaged encoder to some of the pictures."""
    pair = registry.encoder_pair(registry.PACKAGED)
    sample = [collection.open(row) for row in range(min(len(collection), 128))]
    fit_codes(file, pair, pair.image.features(sample))
    return file


def build(folder: Path, collection: Any, model: Path, engine: Engine) -> dict[str, float]:
    """Build once; return seconds."""
    counted = Counted(engine)
    began = time.perf_counter()
    build_index(
        folder,
        collection,
        KnownPictures(open_model(model)),
        name="photographs",
        model_file=model,
        captions=False,
        engine=counted,
    )
    return {
        "seconds": time.perf_counter() - began,
        "work": sum(counted.seconds),
        "shards": len(counted.seconds),
        "handing": counted.handing,
    }


def report(
    args: argparse.Namespace,
    runs: dict[tuple[str, int], list[dict[str, float]]],
    opening: float,
    load: tuple[float, float],
) -> None:
    """Print what was measured and what is computed from it."""
    cores = os.cpu_count() or 1
    quiet = "quiet" if max(load) < cores + 1 else "BUSY: its numbers do not count"
    print(f"{args.pictures} pictures, {cores} processors, load {load[0]:.1f} to {load[1]:.1f} ({quiet})")
    print(f"opening the collection: {opening:.1f} s, in one process")
    document: dict[str, Any] = {"pictures": args.pictures, "load": load, "opening": opening}
    for kind in args.kinds:
        times = {n: [one["seconds"] for one in runs[kind, n]] for n in (1, 2)}
        ratios = [a / b for a, b in zip(times[1], times[2], strict=True)]
        single = {key: statistics.median(one[key] for one in runs[kind, 1]) for key in runs[kind, 1][0]}
        alone = max(single["seconds"] - single["work"] - single["handing"], 0.0)
        line = {n: computed(n, args.line_of, args.pictures, single, alone) for n in LINE}
        print(
            f"{kind}: one worker {statistics.median(times[1]):.1f} s, "
            f"two {statistics.median(times[2]):.1f} s: "
            f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
        )
        print(
            f"  of one worker's: work {single['work']:.1f} s in {single['shards']:.0f} shards, "
            f"alone {alone:.2f} s, handing out {single['handing']:.3f} s"
        )
        print(
            f"  computed for {args.line_of:,} pictures:",
            ", ".join(f"{n}: {line[1] / line[n]:.1f}×" for n in LINE),
        )
        document[kind] = {"seconds": times, "ratios": ratios, "single": single, "computed": line}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
