"""An index built on a GPU: pictures per second beside the bare network, codes beside the CPU's, and memory.

Prepared to run once, in at most six minutes, on a machine with an NVIDIA GPU, this repository, and the extras
``demo`` and ``transformers``; it needs no network, since the weights are random::

    python tests/benchmarks/gpu_build.py --device cuda

It was not tried on a GPU so far. With ``--device cpu --encoder FOLDER --pictures 48`` it runs anywhere, which
tests do. It prints one line of JSON:

- ``bare`` and ``pass``: pictures per second of the network alone on ready inputs, and of a pass that begins
  with JPEG files, in turn (see ``bench_overlap.py``); ``found``: of a pass that finds its batch size itself.
- ``build``: pictures per second of the whole index, from the files to the published folder.
- ``parity``: bits that differ between codes of this device and of the CPU, and the lowest cosine.
- ``peak``: most bytes of the GPU's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, where it is not installed

from bench_overlap import compare, open_tower
from bench_quick_index import write_photographs

from adapters.vlm_quantization.data.pictures import decode_picture
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.fitted import fit_codes
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.one_pass import OnePass
from adapters.vlm_quantization.towers.features import Encoding, picture_features
from adapters.vlm_quantization.towers.pair import EncoderPair

#: Seconds after which no further step begins.
LIMIT = 300


def build(tower: Any, pair: EncoderPair, photographs: Path, folder: Path) -> tuple[dict[str, Any], Any]:
    """Index the photographs as ``workbench index`` does, and return what that took, and the codes."""
    cache = folder / "cache"
    words: list[str] = []
    started = time.perf_counter()
    with OnePass(tower, cache, Encoding(say=words.append)) as one:
        collection = open_collection(photographs, cache_dir=cache, onlooker=one)
        one.fill(collection)
    passed = time.perf_counter() - started
    features = picture_features(collection, tower, cache)
    file = folder / "fitted.safetensors"
    encoder = fit_codes(file, pair, features, method="itq", texts=(), data=collection.fingerprint, seed=0)
    known, encoding = one.known(collection), KnownPictures(encoder)
    report = build_index(folder / "indexes", known, encoding, name="gpu", model_file=file, captions=False)
    seconds = time.perf_counter() - started
    about = {
        "pictures": report.images,
        "found, pictures/s": round(report.images / passed, 1),
        "said": words,
        "build, pictures/s": round(report.images / seconds, 1),
        "build, seconds": round(seconds, 1),
    }
    return about, encoder


def parity(tower: Any, encoder: Any, files: list[Path], device: str) -> dict[str, Any]:
    """Encode some pictures on this device and on the CPU; return how far codes and features are apart."""
    pictures = [decode_picture(path) for path in files]
    here = tower.features(pictures)
    tower.device = "cpu"
    there = tower.features(pictures)
    tower.device = device
    one, other = (encoder.encode_features(features).codes for features in (here, there))
    differ = int(np.unpackbits(one ^ other).sum())
    cosines = (here * there).sum(1) / (np.linalg.norm(here, axis=1) * np.linalg.norm(there, axis=1))
    return {
        "pictures": len(files),
        "bits that differ": differ,
        "of bits": 8 * one.size,
        "lowest cosine": float(cosines.min()),
        "largest difference": float(np.abs(here - there).max()),
    }


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Measure, print a line of JSON, and return it."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--encoder", default="siglip")
    parser.add_argument("--pictures", type=int, default=4_000)
    parser.add_argument("--batch-size", type=int, default=128, help="of the comparison with the bare network")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compared", type=int, default=64, help="pictures that the CPU encodes too")
    args = parser.parse_args(words)
    started = time.perf_counter()
    cuda = args.device.startswith("cuda")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(0) if cuda else args.device,
        "encoder": args.encoder,
        "torch": torch.__version__,
        "processors": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = folder / "photographs"
        write_photographs(photographs, args.pictures)
        tower = open_tower(args.encoder, folder)
        tower.device = args.device
        pair = EncoderPair(str(folder / "siglip") if args.encoder == "siglip" else args.encoder, tower)
        tower.features([decode_picture(next(photographs.rglob("*.jpg")))])  # loads the network
        found["build"], encoder = build(tower, pair, photographs, folder)
        files = sorted(photographs.rglob("*.jpg"))
        found["parity"] = parity(tower, encoder, files[: args.compared], args.device)
        if time.perf_counter() - started < LIMIT:
            few = folder / "few"
            few.mkdir()
            for path in files[: 8 * args.batch_size]:
                (few / path.name).hardlink_to(path)
            found["overlap"] = compare(tower, few, folder, args.batch_size, args.rounds)
        if cuda:
            found["peak, MiB"] = round(torch.cuda.max_memory_allocated() / 2**20)
    found["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
