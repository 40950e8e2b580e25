"""Short trainings on coloured shapes, with a run that is a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.features import picture_features
from adapters.vlm_quantization.train import train
from tests.adapters.vlm_quantization import shapes


class Notebook:
    """Stands in for a run: saves checkpoints to a folder and metrics to a list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def log_checkpoint(self, name: str, path: Path) -> None:
        shutil.copy(path, self.folder / name)


class Killed(Exception):
    """Stands for a process that ends at this point."""


def fit(
    folder: Path, *, kill_at: int = 0, keeper: Any = None, saved: Any = None, **changes: Any
) -> tuple[Notebook, train.Trained | None]:
    """Train; with ``kill_at``, only until the progress of that step is reported."""
    folder.mkdir(parents=True, exist_ok=True)
    options = shapes.options(**{"steps": 12, "validate_every": 4, "device": "cpu", **changes})
    collection = shapes.collection()
    tower = registry.image_tower(registry.image_name(options.encoder))
    features = picture_features(collection, tower, folder.parent)
    run = Notebook(folder)

    def progress(done: float, total: float | None = None, message: str = "") -> None:
        if kill_at and done == kill_at:
            raise Killed

    try:
        done = train.train(
            collection,
            make_splits(collection, 0),
            features,
            tower.fingerprint,
            options,
            run,
            progress,
            keeper=keeper,
            saved=saved,
        )
    except Killed:
        return run, None
    return run, done
