"""COCO captions (``captions_val2017.json``), and Karpathy's split file (``dataset_coco.json``).

The labels of COCO come from ``instances_*.json`` beside the captions, if it is there. The pictures are looked
for where COCO's archives put them: beside the file, in ``val2017`` and the like there or one folder up, or
under ``images``; ``images=FOLDER`` names another place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.folder import split_of_folder
from adapters.vlm_quantization.data.jsonl import as_line, read_lines
from adapters.vlm_quantization.data.loader import Loader, Opening, first_bytes
from adapters.vlm_quantization.data.places import IMAGES_OPTION, picture_place

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


#: A file larger than this many bytes is refused; the captions of all of COCO take 90 MB.
MAX_BYTES = 2_000_000_000


def read_coco(path: Path, opening: Opening) -> CaptionedImages:
    """Read COCO captions, with the labels of ``instances_*.json`` beside them.

    Raises
    ------
    BadInput
        The file is not of that form, or its pictures are not found.
    """
    document = _document(path)
    images, annotations = (_objects(document, field, path) for field in ("images", "annotations"))
    part = path.stem.removeprefix("captions_")
    split = split_of_folder(part)
    labels = _labels(path)
    texts: dict[Any, list[str]] = {}
    for annotation in annotations:
        texts.setdefault(annotation.get("image_id"), []).append(annotation.get("caption", ""))
    names = [str(image.get("file_name", "")) for image in images]
    root, inside = picture_place(path, opening.options.get("images", ""), names, [part])

    def rows() -> Iterator[tuple[int, bytes]]:
        for number, (image, name) in enumerate(zip(images, names, strict=True), 1):
            row: dict[str, Any] = {"id": image.get("id"), "image": f"{inside}{name}", "split": split}
            row["captions"] = texts.get(image.get("id"), [])
            row["labels"] = labels.get(image.get("id"), [])
            yield number, as_line(row)

    return _read(path, root, rows(), opening)


def read_karpathy(path: Path, opening: Opening) -> CaptionedImages:
    """Read a split file of Karpathy's: COCO, Flickr8k or Flickr30k, with the split of each picture.

    Raises
    ------
    BadInput
        The file is not of that form, or its pictures are not found.
    """
    document = _document(path)
    images = _objects(document, "images", path)
    names = ["/".join(filter(None, (image.get("filepath"), image.get("filename")))) for image in images]
    kind = str(document.get("dataset", ""))
    given = opening.options.get("images", "")
    root, inside = picture_place(path, given, names, [kind, f"{kind}-images", f"{kind}_images"])

    def rows() -> Iterator[tuple[int, bytes]]:
        for number, (image, name) in enumerate(zip(images, names, strict=True), 1):
            sentences = image.get("sentences")
            texts = [one.get("raw", "") for one in sentences if isinstance(one, dict)] if sentences else []
            row = {"id": image.get("cocoid", image.get("imgid")), "image": f"{inside}{name}"}
            yield number, as_line(row | {"captions": texts, "split": image.get("split") or ""})

    return _read(path, root, rows(), opening)


def _read(path: Path, root: Path, rows: Iterator[tuple[int, bytes]], opening: Opening) -> CaptionedImages:
    collection = read_lines(
        root / path.name,
        rows,
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
        hint=f"Is {root} the folder of the pictures? If not, add ?images=FOLDER to the path.",
    )
    if collection.problems:
        collection.notes.append("Line numbers count the entries of 'images'.")
    return collection


def _document(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise wb.BadInput(f"{path} is larger than {MAX_BYTES / 1e9:g} GB, the most that is read as JSON")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise wb.BadInput(f"{path} cannot be read ({error.strerror or type(error).__name__})") from None
    except (ValueError, RecursionError) as error:
        raise wb.BadInput(f"{path} is not JSON ({str(error)[:200]})") from None
    if not isinstance(document, dict):
        raise wb.BadInput(f"{path} must hold one JSON object, not a {type(document).__name__}")
    return document


def _objects(document: Mapping[str, Any], field: str, path: Path) -> Sequence[Mapping[str, Any]]:
    """Return a list of objects of the document, checked."""
    rows = document.get(field)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        fields = ", ".join(map(repr, list(document)[:8])) or "no fields"
        raise wb.BadInput(
            f"{path} has no list of {field!r} (it has {fields})",
            hint="COCO's caption files have 'images' and 'annotations', Karpathy's have 'images' alone.",
        )
    return rows


def _labels(path: Path) -> dict[Any, list[str]]:
    """Return the names of the categories of each image, from the instances beside the captions."""
    beside = path.with_name(path.name.replace("captions_", "instances_", 1))
    if beside == path or not beside.is_file():
        return {}
    document = _document(beside)
    names = {one.get("id"): str(one.get("name", "")) for one in _objects(document, "categories", beside)}
    out: dict[Any, dict[str, None]] = {}
    for annotation in _objects(document, "annotations", beside):
        name = names.get(annotation.get("category_id"))
        if name:
            out.setdefault(annotation.get("image_id"), {})[name] = None
    return {image: list(labels) for image, labels in out.items()}


def _is_coco(path: Path) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    return path.name.startswith("captions_") or bool(
        re.search(rb'"annotations"|"licenses"', first_bytes(path))
    )


def _is_karpathy(path: Path) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    return path.name.startswith("dataset_") or bool(re.search(rb'"sentids"|"sentences"', first_bytes(path)))


COCO = Loader(
    form="coco",
    about="COCO captions (captions_*.json, with instances_*.json beside it for labels)",
    recognises=_is_coco,
    read=read_coco,
    options=IMAGES_OPTION,
)


KARPATHY = Loader(
    form="karpathy",
    about="Karpathy's split file (dataset_coco.json, dataset_flickr30k.json)",
    recognises=_is_karpathy,
    read=read_karpathy,
    options=IMAGES_OPTION,
)
