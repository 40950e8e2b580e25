"""How long an evaluation takes, beside the loop the field uses and beside torchmetrics; nothing is asserted.

    python tests/benchmarks/bench_evaluation.py            # all cases, each in a process of its own
    python tests/benchmarks/bench_evaluation.py --quick    # a tenth of the queries, to see that it runs

The loop is the field's: for each query all distances by a product of signs, a full sort, and the precision at
each relevant place; a length at a time. It is written here from that definition. torchmetrics is measured
where it is installed (``pip install torchmetrics``), on a hundredth of the queries, and scaled.

Times are processor time of the process on one thread, which other processes on the machine disturb less; ours
are medians of several runs. The compiled count is loaded before. That takes half a second of the first large
evaluation in a process, during which numpy counts, and some seconds once on a machine, to compile it.

Random codes and random multi-hot labels stand for MIRFLICKR-25K (2,000 queries, 18,015 items, 24 labels) and
for MS COCO (5,000 queries, 117,218 items, 80 labels). What is timed is independent of what the codes mean.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LENGTHS = (8, 16, 32, 64, 128)
ROOT = Path(__file__).parents[2]


def data(queries: int, gallery: int, labels: int) -> tuple[Any, Any, Any, Any]:
    """Return random codes and multi-hot labels."""
    import numpy as np

    random = np.random.default_rng(0)
    codes = [random.integers(0, 256, (n, 16), dtype=np.uint8) for n in (queries, gallery)]
    hot = [random.random((n, labels)) < 3 / labels for n in (queries, gallery)]
    return (*codes, *hot)


def field_loop(query: Any, gallery: Any, query_labels: Any, gallery_labels: Any) -> float:
    """Return mAP over the whole ranking as per-query sorting computes it, ties by row."""
    import numpy as np

    one, other = (np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1 for codes in (query, gallery))
    first, second = query_labels.astype(np.float32), gallery_labels.astype(np.float32)
    total = 0.0
    for code, label in zip(one, first, strict=True):
        relevant = second @ label > 0
        distance = (other.shape[1] - other @ code) / 2
        ranked = relevant[np.argsort(distance, kind="stable")]
        places = np.flatnonzero(ranked) + 1
        if len(places):
            total += float(np.mean(np.arange(1, len(places) + 1) / places))
    return total / len(one)


def float_loop(query: Any, gallery: Any, query_labels: Any, gallery_labels: Any) -> float:
    """Return mAP of a float ranking, which has no ties, by the same loop."""
    import numpy as np

    total = 0.0
    for vector, label in zip(query, query_labels.astype(np.float32), strict=True):
        relevant = gallery_labels.astype(np.float32) @ label > 0
        places = np.flatnonzero(relevant[np.argsort(-(gallery @ vector), kind="stable")]) + 1
        if len(places):
            total += float(np.mean(np.arange(1, len(places) + 1) / places))
    return total / len(query)


def timed(call: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Return the median seconds of processor time, and what the call returned."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        value = call()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), value


def load_compiled() -> None:
    """Load the compiled count, or compile it."""
    from adapters.vlm_quantization.neighbours import by_numba

    by_numba.prepare()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()
    if not by_numba.is_ready():
        raise SystemExit("numba cannot be loaded, and the figures are for the compiled count")


def first(records: Any, bits: int | None) -> Any:
    """Return the mAP record of a length."""
    return next(record for record in records if record.name == "mAP" and record.bits == bits)


def flickr(queries: int) -> dict[str, Any]:
    """Compare with the loop, one thread: time, and equality where it can be."""
    import numpy as np

    from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
    from adapters.vlm_quantization.metrics.relevance import SharedLabel

    codes = data(queries, 18_015, 24)
    relevance = SharedLabel(*codes[2:])
    load_compiled()
    evaluate_codes(codes[0][:8], codes[1], SharedLabel(codes[2][:8], codes[3]))  # tables are made once
    ours, records = timed(lambda: evaluate_codes(codes[0], codes[1], relevance), 5)
    by_row, ordered = timed(lambda: evaluate_codes(codes[0], codes[1], relevance, protocol="dcmh", ks=()))
    loop, values, shares = 0.0, [], []
    for length in LENGTHS:
        part = [one[:, : length // 8] for one in codes[:2]]
        seconds, value = timed(lambda part=part: field_loop(*part, *codes[2:]))
        loop += seconds
        values.append(abs(value - first(ordered, length).value))
        shares.append((first(records, length).low, value, first(records, length).high))
    random = np.random.default_rng(1)
    vectors = [random.standard_normal((len(one), 64)).astype(np.float32) for one in codes[:2]]
    vectors = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors]
    few = min(200, queries)
    float_relevance = SharedLabel(codes[2][:few], codes[3])
    float_ours, float_records = timed(
        lambda: evaluate_scores(vectors[0][:few], vectors[1], float_relevance, protocol="dcmh")
    )
    float_theirs, float_value = timed(
        lambda: float_loop(vectors[0][:few], vectors[1], codes[2][:few], codes[3])
    )
    return {
        "ours, all metrics and bounds (s)": ours,
        "ours, mAP with ties by row (s)": by_row,
        "the loop, mAP alone (s)": loop,
        "times faster": loop / ours,
        "largest difference, ties by row": max(values),
        "the loop within our bounds": all(low - 1e-9 <= v <= high + 1e-9 for low, v, high in shares),
        f"float, no ties, {few} queries: ours (s)": float_ours,
        f"float, no ties, {few} queries: the loop (s)": float_theirs,
        "float, largest difference": abs(float_value - first(float_records, None).value),
    }


def torchmetrics(queries: int) -> dict[str, Any]:
    """Time torchmetrics' average precision, a query at a time, on a hundredth of the queries."""
    try:
        import torch
        from torchmetrics.functional.retrieval import retrieval_average_precision
    except ImportError:
        return {"torchmetrics": "not installed: pip install torchmetrics"}
    torch.set_num_threads(1)
    few = max(2, queries // 100)
    codes = data(few, 18_015, 24)
    import numpy as np

    total = 0.0
    for length in LENGTHS:
        one, other = (
            torch.from_numpy(np.unpackbits(c[:, : length // 8], axis=1).astype(np.float32) * 2 - 1)
            for c in codes[:2]
        )
        hot = [torch.from_numpy(labels.astype(np.float32)) for labels in codes[2:]]
        start = time.process_time()
        for code, label in zip(one, hot[0], strict=True):
            # its scores must be above zero, or an item counts as not retrieved
            retrieval_average_precision((other @ code + length + 1), hot[1] @ label > 0)
        total += time.process_time() - start
    return {f"torchmetrics, mAP alone, scaled from {few} queries (s)": total * queries / few}


def coco(queries: int) -> dict[str, Any]:
    """Time a large gallery, five lengths, with the peak of memory."""
    from adapters.vlm_quantization.metrics.evaluator import evaluate_codes
    from adapters.vlm_quantization.metrics.relevance import SharedLabel

    codes = data(queries, 117_218, 80)
    load_compiled()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    seconds, _ = timed(lambda: evaluate_codes(codes[0], codes[1], SharedLabel(*codes[2:])), 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    alone, _ = timed(lambda: evaluate_codes(*codes[:2], SharedLabel(*codes[2:]), ks=(), radii=()), 3)
    return {
        "ours, all metrics and bounds (s)": seconds,
        "ours, mAP over the whole ranking (s)": alone,
        "memory of the process at its peak (MiB)": peak,
        "of which data and libraries (MiB)": before,
    }


def coco_float(queries: int) -> dict[str, Any]:
    """Time a cosine ranking of the same size, in chunks."""
    import numpy as np

    from adapters.vlm_quantization.metrics.evaluator import evaluate_scores
    from adapters.vlm_quantization.metrics.relevance import SharedLabel

    few = max(1, queries // 10)
    codes = data(few, 117_218, 80)
    random = np.random.default_rng(1)
    vectors = [random.standard_normal((len(one), 256), dtype=np.float32) for one in codes[:2]]
    seconds, _ = timed(lambda: evaluate_scores(*vectors, SharedLabel(*codes[2:])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {f"cosine of {few:,} queries (s)": seconds, "memory of the process at its peak (MiB)": peak}


CASES: dict[str, tuple[Callable[[int], dict[str, Any]], int, str, str]] = {
    "flickr": (flickr, 2_000, "1", "2,000 x 18,015 x 24 labels, five lengths, one thread"),
    "torchmetrics": (torchmetrics, 2_000, "1", "the same by torchmetrics, one thread"),
    "coco": (coco, 5_000, "1", "5,000 x 117,218 x 80 labels, five lengths, one thread"),
    "coco-float": (coco_float, 5_000, "1", "float features, 117,218 items of 256 components, one thread"),
}


def main() -> None:
    """Run every case in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("--quick", action="store_true", help="a tenth of the queries")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        sys.path.insert(0, str(ROOT))
        measure, queries, *_ = CASES[given.case]
        print(json.dumps(measure(queries // 10 if given.quick else queries)))
        return
    for name, (_, _, threads, title) in CASES.items():
        if given.case in (None, name):
            command = [sys.executable, __file__, name, "--inside", *(["--quick"] if given.quick else [])]
            limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
            done = subprocess.run(
                command, env={**os.environ, **limits}, capture_output=True, text=True, check=False
            )
            print(f"{title}{' (a tenth of the queries)' if given.quick else ''}")
            if done.returncode:
                print(done.stderr[-2000:])
                continue
            for what, value in json.loads(done.stdout.splitlines()[-1]).items():
                print(f"  {what:<52} {value:.3g}" if isinstance(value, float) else f"  {what:<52} {value}")


if __name__ == "__main__":
    main()
