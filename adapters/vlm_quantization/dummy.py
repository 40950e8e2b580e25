"""Small test data: a collection of coloured shapes, and a checkpoint trained on it.

::

    python -m adapters.vlm_quantization.dummy OUT
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

import workbench as wb

#: Side of a picture, in pixels; it is drawn larger and downsampled, for smooth edges.
SIDE = 96


_FINE = 4


#: English word, Korean word, colour.
COLOURS = (
    ("red", "빨간색", "#d62828"),
    ("blue", "파란색", "#1d5fd0"),
    ("green", "초록색", "#2a9d3f"),
    ("yellow", "노란색", "#f2c200"),
    ("purple", "보라색", "#7b3fb5"),
    ("orange", "주황색", "#f07818"),
    ("black", "검은색", "#1c1c1c"),
    ("pink", "분홍색", "#f08cb8"),
)


_Points = list[tuple[float, float]]


def _star(corners: int, inner: float) -> _Points:
    """Return a star inside the unit circle, its first point at the top."""
    angles = [math.pi * step / corners - math.pi / 2 for step in range(2 * corners)]
    radii = [1.0 if step % 2 == 0 else inner for step in range(2 * corners)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _arc(start: float, end: float) -> _Points:
    """Return points on the unit circle, angles in turns, clockwise from the right."""
    steps = [start + (end - start) * step / 60 for step in range(61)]
    return [(math.cos(math.tau * turn), math.sin(math.tau * turn)) for turn in steps]


#: English word, Korean word, outline inside the unit circle.
SHAPES: tuple[tuple[str, str, Callable[[], _Points]], ...] = (
    ("circle", "원", lambda: _arc(0, 1)),
    ("square", "정사각형", lambda: [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
    ("triangle", "삼각형", lambda: _star(3, 0.5)),
    ("star", "별", lambda: _star(5, 0.42)),
    ("diamond", "마름모", lambda: [(0, -1), (0.65, 0), (0, 1), (-0.65, 0)]),
    ("half circle", "반원", lambda: _arc(0.5, 1)),
)


def write_dummy_collection(out: Path, n: int = 24, seed: int = 0) -> Path:
    """Write a collection of coloured shapes with English and Korean captions.

    Parameters
    ----------
    out : Path
        Folder to write to; created if missing. Pictures go to ``out/pictures``.
    n : int
        Number of pictures, at least 1. The first 48 differ in colour or shape; later ones repeat
        them at other sizes and positions.
    seed : int
        The same seed draws the same pictures.

    Returns
    -------
    Path
        The JSONL file, ``out/shapes.jsonl``; read it with ``open_collection``.

    Raises
    ------
    BadInput
        ``n`` is below 1.
    """
    if n < 1:
        raise wb.BadInput(f"a collection needs at least 1 picture, not {n}")
    rng = random.Random(seed)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    rng.shuffle(kinds)
    pictures = Path(out) / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(n):
        (english, korean, paint), (form, korean_form, outline) = kinds[number % len(kinds)]
        name = f"{number:04d}-{english}-{form.replace(' ', '-')}.png"
        _draw(outline(), paint, rng).save(pictures / name)
        row = {
            "image": f"pictures/{name}",
            "captions": {
                "en": [f"{english} {form}", f"a {form} that is {english}"],
                "ko": [f"{korean} {korean_form}", f"{korean}으로 칠한 {korean_form}"],
            },
            "labels": [english, form],
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    path = Path(out) / "shapes.jsonl"
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


class _Folder:
    """Stands in for a run: saves checkpoints to a folder and ignores metrics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Ignore metrics."""

    def log_checkpoint(self, name: str, path: Path) -> Path:
        """Save a checkpoint atomically."""
        temporary = self.folder / f".{name}"
        shutil.copyfile(path, temporary)
        return temporary.replace(self.folder / name)


def write_dummy_checkpoint(out: Path, collection: Path, steps: int = 40, seed: int = 0) -> Path:
    """Train a tiny model for about a second: random picture features, a small n-gram table.

    Parameters
    ----------
    out : Path
        Folder to write to.
    collection : Path
        JSONL file, such as :func:`write_dummy_collection` returns; at least 2 concepts.
    steps : int
        Training steps, at least 1.
    seed : int
        The same seed trains the same weights.

    Returns
    -------
    Path
        The checkpoint, ``out/refit.safetensors``, trained on the whole collection. Next to it,
        ``best.safetensors`` has not seen the held-out parts.
    """
    from adapters.vlm_quantization.data.sources import open_collection
    from adapters.vlm_quantization.data.splits import make_splits
    from adapters.vlm_quantization.encoding import checkpoint
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.towers.registry import image_tower
    from adapters.vlm_quantization.train import train

    pictures = open_collection(collection)
    tower = image_tower("random")
    features = tower.features([pictures.open(row) for row in range(len(pictures))])
    options = TrainOptions(
        collection=str(collection),
        encoder="random",
        text_tower="ngrams",
        seed=seed,
        steps=steps,
        refit_steps=steps,
        batch=16,
        validate_every=steps,
        hidden=32,
        dim=32,
        text_buckets=512,
        text_width=32,
        threads=1,
        device="cpu",
    )
    out.mkdir(parents=True, exist_ok=True)
    splits = make_splits(pictures, options.split_seed)
    train.train(pictures, splits, features, tower.fingerprint, options, _Folder(out), lambda *_: None)
    return out / checkpoint.REFIT


def _draw(outline: _Points, paint: str, rng: random.Random) -> Image.Image:
    """Draw a shape on white, at a random size and position so that no two pictures are equal."""
    side = SIDE * _FINE
    radius = side * rng.uniform(0.28, 0.42)
    x, y = (side / 2 + side * rng.uniform(-0.06, 0.06) for _ in range(2))
    picture = Image.new("RGB", (side, side), "white")
    points = [(x + radius * across, y + radius * down) for across, down in outline]
    ImageDraw.Draw(picture).polygon(points, fill=paint)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the dummy collection and checkpoint; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="dummy", description="Write a small test collection and a checkpoint."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("-n", type=int, default=24, help="number of pictures (default: 24)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        collection = write_dummy_collection(args.out, args.n, args.seed)
        print(collection)
        print(write_dummy_checkpoint(args.out, collection, seed=args.seed))
    except wb.WorkbenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
