"""Which codes find more photographs without a training on them: a run's of other pictures, or fitted ones.

``workbench index`` with ``codes=auto`` chooses between them. Models trained on the emoji with the demo's
settings (their refit, which an index gets) are compared with ITQ and signs of principal components, fitted to
the photographs themselves, on Tux Paint's photographs: picture to picture by label, the picture itself left
out, and text to picture by caption. From the repository, with the package of the stamps::

    apt-get install tuxpaint-stamps-default
    .venv/bin/python tests/benchmarks/bench_quick_codes.py --seeds 3
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench_photographs import PHOTOGRAPHS, Folder

from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.encoding import checkpoint
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.encoding.fitted import FittedEncoder, fit_codes
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes
from adapters.vlm_quantization.metrics.relevance import Relevance, SameItem, SharedLabel
from adapters.vlm_quantization.options import TrainOptions
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.features import picture_features, remembered_texts
from adapters.vlm_quantization.train import train


def trained(seeds: int, cache: Path, folder: Path) -> list[HashEncoder]:
    """Return models trained on the emoji, one per seed."""
    emoji = open_collection("emoji", cache_dir=cache)
    tower = registry.image_tower(registry.image_name(TrainOptions().encoder))
    features = picture_features(emoji, tower, cache)
    out = []
    for seed in range(seeds):
        options = TrainOptions(seed=seed)
        texts = remembered_texts(emoji, registry.text_tower(train.frozen_texts(options)), cache)
        kept = folder / str(seed)
        kept.mkdir()
        run = Folder(kept)
        splits = make_splits(emoji, options.split_seed)
        train.train(emoji, splits, features, tower.fingerprint, options, run, lambda *_: None, texts)
        out.append(HashEncoder.load(kept / checkpoint.REFIT))
        print(f"  trained on the emoji with seed {seed}", flush=True)
    return out


def measure(
    model: HashEncoder | FittedEncoder, collection: CaptionedImages, features: Any
) -> dict[str, float]:
    """Return R@10 and P@10 of picture to picture and of text to picture, by name."""
    codes = model.encode_features(features).codes
    labels = sorted({label for item in collection.items for label in item.labels})
    table = np.array([[label in item.labels for label in labels] for item in collection.items])
    out = {}

    def add(name: str, queries: Any, relevance: Relevance, **more: Any) -> None:
        for record in evaluate_codes(queries, codes, relevance, ks=(10,), **more):
            if record.name in ("P@10", "R@10", "mAP"):
                out[f"{name} {record.name} {record.bits}"] = record.value

    add("picture to picture", codes, SharedLabel(table, table), itself=np.arange(len(codes)))
    if isinstance(model, HashEncoder):
        every = range(len(collection))
        for language in collection.languages:
            asked = collection.captions(every, language)
            relevance = SameItem([one.concept for one in asked], [item.concept for item in collection.items])
            texts = model.encode_texts([one.text for one in asked]).codes
            add(f"text to picture, {language},", texts, relevance)
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--source", default=PHOTOGRAPHS)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "bench-photographs")
    given = parser.parse_args()
    collection = open_collection(given.source, cache_dir=given.cache)
    pair = registry.encoder_pair(TrainOptions().encoder)
    features = picture_features(collection, pair.image, given.cache)
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, list[dict[str, float]]] = {}
        for method in ("itq", "sign"):
            for seed in range(given.seeds):
                file = Path(folder) / f"{method}-{seed}.safetensors"
                fitted = fit_codes(file, pair, features, method=method, seed=seed)
                found.setdefault(method, []).append(measure(fitted, collection, features))
        for model in trained(given.seeds, given.cache, Path(folder)):
            found.setdefault("trained on emoji", []).append(measure(model, collection, features))
    print(f"{given.source}: {len(collection)} pictures; chance of text to picture {10 / len(collection):.3f}")
    print("| | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
    for name in dict.fromkeys(name for each in found.values() for one in each for name in one):
        cells = []
        for each in found.values():
            values = [one[name] for one in each if name in one]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})" if values else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
