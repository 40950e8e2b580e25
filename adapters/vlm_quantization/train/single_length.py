"""Codes trained for a single length, to measure what nesting five lengths in one code may cost at each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization import options as schemas
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from workbench import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.towers.tower import TextTower
    from adapters.vlm_quantization.train.picture_views import ViewFeatures


#: Name in the report.
NAME = "separately trained"


WORDS = "a separate model for each length, trained like the nested one but for that length alone"


class _Keeper:
    """Stands in for a run: saves checkpoints to a temporary folder and ignores metrics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Ignore metrics."""

    def log_checkpoint(self, name: str, path: Path) -> Path:
        """Save a copy of a file under a name."""
        return Path(shutil.copyfile(path, self.folder / name))


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that are options; others record what it was made of."""
    known = {*schemas.TrainOptions.model_fields, schemas.OLD_ENCODER}
    return {name: value for name, value in config.items() if name in known}


def train_single_lengths(
    collection: CaptionedImages,
    splits: Splits,
    features: NDArray[np.float32],
    tower: str,
    config: Mapping[str, Any],
    progress: OnProgress,
    texts: TextTower | None = None,
    views: ViewFeatures | None = None,
) -> dict[int, HashEncoder]:
    """Train one model per code length with the options of a run, and return the best checkpoint of each.

    Parameters
    ----------
    collection, splits, features, tower, texts, views
        As for :func:`adapters.vlm_quantization.train.train.train`.
    config : mapping
        Options of the run whose nested code they are compared with.
    progress : callable
        ``progress(done, total, message)``.

    Returns
    -------
    dict of int to HashEncoder
        By length; the code is the first ``length`` bits of the encoder's codes.
    """
    from adapters.vlm_quantization.encoding import checkpoint
    from adapters.vlm_quantization.train import train

    out = {}
    for done, length in enumerate(CODE_LENGTHS):
        options = schemas.TrainOptions.model_validate(
            # runs of before there were text towers have n-grams alone
            {
                "text_tower": "ngrams",
                **_options(config),
                # on the same features as the nested code, which a tuned encoder gives
                **{"lengths": (length,), "refit_steps": 0, "seeds": (), "tune": "heads", "resume": None},
            }
        )

        def report(
            step: float, total: float | None, message: str, done: int = done, length: int = length
        ) -> None:
            progress(done + step / (total or 1), len(CODE_LENGTHS), f"{length} bits alone: {message}")

        with tempfile.TemporaryDirectory() as folder:
            keeper = _Keeper(Path(folder))
            train.train(collection, splits, features, tower, options, keeper, report, texts, views)
            best = keeper.folder / checkpoint.BEST
            if not best.is_file():
                raise BadInput(
                    f"training for {length} bits alone produced no checkpoint",
                    hint="Increase the number of steps.",
                )
            out[length] = HashEncoder.load(best)
    return out
