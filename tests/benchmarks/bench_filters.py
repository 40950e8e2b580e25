"""What a filter costs: the first query with it, the next one, and the search among what it leaves.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_filters.py [--items 1000000] [--json]

Synthetic pictures, each with one or two captions, and as many captions. Times are of the process (CPU), the
median of some calls, so that what else runs on the machine counts less. Searches are of 16 and 128 bits, top
10, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.blocks import CheckedFile
from adapters.vlm_quantization.index.items import ItemFile
from adapters.vlm_quantization.index.writer import IndexWriter
from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes
from adapters.vlm_quantization.search.filters import ItemFilters

CUTS = (8, 16, 32, 64, 128)
WORDS = (
    "red",
    "blue",
    "heart",
    "dog",
    "cat",
    "tree",
    "house",
    "rain",
    "star",
    "moon",
    "강아지",
    "하트",
    "나무",
)

#: Filters from all items to one, and those that a text must be looked for in, or the other side for.
FILTERS = {
    "images": (
        "style:*",
        "label:l0",
        "label:(l1, l2, l3) and not style:s0",
        "label:l0 and split:val",
        "language:ko",
        "size>90000",
        "caption:heart",
        'caption:"red heart"',
        "id:{middle}",
        "path:f0001*",
    ),
    "captions": ("language:ko", "caption:heart", "label:l99", "label:l0"),
}


def pictures(start: int, count: int) -> Iterator[dict[str, Any]]:
    for n in range(start, start + count):
        one, other = WORDS[n % len(WORDS)], WORDS[n // 7 % len(WORDS)]
        yield {
            "id": f"p{n:010d}",
            "concept": f"c{n:010d}",
            "caption": f"{one} {other} {n}",
            "subtitle": "",
            "captions": {"en": [f"{one} {other} {n}"], **({"ko": [f"{other} {n}"]} if n % 2 else {})},
            "labels": [f"l{n * 7919 % 100}", *([f"l{n % 10}"] if n % 3 else [])],
            "style": f"s{n % 4}",
            "group": f"g{n % 30}",
            "split": "val" if n % 50 == 0 else "train",
            "flag": False,
            "path": f"f{n // 1000:04d}/{n}.jpg",
            "file": [n % 100_000, n * 10**9],
        }


def captions(start: int, count: int) -> Iterator[dict[str, Any]]:
    for picture in pictures(start, count):
        yield {
            "id": f"{picture['concept']}:en:0",
            "concept": picture["concept"],
            "caption": picture["caption"],
            "subtitle": "",
            "language": "ko" if picture["id"].endswith(("1", "3")) else "en",
        }


def write(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    with IndexWriter(folder, CUTS, 8, features="none") as writer:
        for start in range(0, count, 50_000):
            some = min(50_000, count - start)
            codes = random.integers(0, 256, (some, 16), dtype=np.uint8)
            writer.add("images", [*pictures(start, some)], codes, None, [b"x"] * some)
            writer.add("captions", [*captions(start, some)], codes, None)
        writer.finish()


def cpu_ms(call: Callable[[], Any], times: int = 5) -> float:
    spent = []
    for _ in range(times):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return statistics.median(spent) * 1e3


def measure(folder: Path, count: int) -> list[dict[str, Any]]:
    opened = {
        side: ItemFile(CheckedFile(folder / files.items_file(side)), side, count)
        for side in ("images", "captions")
    }
    random = np.random.default_rng(1)
    codes = PrefixCodes(random.integers(0, 256, (count, 16), dtype=np.uint8), engine="numba")
    query = random.integers(0, 256, 16, dtype=np.uint8)
    codes.search(query, bits=128, k=10)
    rows = []
    for side, texts in FILTERS.items():
        for text in ("", *texts):
            text = text.format(middle=f"p{count // 2:010d}")
            row: dict[str, Any] = {"side": side, "filter": text, "left": count}
            chosen = None
            if text:
                row["first_ms"] = cpu_ms(lambda: ItemFilters(opened).chosen(text, side), 3)  # noqa: B023
                kept = ItemFilters(opened)
                chosen = kept.chosen(text, side)
                assert chosen is not None
                row["left"] = chosen.count
                row["again_ms"] = cpu_ms(lambda: kept.chosen(text, side))  # noqa: B023
            among = None if chosen is None else chosen.among
            for bits in (16, 128):
                call = lambda: codes.search(query, bits=bits, k=10, among=among)  # noqa: B023, E731
                call()
                row[f"search_{bits}_ms"] = cpu_ms(call, 15)
            rows.append(row)
    start = time.process_time()
    ItemFilters(opened).describe()
    rows.append({"filter": "(suggestions)", "first_ms": (time.process_time() - start) * 1e3})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.items)
        rows = measure(Path(folder), args.items)
    if args.json:
        print(json.dumps({"items": args.items, "rows": rows}, ensure_ascii=False))
        return 0
    names = ("first_ms", "again_ms", "search_16_ms", "search_128_ms")
    print(f"{args.items:,} items; CPU ms\n{'filter':42} {'left':>10} " + " ".join(f"{n:>13}" for n in names))
    for row in rows:
        numbers = " ".join(f"{row[name]:13.2f}" if name in row else " " * 13 for name in names)
        what = f"{row['filter'] or '(none)'} [{row.get('side', '')}]"
        print(f"{what:42} {row.get('left', ''):>10} {numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
