"""A small collection and an untrained encoder, for tests of the index and the search.

As a script, ``small_index.py FOLDER NAME [--no-exchange]`` builds their index in a separate process, which a
test can kill. With ``--each POINT…`` it builds in a folder per crash point, and is killed at each.
"""

import hashlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index import shards
from adapters.vlm_quantization.index.build import build_index

N_CONCEPTS = 30


class SmallEncoder:
    """Random projections of character n-grams and of 8 × 8 pixels; the same in every process."""

    bits = CODE_LENGTHS
    dim = 24
    name = "random projection"
    fingerprint = "5eed" * 16

    def __init__(self):
        random = np.random.default_rng(7)
        self._towers = {rows: random.standard_normal((rows, self.dim)) for rows in (256, 192)}
        self._planes = random.standard_normal((self.dim, CODE_BITS))
        self.calls = []

    def encode_images(self, images):
        self.calls.append(("images", len(images)))
        small = [np.asarray(image.convert("RGB").resize((8, 8)), np.float64).ravel() for image in images]
        return self._encode(np.array(small) / 255 - 0.5)

    def encode_texts(self, texts):
        self.calls.append(("texts", len(texts)))
        counts = np.zeros((len(texts), 256))
        for row, text in enumerate(texts):
            for size in (1, 2, 3):
                for at in range(len(text) - size + 1):
                    gram = text.lower()[at : at + size].encode()
                    counts[row, hashlib.sha256(gram).digest()[0]] += 1
        return self._encode(counts)

    def _encode(self, x):
        features = x @ self._towers[x.shape[1]]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return Encoded(pack_codes(features @ self._planes >= 0), features.astype(np.float32))


@dataclass(frozen=True)
class SmallItem:
    id: str
    concept: str
    captions: dict
    labels: tuple = ("thing",)
    style: str = "plain"
    group: str = "things"
    flag: bool = False


class SmallCollection:
    """Thirty concepts with two drawings each; the second drawing has a darker frame."""

    name = "small things"
    languages = ("en", "ko")
    credits = ("Drawn by a random generator.",)
    fingerprint = "da7a" * 16

    def __init__(self, broken=()):
        # Not in id order: the index sorts by id.
        self.items = [
            SmallItem(f"{style}:{concept:03d}", f"{concept:03d}", self.names(concept), style=style)
            for style in ("plain", "framed")
            for concept in reversed(range(N_CONCEPTS))
        ]
        self.broken = set(broken)

    @staticmethod
    def names(concept):
        return {
            "en": (f"thing {concept}", f"object no. {concept}"),
            "ko": (f"물건 {concept}", f"thing {concept}"),
        }

    def open(self, i):
        item = self.items[i]
        if item.id in self.broken:
            raise OSError(f"image file is truncated: {item.id}")
        return picture(int(item.concept), framed=item.style == "framed")


def picture(concept, framed=False):
    pixels = np.random.default_rng(concept).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    if framed:
        pixels[[0, -1]] //= 2
    return Image.fromarray(pixels).resize((200, 160), Image.Resampling.NEAREST)


def build(folder, name="small", *, collection=None, encoder=None, **options):
    """Build an index in shards of 16, so that there are several."""
    return build_index(
        Path(folder),
        collection or SmallCollection(),
        encoder or SmallEncoder(),
        name=name,
        **{"batch_size": 8, **options},
    )


def kill_at_each(folder, name, points):
    """Build in a folder per crash point, each in a process of its own that is killed there."""
    for point in points:
        if not (child := os.fork()):
            os.environ["WORKBENCH_CRASH_AT"] = point
            build(folder / point, name)
            os._exit(0)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            raise SystemExit(f"not killed at {point}")


if __name__ == "__main__":
    shards.SHARD_ITEMS = 16
    if "--no-exchange" in sys.argv:
        files._exchange = lambda one, other: False
    if "--each" in sys.argv:
        kill_at_each(Path(sys.argv[1]), sys.argv[2], sys.argv[sys.argv.index("--each") + 1 :])
    else:
        build(sys.argv[1], sys.argv[2])
