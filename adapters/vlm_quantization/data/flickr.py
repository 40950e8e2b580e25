"""Flickr8k and Flickr30k: ``results_20130124.token``, or ``results.csv`` separated by ``|``.

A line of the first is ``1000092795.jpg#0``, a tab and a caption. The pictures are looked for in
``flickr30k-images`` and the like beside the file; ``images=FOLDER`` names another place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.data.jsonl import as_line, numbered_lines, read_lines
from adapters.vlm_quantization.data.loader import Loader, Opening, first_bytes
from adapters.vlm_quantization.data.places import IMAGES_OPTION, picture_place

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


_FOLDERS = (
    "flickr30k-images",
    "flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "Images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
)


def read_flickr(path: Path, opening: Opening) -> CaptionedImages:
    """Read the captions of Flickr8k or Flickr30k.

    Raises
    ------
    BadInput
        No line is valid, or the pictures are not found.
    """
    bars = first_bytes(path).startswith((b"image_name|", b"\xef\xbb\xbfimage_name|"))
    rows = [(number, _row(line, bars)) for number, line in numbered_lines(path)]
    if bars:
        rows = rows[1:]
    names = [row["image"] for _, row in rows if row.get("image")]
    root, inside = picture_place(path, opening.options.get("images", ""), names, _FOLDERS)

    def lines() -> Iterator[tuple[int, bytes]]:
        for number, row in rows:
            yield number, as_line(row | {"image": f"{inside}{row['image']}"} if row.get("image") else row)

    return read_lines(
        root / path.name,
        lines(),
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
        hint=f"Is {root} the folder of the pictures? If not, add ?images=FOLDER to the path.",
    )


def _row(line: bytes, bars: bool) -> dict[str, Any]:
    text = line.decode("utf-8", "replace")
    if bars:
        image, _, rest = text.partition("|")
        caption = rest.partition("|")[2]
    else:
        image, _, caption = text.partition("\t")
        image = image.partition("#")[0]
    return {"image": image.strip(), "captions": {"en": [caption.strip()]}}


def _is_flickr(path: Path) -> bool:
    if path.name.endswith((".token", ".token.txt")):
        return path.is_file()
    return path.suffix == ".csv" and first_bytes(path).startswith(
        (b"image_name|", b"\xef\xbb\xbfimage_name|")
    )


FLICKR = Loader(
    form="flickr",
    about="Flickr30k or Flickr8k captions (.token, or results.csv with |)",
    recognises=_is_flickr,
    read=read_flickr,
    options=IMAGES_OPTION,
)
