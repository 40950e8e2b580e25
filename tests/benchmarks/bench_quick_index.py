"""A folder of photographs that becomes searchable with one command: time and memory.

::

    python tests/benchmarks/bench_quick_index.py [--pictures 10000] [--encoder packaged] [--out FOLDER]

It writes JPEG pictures of 640 × 480 pixels, without captions, then runs ``workbench index`` on them as a user
does, and prints seconds, pictures per second, and the most memory of the job's processes at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

#: Seconds between two looks at the memory.
EVERY = 0.5


def write_photographs(folder: Path, n: int) -> None:
    """Write pictures that compress like photographs: smooth colours, edges, and some grain."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    grain = random.integers(-9, 10, (480, 640, 3), dtype=np.int16)
    for number in range(n):
        path = folder / f"{number // 1000:03d}" / f"IMG_{number:05d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC), np.int16)
        x, y = random.integers(0, 400, 2)
        smooth = smooth.copy()
        smooth[y : y + 80, x : x + 200] += random.integers(-80, 80, 3, dtype=np.int16)
        pixels = np.clip(smooth + np.roll(grain, number, axis=1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, "JPEG", quality=88)


def resident(session: int) -> int:
    """Return the proportional memory, in bytes, of the processes below one, itself included."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, waiting = 0, [session]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration, ValueError):
            continue
    return total


def main() -> None:
    """Measure one build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--encoder", default="packaged")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir(), "bench-quick-index"))
    args = parser.parse_args()
    photographs = args.out / "photographs"
    started = time.perf_counter()
    write_photographs(photographs, args.pictures)
    print(f"{args.pictures:,} photographs written in {time.perf_counter() - started:.0f} s")
    workspace = args.out / f"results-{os.getpid()}"
    workbench = [sys.executable, "-m", "workbench.cli", "--workspace", str(workspace)]
    command = [*workbench, "index", str(photographs), "--name", "photos", "--encoder", args.encoder, "--json"]
    # A worker of its own, so that the job is below this process.
    worker = subprocess.Popen([*workbench, "worker"], stderr=subprocess.DEVNULL)
    most = 0
    started = time.perf_counter()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
            while job.poll() is None:
                most = max(most, resident(worker.pid))
                time.sleep(EVERY)
            assert job.stdout is not None
            document = json.loads(job.stdout.read())
    finally:
        worker.terminate()
        worker.wait()
    seconds = time.perf_counter() - started
    print(json.dumps({**document, "summary": document.get("summary")}, ensure_ascii=False))
    print(
        f"{seconds:.0f} s, {args.pictures / seconds:.1f} pictures/s, at most {most / 2**20:,.0f} MiB "
        f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)"
    )


if __name__ == "__main__":
    main()
