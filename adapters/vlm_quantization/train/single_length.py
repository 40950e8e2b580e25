"""Codes trained for one length alone: what nesting five lengths in one code may cost at each."""

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

    from adapters.vlm_quantization.data.collection import CaptionedImages, Progress
    from adapters.vlm_quantization.data.splits import Splits


#: What the report calls them.
NAME = "separately trained"


WORDS = "a model of its own for each length, trained as the nested one was, for that length alone"


class _Keeper:
    """Takes what training logs, and keeps its checkpoints in a folder that is thrown away later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take numbers of a step; nobody asks for them."""

    def log_checkpoint(self, name: str, path: Path) -> Path:
        """Keep a copy of a file under a name."""
        return Path(shutil.copyfile(path, self.folder / name))


def train_single_lengths(
    collection: CaptionedImages,
    splits: Splits,
    features: NDArray[np.float32],
    tower: str,
    config: Mapping[str, Any],
    progress: Progress,
) -> dict[int, HashEncoder]:
    """Train a model for each code length with the options of a run; return the best of each by validation.

    Parameters
    ----------
    collection, splits, features, tower
        As for :func:`adapters.vlm_quantization.train.train.train`.
    config : mapping
        Options of the run whose nested code they are to be compared with.
    progress : callable
        ``progress(done, total, message)``.

    Returns
    -------
    dict of int to HashEncoder
        The first ``length`` bits of its codes are the code.
    """
    from adapters.vlm_quantization.encoding import checkpoint
    from adapters.vlm_quantization.train import train

    out = {}
    for done, length in enumerate(CODE_LENGTHS):
        options = schemas.TrainOptions.model_validate(
            {**config, "lengths": (length,), "refit_steps": 0, "seeds": ()}
        )

        def say(
            step: float, total: float | None, message: str, done: int = done, length: int = length
        ) -> None:
            progress(done + step / (total or 1), len(CODE_LENGTHS), f"{length} bits alone: {message}")

        with tempfile.TemporaryDirectory() as folder:
            keeper = _Keeper(Path(folder))
            train.train(collection, splits, features, tower, options, keeper, say)
            best = keeper.folder / checkpoint.BEST
            if not best.is_file():
                raise BadInput(f"training for {length} bits alone left no model", hint="Give it more steps.")
            out[length] = HashEncoder.load(best)
    return out
