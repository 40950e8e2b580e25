"""Time and memory of ``workbench data check`` on 100,000 small pictures.

    python tests/benchmarks/bench_data_check.py [--count 100000]

The script makes the pictures, with one JSONL line each, in 100 folders, which takes longer than checking.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from adapters.vlm_quantization.data.check import check_collection


def png(pixels: np.ndarray) -> bytes:
    """Encode RGB pixels without Pillow, which is slower for many small pictures."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 1)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def make(folder: Path, count: int) -> Path:
    """Write pictures, every hundredth a copy of the one before, and their listing."""
    random = np.random.default_rng(0)
    listing = folder / "list.jsonl"
    with listing.open("w") as lines:
        data = b""
        for number in range(count):
            if number % 100 or not data:
                coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                data = png(coarse.repeat(8, 0).repeat(8, 1))
            name = f"{number % 100:02}/{number}.png"
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
            split = ("train", "val", "test")[number % 3]
            lines.write(
                json.dumps({"image": name, "captions": {"en": [f"picture number {number}"]}, "split": split})
                + "\n"
            )
    return listing


def main() -> None:
    """Make the pictures, check them twice as a folder and as a listing, and print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        listing = make(folder, args.count)
        print(f"made {args.count:,} pictures in {time.perf_counter() - started:.0f} s")
        for what, source in (("folder", folder), ("JSONL with captions and splits", listing)):
            started, cpu = time.perf_counter(), time.process_time()
            result = check_collection(str(source), folder / "out")
            seconds, busy = time.perf_counter() - started, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{what}: {seconds:.1f} s ({busy:.1f} s of CPU), peak {peak:.0f} MiB; {result.summary}")
            print("  ", {name: value for name, value in result.metrics.items() if value})


if __name__ == "__main__":
    main()
