"""WebDataset: tar files whose members with one name before the first dot make up a sample.

A path, a folder of tars, or a pattern such as ``train-{0000..0012}.tar``. A sample's picture is the member
that ends like one; its captions are in ``.txt`` (one per line), ``.caption``, or ``.json`` (an object like a
line of JSONL); ``.cls`` holds its label. Nothing is unpacked: pictures are read from their place in the tar.
A tar named after a split, such as ``val-0000.tar``, belongs to it.
"""

from __future__ import annotations

import itertools
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, UnusableLine
from adapters.vlm_quantization.data.digests import decoded
from adapters.vlm_quantization.data.external_sort import ExternalSort
from adapters.vlm_quantization.data.folder import PICTURE_ENDINGS, split_of_folder
from adapters.vlm_quantization.data.jsonl import as_line, caption_key, line_item, with_concepts
from adapters.vlm_quantization.data.loader import Loader, Opening, first_bytes
from adapters.vlm_quantization.data.stored import ArchiveMember
from adapters.vlm_quantization.data.streaming import ReadLine, Streaming

#: Maximum number of tars that a pattern stands for.
MOST_TARS = 10_000


#: A text member of more bytes than this is reported, not read.
MAX_TEXT_BYTES = 1_000_000


_TEXTS = frozenset({"txt", "text", "caption"})


_RANGE = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


@dataclass
class _Sample:
    """The members of one sample."""

    key: str
    number: int
    pictures: list[ArchiveMember] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def read_webdataset(path: Path, opening: Opening) -> CaptionedImages:
    """Read the tars of a path, of a folder or of a pattern.

    Raises
    ------
    BadInput
        There is no tar, one is compressed or damaged, or no sample has a usable picture.
    """
    tars = tar_files(path)
    root = Path(os.path.commonpath([tar.parent for tar in tars]))
    if opening.spill is not None:
        steps = Streaming(
            opening.spill,
            root / path.name,
            opening.cache_dir,
            opening.progress,
            decode=opening.decode,
            concept_key=caption_key,
        )
        streamed = steps.read(_display_name(path), _sorted_lines(tars, opening), joined=False)
        return _usable(streamed, path)
    items: list[tuple[int, Item]] = []
    problems: list[UnusableLine] = []
    keys: dict[str, str] = {}
    for number, tar, sample in _numbered(tars, opening):
        # Only where two tars use one key do ids need the tar's name.
        item_id = sample.key
        if keys.setdefault(sample.key, tar.name) != tar.name:
            item_id = f"{tar.name}/{sample.key}"
        one = _line(number, tar, sample, item_id)
        if isinstance(one, UnusableLine):
            problems.append(one)
        else:
            items.append((number, one.item))
    kept, broken = decoded(
        items, root / path.name, opening.cache_dir, opening.progress, decode=opening.decode
    )
    problems = sorted([*problems, *broken], key=lambda problem: problem.line)
    return _usable(CaptionedImages(_display_name(path), with_concepts(kept), problems=problems), path)


def _usable(collection: CaptionedImages, path: Path) -> CaptionedImages:
    """Return a collection with its notes, if any sample can be used."""
    if collection.problems:
        collection.notes.append("Lines are numbered by the samples of all tars.")
    if not collection.items:
        summary = collection.problem_summary or "the tar has no samples"
        hint = "A sample is a picture and its texts with one name before the dot: 0001.jpg, 0001.txt."
        raise wb.BadInput(f"no usable picture in {path}: {summary}", hint=hint)
    return collection


def _numbered(tars: Sequence[Path], opening: Opening) -> Iterator[tuple[int, Path, _Sample]]:
    """Yield the samples of all tars, numbered from 1."""
    before = last = 0
    for done, tar in enumerate(tars):
        if opening.progress:
            opening.progress(done, len(tars), "reading tar files")
        for sample in _samples(tar):
            last = before + sample.number
            yield last, tar, sample
        before = last


def _line(number: int, tar: Path, sample: _Sample, item_id: str) -> ReadLine | UnusableLine:
    try:
        return ReadLine(number, "", _item(sample, item_id, split_of_folder(tar.stem)))
    except wb.BadInput as error:
        return UnusableLine(number, f"{tar.name}/{sample.key}: {error.message}")


def _sorted_lines(tars: Sequence[Path], opening: Opening) -> Iterator[ReadLine | UnusableLine]:
    """Yield the samples as lines; those whose key another tar has already get the tar's name in front.

    The keys are not in memory: where one occurs again is found by sorting them, before the tars are read for
    their items.
    """
    spill = opening.spill or Path()
    with ExternalSort(spill) as again:
        with ExternalSort(spill) as keys:
            for number, tar, sample in _numbered(tars, opening):
                keys.add(sample.key.encode("utf-8", "surrogatepass"), f"{number} {tar.name}".encode())
            for _, group in itertools.groupby(keys, key=lambda record: record[0]):
                first = b""
                for _, value in group:
                    number_text, name = value.split(b" ", 1)
                    first = first or name
                    if name != first:
                        again.add(int(number_text).to_bytes(8, "big"))
        renamed = iter(again)
        place = next(renamed, None)
        for number, tar, sample in _numbered(tars, opening):
            item_id = sample.key
            if place is not None and int.from_bytes(place[0], "big") == number:
                item_id, place = f"{tar.name}/{sample.key}", next(renamed, None)
            yield _line(number, tar, sample, item_id)


def _display_name(path: Path) -> str:
    return _RANGE.sub("", path.name).removesuffix(".tar").rstrip("-_.") or path.parent.name


# --- the tars -----------------------------------------------------------------------------------------------


def tar_files(path: Path) -> list[Path]:
    """Return the tars of a path, of a folder, or of a pattern with braces.

    Raises
    ------
    BadInput
        There is none, some of a pattern are missing, or it stands for more than :data:`MOST_TARS`.
    """
    if path.is_dir():
        tars = sorted(one for one in path.iterdir() if one.suffix == ".tar")
    elif path.is_file():
        tars = [path]
    else:
        tars = [Path(one) for one in _expanded(str(path))]
        missing = [one for one in tars if not one.is_file()]
        if missing:
            more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
            names = ", ".join(str(one) for one in missing[:3])
            raise wb.BadInput(f"tar files not found: {names}{more}")
    if not tars:
        raise wb.BadInput(f"{path} holds no .tar file")
    return tars


def _expanded(pattern: str) -> list[str]:
    """Return what a pattern stands for: ``{0000..0012}`` and ``{train,val}``."""
    out = [""]
    at = 0
    for found in [*_RANGE.finditer(pattern), None]:
        text = pattern[at : found.start()] if found else pattern[at:]
        parts = [""]
        if found and found[3] is not None:
            parts = found[3].split(",")
        elif found:
            first, last = int(found[1]), int(found[2])
            if abs(last - first) >= MOST_TARS:
                raise wb.BadInput(f"{pattern} stands for more than {MOST_TARS:,} files")
            parts = [str(n).zfill(len(found[1])) for n in range(first, last + 1)]
        out = [f"{one}{text}{part}" for one in out for part in parts]
        if len(out) > MOST_TARS:
            raise wb.BadInput(f"{pattern} stands for more than {MOST_TARS:,} files")
        at = found.end() if found else at
    return out


def _samples(tar: Path) -> Iterator[_Sample]:
    """Yield the samples of a tar; only its headers and its texts are read."""
    samples: dict[str, _Sample] = {}
    start = first_bytes(tar, 8)
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise wb.BadInput(
            f"{tar} is compressed, so pictures cannot be read from their place in it",
            hint="Unpack the compression only, for example: gunzip FILE.tar.gz",
        )
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if not member.isdir():
                    _add(samples, tar, archive, member)
                archive.members = []  # type: ignore[attr-defined]  # or it would keep every header
    except (tarfile.TarError, OSError, EOFError) as error:
        raise wb.BadInput(
            f"{tar} is damaged, or not a tar file ({type(error).__name__}: {str(error)[:200]})"
        ) from None
    yield from samples.values()


def _add(samples: dict[str, _Sample], tar: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    name = member.name.removeprefix("./")
    folder, base = posixpath.split(name)
    if base.startswith("."):  # left by the tar of a Mac, for one
        return
    stem, _, ending = base.partition(".")
    key = posixpath.join(folder, stem)
    sample = samples.setdefault(key, _Sample(key, len(samples) + 1))
    ending = ending.casefold()
    if not member.isreg() or member.sparse:
        sample.fault = f"{base} is not a plain file"
    elif ".." in name.split("/") or name.startswith("/"):
        sample.fault = "its name leads outside the archive"
    elif posixpath.splitext(base)[1].casefold() in PICTURE_ENDINGS:
        sample.pictures.append(ArchiveMember(tar, name, member.offset_data, member.size))
    elif ending in _TEXTS or ending in ("json", "cls"):
        if member.size > MAX_TEXT_BYTES:
            sample.fault = f"{base} is larger than {MAX_TEXT_BYTES:,} bytes"
            return
        file = archive.extractfile(member)
        _add_text(sample, ending, base, b"" if file is None else file.read())


def _add_text(sample: _Sample, ending: str, base: str, data: bytes) -> None:
    text = data.decode("utf-8-sig", "replace")
    if ending == "cls":
        sample.row["labels"] = [text.strip()]
    elif ending != "json":
        sample.row.setdefault("captions", [line for line in text.splitlines() if line.strip()])
    else:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            sample.fault = f"{base} is not JSON ({str(error)[:100]})"
            return
        if isinstance(row, dict):
            sample.row = {**row, **sample.row}


def _item(sample: _Sample, item_id: str, split: str) -> Item:
    if sample.fault:
        raise wb.BadInput(sample.fault)
    if len(sample.pictures) != 1:
        count = len(sample.pictures)
        raise wb.BadInput("no picture" if not count else f"{count} pictures; a sample has one")
    item = line_item(as_line({**sample.row, "image": None, "id": item_id}), sample.pictures[0])
    return replace(item, split=item.split or split)


def _is_webdataset(path: Path) -> bool:
    if path.is_dir():
        try:
            with os.scandir(path) as entries:
                return any(entry.name.endswith(".tar") for entry in entries)
        except OSError:
            return False
    if path.is_file():
        return path.suffix == ".tar" or path.name.endswith((".tar.gz", ".tgz"))
    return bool(_RANGE.search(str(path))) and path.name.endswith(".tar")


WEBDATASET = Loader(
    form="webdataset",
    about="WebDataset tars: a path, a folder, or a pattern such as train-{0000..0012}.tar",
    recognises=_is_webdataset,
    read=read_webdataset,
)
