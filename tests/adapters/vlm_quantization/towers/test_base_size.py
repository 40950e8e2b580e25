"""The real size of SigLIP 2 base, with random weights: it fits into the memory that is promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.adapters.vlm_quantization.towers import small_models

#: Most memory that a process may take which encodes with it, in MiB: 1,431 of weights, the libraries, and a
#: batch of pictures.
MOST_MIB = 2_600

ENCODE = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
from adapters.vlm_quantization.towers.registry import encoder_pair
encoder = encoder_pair(sys.argv[1])
pictures = [Image.new("RGB", (640, 480), colour) for colour in ("red", "blue", "white")]
seen, read = encoder.image.features(pictures), encoder.text.features(["a dog", "강아지"])
# not getrusage: its peak begins with that of the process that started this one
status = Path("/proc/self/status").read_text().split()
peak = int(status[status.index("VmHWM:") + 1]) / 1024
norms = [float(np.abs(np.linalg.norm(x, axis=1) - 1).max()) for x in (seen, read)]
print(json.dumps({"shapes": [seen.shape, read.shape], "norms": norms, "mib": peak}))
"""


def make_base(folder: Path) -> int:
    """Write the model without ever holding a second copy, and return its number of parameters."""
    import torch
    from safetensors.torch import save_file
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    text = {"vocab_size": 256_000, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    config = SiglipConfig(text_config=text | ends, vision_config={"image_size": 224, "patch_size": 16})
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in SiglipModel(config).state_dict().items()}
    drawn = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)) * 0.02
    weights = {}
    for name, shape in shapes.items():  # the same million numbers again and again: drawing takes longer
        repeats = -(-shape.numel() // len(drawn))
        weights[name] = drawn.repeat(repeats)[: shape.numel()].reshape(shape)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(folder)
    return sum(shape.numel() for shape in shapes.values())


def test_siglip2_base_encodes_within_its_memory(tmp_path: Path) -> None:
    small_models.make_siglip2(tmp_path)  # its tokenizer; the rest is written over
    assert make_base(tmp_path) == 375_187_970
    try:
        done = subprocess.run(
            [sys.executable, "-c", ENCODE, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        (tmp_path / "model.safetensors").unlink()  # 1.5 GB
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shapes"] == [[3, 768], [2, 768]]
    assert max(found["norms"]) < 1e-5
    assert found["mib"] < MOST_MIB, found
