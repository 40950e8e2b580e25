"""How fast OpenVINO executes a picture network beside torch: SigLIP base at 224 pixels, one core.

The weights are random, which does not change the speed. Both encode the same pictures, in turn, several times,
and the best time of each counts, by the clock and by the processor time (which other programs change less).
Preparing pictures is left out, and measured apart. From the repository, on a quiet machine::

    .venv/bin/pip install -e ".[openvino,transformers]"
    OMP_NUM_THREADS=1 taskset -c 0 .venv/bin/python tests/benchmarks/bench_encoders.py
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapters.vlm_quantization.towers import openvino, registry
from adapters.vlm_quantization.towers.torchvision import import_transformers


def save_model(folder: Path) -> None:
    """Save SigLIP base for 224 pixels with random weights; its text half, not measured, is small."""
    import torch

    import_transformers()
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    torch.manual_seed(0)
    text = {
        "vocab_size": 100,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
    }
    config = SiglipConfig(text_config=text, vision_config={"image_size": 224, "patch_size": 16})
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"}))


#: The smallest tokenizer there is: one token.
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
}


def rates_of(call: Callable[[], object], count: int) -> tuple[float, float]:
    """Return the items per second of one call: by the clock, and by the process's own time."""
    start, used = time.perf_counter(), time.process_time()
    call()
    return count / (time.perf_counter() - start), count / (time.process_time() - used)


def main() -> None:
    """Measure, and print a line of JSON."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=32)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "siglip"
        save_model(folder)
        os.environ[openvino.CACHE] = str(Path(name) / "converted")
        tower: Any = registry.encoder_pair(str(folder)).image
        fast = openvino.OpenVinoTower(tower, openvino.sample_pictures())
        pictures = openvino.sample_pictures(wanted.pictures)
        start = time.perf_counter()
        parts = [tower.inputs(pictures[at : at + tower.batch]) for at in range(0, len(pictures), tower.batch)]
        preparing = len(pictures) / (time.perf_counter() - start)
        prepared = [torch.from_numpy(part["pixel_values"]) for part in parts]

        def by_torch() -> None:
            with torch.inference_mode():
                for part in prepared:
                    tower.network()(part)

        compiled = fast.network()

        def by_openvino() -> None:
            for part in parts:
                compiled([part["pixel_values"]])

        by_torch()
        by_openvino()
        rates = np.array(
            [
                [rates_of(by_torch, len(pictures)), rates_of(by_openvino, len(pictures))]
                for _ in range(wanted.rounds)
            ]
        )
        one, other = tower.features(pictures[:8]), fast.features(pictures[:8])
    clock, used = rates.max(axis=0).T
    found = {
        "precision": fast.precision,
        "cosine at conversion": round(fast.cosine, 6),
        "cosine here": round(float((one * other).sum(1).min()), 6),
        "torch f32, images/s": [round(float(value), 2) for value in (clock[0], used[0])],
        "openvino, images/s": [round(float(value), 2) for value in (clock[1], used[1])],
        "ratio": [round(float(value), 2) for value in (clock[1] / clock[0], used[1] / used[0])],
        "ratio per round": np.round(rates[:, 1] / rates[:, 0], 2).tolist(),
        "preparing, images/s": round(preparing, 1),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
