"""How well photographs that were not trained on are found: Tux Paint's, five seeds, beside chance.

Two trainings per seed, with the demo's settings: on photographs alone, and on photographs with the emoji
beside them. Each is measured on about a sixth of the photographs, drawn by the seed, whose captions were in
no training, though an emoji may have the same name). From the repository, with the package of the stamps::

    apt-get install tuxpaint-stamps-default
    .venv/bin/python tests/benchmarks/bench_photographs.py --seeds 5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.encoding import checkpoint
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.evaluate.subject import FromFeatures
from adapters.vlm_quantization.evaluate.tasks import Part, tasks
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.uncertainty import over_seeds
from adapters.vlm_quantization.options import EvalOptions, TrainOptions
from adapters.vlm_quantization.towers.features import picture_features, remembered_texts
from adapters.vlm_quantization.towers.registry import image_name, image_tower, text_tower
from adapters.vlm_quantization.train import train

PHOTOGRAPHS = "stamps?photographs=yes"


class Folder:
    """Stands in for a run: keeps checkpoints and ignores metrics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, metrics: Any, step: int) -> None:
        """Ignore metrics."""

    def log_checkpoint(self, name: str, path: Path) -> Path:
        """Keep a checkpoint."""
        target = self.folder / name
        target.write_bytes(path.read_bytes())
        return target


def measure(source: str, seeds: int, cache: Path) -> dict[str, list[float]]:
    """Return R@10 on held-out photographs by name, one value per seed of split and training."""
    collection = open_collection(source, cache_dir=cache)
    photographs = {item.digest for item in open_collection(PHOTOGRAPHS, cache_dir=cache).items}
    shown = np.array([item.digest in photographs for item in collection.items])
    tower = image_tower(image_name(TrainOptions().encoder))
    features = picture_features(collection, tower, cache)
    out: dict[str, list[float]] = {}
    for seed in range(seeds):
        options = TrainOptions(seed=seed, split_seed=seed, refit_steps=0)
        splits = make_splits(collection, seed)
        check_leakage(collection, splits)
        frozen = train.frozen_texts(options)
        texts = remembered_texts(collection, text_tower(frozen), cache) if frozen else None
        with tempfile.TemporaryDirectory() as folder:
            run = Folder(Path(folder))
            train.train(collection, splits, features, tower.fingerprint, options, run, lambda *_: None, texts)
            encoder = HashEncoder.load(Path(folder) / checkpoint.BEST)
        rows = splits.test_concepts[shown[splits.test_concepts]]
        part = Part("photographs", "held-out photographs", rows, rows)
        subject = FromFeatures(encoder, features)
        chosen = EvalOptions(directions=("t2i", "i2t"))
        for task in tasks(collection, [part], subject, chosen):
            codes = evaluate_codes(task.queries.codes, task.gallery.codes, task.relevance, ks=(10,))
            floats = evaluate_scores(task.queries.features, task.gallery.features, task.relevance, ks=(10,))
            for record in (*codes, *floats):
                if record.name == "R@10":
                    name = f"{task.direction} {task.language} {record.bits or 'float'}"
                    out.setdefault(name, []).append(record.value)
        out.setdefault("pictures", []).append(len(rows))
        out.setdefault("chance", []).append(10 / len(rows))
        print(f"  {source}: seed {seed}, {len(rows)} held-out photographs", flush=True)
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "bench-photographs")
    given = parser.parse_args()
    found = {
        source: measure(source, given.seeds, given.cache)
        for source in (PHOTOGRAPHS, f"emoji + {PHOTOGRAPHS}")
    }
    print("| R@10 | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
    for name in next(iter(found.values())):
        cells = []
        for values in found.values():
            mean, half = over_seeds(values[name])
            cells.append(f"{mean:.3f} ± {half:.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
