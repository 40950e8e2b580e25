"""Peak memory of a streamed index build, at two numbers of items: it must not grow with them.

::

    python tests/benchmarks/bench_build_memory.py [--sizes 20000 200000] [--once]

Each size is built in a process of its own: lines with two captions each are joined and sorted through files,
their shards are written and merged, and once more with a tenth of the items renamed. Pictures are not decoded
and codes are drawn at random by content, so that only the build itself is measured. Without a size it builds
both and prints a line each: items, seconds, processor seconds, peak resident memory in MB.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.data import streaming
from adapters.vlm_quantization.data.collection import Item, UnusableLine
from adapters.vlm_quantization.data.jsonl import caption_key
from adapters.vlm_quantization.data.streaming import ReadLine, Streaming
from adapters.vlm_quantization.encoding.known_pictures import KnownPicture
from adapters.vlm_quantization.index.build import build_index

DIM = 64


class Drawn:
    """An encoder whose features are drawn by content."""

    bits, dim, name, fingerprint = CODE_LENGTHS, DIM, "drawn", "d" * 64

    def __init__(self) -> None:
        self._planes = np.random.default_rng(0).standard_normal((DIM, CODE_BITS))

    def encode_images(self, images: Sequence[Any]) -> Encoded:
        """Encode what stands for pictures."""
        return self._encoded([image.features for image in images])

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts."""
        return self._encoded([drawn(text) for text in texts])

    def _encoded(self, features: Sequence[Any]) -> Encoded:
        rows = np.stack(features)
        return Encoded(pack_codes(rows @ self._planes >= 0), rows)


def drawn(text: str) -> Any:
    """Return features of unit norm by the digest of a text."""
    seed = np.frombuffer(hashlib.sha512(text.encode()).digest(), np.uint8).astype(np.float32) - 127.5
    return seed / np.linalg.norm(seed)


class Pictures:
    """Stands for a collection whose pictures are known."""

    def __init__(self, collection: Any) -> None:
        self.name, self.credits, self.languages = collection.name, (), collection.languages
        self.fingerprint, self.items = collection.fingerprint, collection.items

    def open(self, i: int) -> Any:
        """Return what is known of a picture."""
        return KnownPicture(drawn(self.items[i].digest), b"thumbnail" * 100)


def lines(count: int, renamed: int) -> Iterator[ReadLine | UnusableLine]:
    """Yield lines; each thousandth is not valid, and each hundredth lists the picture before it again."""
    for number in range(count):
        if number % 1000 == 999:
            yield UnusableLine(number, "not valid")
            continue
        picture = number - (number % 100 == 50)
        name = f"{'renamed' if picture < renamed else 'picture'}-{picture:09d}.jpg"
        captions = {"en": (f"a thing of kind {number}",), "ko": (f"물건 {number % 1000}",)}
        digest = hashlib.sha256(str(picture).encode()).hexdigest()
        item = Item(name, name, captions, Path("/photos", name), digest=digest)
        yield ReadLine(number, name, item)


def measure(count: int, once: bool) -> None:
    """Build twice, or once, and print a line."""
    streaming.each_decoded = passed  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        for renamed in (0,) if once else (0, count // 10):
            steps = Streaming(folder, folder / "x", None, None, decode=False, concept_key=caption_key)
            collection = Pictures(steps.read("many", lines(count, renamed)))
            report = build_index(folder / "indexes", collection, Drawn(), name="many")  # type: ignore[arg-type]
            print(f"{report.images:,} pictures, {report.captions:,} captions, {report.reused:,} copied")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds, used = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
        peak = f"peak {usage.ru_maxrss / 1024:,.0f} MB"
        print(f"{count:,} lines: {seconds:,.0f} s, {used:,.0f} s of the processor, {peak}", flush=True)


def passed(items: Any, *_: Any, **__: Any) -> Iterator[tuple[int, Item]]:
    """Pass items on as if their pictures had been decoded."""
    for number, item in items:
        yield number, replace(item)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--one", type=int)
    parser.add_argument("--once", action="store_true", help="do not build a second time")
    args = parser.parse_args()
    if args.one:
        measure(args.one, args.once)
    else:
        for size in args.sizes:
            once = ["--once"] * args.once
            subprocess.run([sys.executable, __file__, "--one", str(size), *once], check=True)
