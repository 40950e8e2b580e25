"""Search of large numbers of codes beside faiss, usearch and numpy, as ratios; nothing is asserted.

    pip install -e ".[bench]"
    python tests/benchmarks/bench_scale.py                     # 1M and 10M codes: some ten minutes
    python tests/benchmarks/bench_scale.py --quick             # 100,000 codes, to see that it runs
    python tests/benchmarks/bench_scale.py --workspace results # also leaves runs, for the compare panel
    python tests/benchmarks/bench_scale.py --index results/indexes/emoji   # also on codes that were trained

Every engine answers the same queries on the same codes, in turns, on one thread unless the table says two. A
figure is the median over queries of its time divided by that of faiss's IndexBinaryFlat of the same length,
which was measured just before, and the quartiles of that ratio. Times are processor time of the calling
thread, which other processes on the machine disturb less, except for two threads, where the clock counts and
one thread is the measure.

Random codes are the worst case for pruning: everything is equally far. There are no trained codes of a
million pictures here. Codes that stand for them ("trained-like") are signs of random projections of clustered
vectors whose variance falls off; a query is another vector of such a cluster (picture → picture), or one with
as much noise added that its neighbours are far (text → picture). ``--index`` measures the codes of an index
as well, as many as it has, with its own pictures and captions as queries: where a training made them, they
are real.

With ``--workspace``, each engine is a run of the experiment "code search", and each ratio a metric that is
better when lower: the compare panel shows the table, with quartiles and recall, one column per engine.

Graphs (HNSW) and multi-index hashing are approximate: their row says which share of the ten nearest distances
they find. The first million codes are searched with them, since a graph of ten takes an hour to build.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

for limit in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(limit, "1")

import numpy as np  # noqa: E402 (it reads the limits when it is loaded)

LENGTHS = (8, 16, 32, 64, 128)
K = 10
ROOT = Path(__file__).parents[2]

#: The engine that is the measure of the others, ours, and ours on two threads, measured by one.
FLAT, ALONE, TWO = "faiss flat", "ours", "ours, two threads beside one (clock)"

Search = Callable[[Any], tuple[Any, Any]]


class Row(NamedTuple):
    """One line of the table."""

    codes: str
    items: int
    bits: int
    engine: str
    median_ms: float
    ratio: float
    low: float
    high: float
    recall: float


def random_codes(n: int, queries: int) -> dict[str, tuple[Any, Any]]:
    """Return codes without any structure, with queries."""
    random = np.random.default_rng(0)
    codes, asked = (random.integers(0, 256, (size, 16), dtype=np.uint8) for size in (n, queries))
    return {"random": (codes, asked)}


def trained_like_codes(n: int, queries: int) -> dict[str, tuple[Any, Any]]:
    """Return codes of clustered vectors, with near queries (pictures) and far ones (texts)."""
    random = np.random.default_rng(1)
    scale = (1 / np.sqrt(np.arange(1, 65))).astype(np.float32)
    planes = random.standard_normal((64, 128), dtype=np.float32)
    centres = random.standard_normal((max(10, n // 300), 64), dtype=np.float32) * scale

    def pack(vectors: Any) -> Any:
        return np.packbits(vectors @ planes > 0, axis=1)

    def members(size: int, spread: float) -> Any:
        chosen = centres[random.integers(0, len(centres), size)]
        return chosen + spread * scale * random.standard_normal((size, 64), dtype=np.float32)

    codes = np.concatenate([pack(members(min(100_000, n - at), 0.35)) for at in range(0, n, 100_000)])
    pictures = pack(members(queries, 0.35))
    texts = pack(members(queries, 1.0))
    return {"trained-like, picture": (codes, pictures), "trained-like, text": (codes, texts)}


def index_codes(folder: Path, queries: int) -> dict[str, tuple[Any, Any]]:
    """Return the codes of an index, with its own pictures and its captions, if it has any, as queries."""
    from adapters.vlm_quantization.index import format as files

    manifest = files.read_manifest(folder)
    checks = files.checks_of(folder, manifest)
    both = (files.open_codes(folder, manifest, side, checks)[:] for side in files.SIDES)
    codes, captions = map(np.asarray, both)
    sides = {"picture": codes, "text": captions}
    random = np.random.default_rng(2)
    return {
        f"index {manifest.name}, {name}": (codes, side[random.integers(0, len(side), queries)])
        for name, side in sides.items()
        if len(side)
    }


def data(sizes: list[int], indexes: list[Path], queries: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of each set of codes, its codes and its queries, one set in memory at a time."""
    for size in sizes:
        for make in (random_codes, trained_like_codes):
            for name, (codes, asked) in make(size, queries).items():
                yield name, codes, asked
    for folder in indexes:
        for name, (codes, asked) in index_codes(folder, queries).items():
            yield name, codes, asked


def engines(codes: Any, bits: int, graphs: bool) -> Iterator[tuple[str, Search]]:
    """Yield the searches of one length; the first is the measure of the others."""
    try:
        import faiss
        from usearch.index import MetricKind
        from usearch.index import search as exact
    except ImportError as error:
        raise SystemExit(f'{error.name} is missing: pip install -e ".[bench]"') from None

    from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes

    faiss.omp_set_num_threads(1)
    width = bits // 8
    part = np.ascontiguousarray(codes[:, :width])
    flat = faiss.IndexBinaryFlat(bits)
    flat.add(part)

    def by_faiss(index: Any) -> Search:
        def search(query: Any) -> tuple[Any, Any]:
            distances, rows = index.search(np.ascontiguousarray(query[None, :width]), K)
            return rows[0], distances[0]

        return search

    yield FLAT, by_faiss(flat)
    ours = PrefixCodes(codes, engine="numba")
    yield ALONE, lambda query: ours.search(query, bits=bits, k=K)
    numpy = PrefixCodes(codes, engine="numpy")
    yield "ours, numpy", lambda query: numpy.search(query, bits=bits, k=K)
    if graphs and bits >= 64:
        multi = faiss.IndexBinaryMultiHash(bits, bits // 16, 16)
        multi.nflip = 1
        multi.add(part)
        yield "faiss MultiHash", by_faiss(multi)
        graph = faiss.IndexBinaryHNSW(bits, 16)
        graph.hnsw.efSearch = 64
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        graph.add(part)
        faiss.omp_set_num_threads(1)
        yield "faiss HNSW", by_faiss(graph)
    if graphs:

        def usearch(query: Any) -> tuple[Any, Any]:
            found = exact(part, query[None, :width], K, MetricKind.Hamming, exact=True, threads=1)
            return found.keys.ravel(), found.distances.ravel()

        yield "usearch exact", usearch


def timed(clock: Callable[[], float], call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call took, and its result."""
    start = clock()
    result = call()
    return clock() - start, result


def measured(name: str, codes: Any, queries: Any, bits: int, graphs: bool) -> Iterator[Row]:
    """Yield a row per engine, and those of a batch and of two threads."""
    from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes

    searches = dict(engines(codes, bits, graphs))
    seconds: dict[str, list[float]] = {engine: [] for engine in searches}
    found: dict[str, list[float]] = {engine: [] for engine in searches}
    for query in queries[:2]:  # loads what is loaded lazily
        for search in searches.values():
            search(query)
    for query in queries:
        nearest = None
        for engine, search in searches.items():
            took, (_, distances) = timed(time.thread_time, lambda search=search, query=query: search(query))
            seconds[engine].append(took)
            distances = np.sort(np.asarray(distances, np.int64))
            nearest = distances if nearest is None else nearest
            distances = distances[distances >= 0]
            found[engine].append(np.mean(nearest[: len(distances)] == distances) * len(distances) / K)
    flat = np.array(next(iter(seconds.values())))

    def row(engine: str, times: Any, measure: Any, recall: float = 1.0) -> Row:
        ratio = np.asarray(times) / measure
        return Row(
            name, len(codes), bits, engine, float(np.median(times)) * 1e3,
            *map(float, np.percentile(ratio, (50, 25, 75))), recall,
        )  # fmt: skip

    for engine, times in seconds.items():
        yield row(engine, times, flat, float(np.mean(found[engine])))
    ours = PrefixCodes(codes, engine="numba")
    batch = np.resize(queries, (64, 16))
    took = [
        timed(time.thread_time, lambda: ours.search_many(batch, bits=bits, k=K))[0] / 64 for _ in range(5)
    ]
    yield row("ours, 64 at once", took, np.median(flat))
    clocks: dict[int, list[float]] = {1: [], 2: []}
    for query in queries:
        for threads, times in clocks.items():
            call = lambda query=query, threads=threads: ours.search(query, bits=bits, k=K, threads=threads)  # noqa: E731
            times.append(timed(time.perf_counter, call)[0])
    yield row(TWO, clocks[2], np.array(clocks[1]))


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| codes | items | bits | engine | ms | ratio | quartiles | recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.codes} | {row.items:,} | {row.bits} | {row.engine} | {row.median_ms:.3f} | "
        f"{row.ratio:.3f} | {row.low:.3f} to {row.high:.3f} | {row.recall:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def leave(workspace: str, rows: list[Row]) -> list[int]:
    """Log a run per engine, with its ratios as metrics and the whole table beside them; return their ids.

    A metric is named ``codes/items/bits/what``, for example ``random/1000000/32 bits/ratio``; what is the
    median ``ratio``, its quartiles ``ratio 25 %`` and ``ratio 75 %``, and ``recall``. Two threads are
    measured by one, so their ratios have another name, ``two threads beside one``.
    """
    import workbench as wb

    versions = {}
    for package in ("faiss-cpu", "numba", "numpy", "usearch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    ids = []
    for engine in dict.fromkeys(row.engine for row in rows):
        settings = {**versions, "k": K, "measure": ALONE if engine == TWO else FLAT}
        ratio = "two threads beside one" if engine == TWO else "ratio"  # another measure, in a row of its own
        better = {f"*/{ratio}*": "lower", "*/recall": "higher"}
        with wb.Workspace(workspace).start_run("code search", engine, settings, better=better) as run:
            for row in rows:
                if row.engine == engine:
                    place = f"{row.codes}/{row.items}/{row.bits} bits"
                    run.log(
                        {
                            f"{place}/{ratio}": row.ratio,
                            f"{place}/{ratio} 25 %": row.low,
                            f"{place}/{ratio} 75 %": row.high,
                            f"{place}/recall": row.recall,
                        }
                    )
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "scale.md"
                path.write_text(table(rows) + "\n", encoding="utf-8")
                run.log_artifact("scale.md", path)
        ids.append(run.id)
    return ids


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100,000 codes and few queries")
    parser.add_argument("--items", type=float, nargs="*", help="numbers of codes (default: 1e6 1e7)")
    parser.add_argument("--bits", type=int, nargs="*", default=list(LENGTHS), help="code lengths")
    parser.add_argument("--queries", type=int, default=41, help="queries of each measurement (default 41)")
    parser.add_argument("--exact-only", action="store_true", help="leave out graphs, MultiHash and usearch")
    parser.add_argument(
        "--index", type=Path, action="append", default=[], help="an index's folder; repeatable"
    )
    parser.add_argument("--workspace", help="also leave the table as runs in this workspace")
    given = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    sizes = [int(size) for size in given.items or ([1e5] if given.quick else [1e6, 1e7])]
    queries = 7 if given.quick else given.queries
    rows: list[Row] = []
    print(table([]))
    for name, codes, asked in data(sizes, given.index, queries):
        for bits in given.bits:
            graphs = not given.exact_only and len(codes) <= 1_000_000
            new = list(measured(name, codes, asked, bits, graphs))
            print("\n".join(table(new).splitlines()[2:]), flush=True)
            rows += new
    if given.workspace:
        ids = leave(given.workspace, rows)
        print(f"runs {', '.join(map(str, ids))} in {given.workspace}")
        print(f"in a notebook: wb.panels.ComparePanel(wb.Workspace({given.workspace!r}), runs={ids})")


if __name__ == "__main__":
    main()
