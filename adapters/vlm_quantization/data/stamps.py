"""Pictures with a side-car text in many languages, as Tux Paint's stamps have it.

The text file beside a picture holds its English caption in the first line, then ``ko.utf8=빨간 캥거루`` and
the like. ``stamps`` is the folder of the installed Debian package ``tuxpaint-stamps-default`` (GPL-2; nothing
of it is part of this project); ``stamps:PATH`` is another such folder, or a ``.deb`` file of the package,
which is unpacked into the cache. SVG drawings are drawn on white.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, UnusableLine
from adapters.vlm_quantization.data.digests import decoded
from adapters.vlm_quantization.data.folder import PICTURE_ENDINGS, sidecar_text
from adapters.vlm_quantization.data.jsonl import as_line, line_item, with_concepts
from adapters.vlm_quantization.data.loader import Loader, Opening, first_bytes
from adapters.vlm_quantization.data.pictures import AT_ONCE, decode_picture
from adapters.vlm_quantization.data.stored import Picture, SvgDrawing

if TYPE_CHECKING:
    from PIL.Image import Image


#: Where the Debian package puts its pictures.
INSTALLED = Path("/usr/share/tuxpaint/stamps")


#: What a source starts with, if the pictures are elsewhere.
PREFIX = "stamps:"


#: Width of a drawn SVG in pixels; the median photograph has about as many.
DRAWN_WIDTH = 160


#: A photograph has at least this many colours, and less than this share of equal neighbours in a row.
LEAST_COLOURS, MOST_EQUAL = 1_500, 0.25


#: Folders whose shaded drawings and scans pass for photographs by their pixels.
NO_PHOTOGRAPHS = re.compile(
    r"(^|/)(cartoon|coins|money|easter|halloween|alphabets|math|roadsigns|tux)(/|$)|tombstone"
)


#: Sizes that are unpacked from a .deb at most, in bytes: of one file, and of all.
MAX_FILE, MAX_TOTAL = 50_000_000, 2_000_000_000


#: Attribution that must be shown with the pictures of the package.
CREDITS = (
    "Tux Paint stamps (tuxpaint.org), by many authors. License: GPL-2, see "
    "/usr/share/doc/tuxpaint-stamps-default/copyright.",
)


#: How Tux Paint names a picture's mirror image, which has no text of its own.
_VARIANT = re.compile(r"(_mirror|_flip)+$")


#: The languages whose captions are read, unless the source says else: some seventy would drown these two.
LANGUAGES = "en,ko"


_TAG = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")


_LANGUAGE = re.compile(r"([a-z]{2,3})(?:_([A-Z]{2}))?(?:@\w+)?\.utf8=(.*)")


def stamps_folder(source: str, cache_dir: Path | None) -> Path:
    """Return the folder of the stamps that a source names, unpacked if it is a ``.deb`` file.

    Raises
    ------
    BadInput
        It does not exist, or is not such a package.
    """
    check_stamps(source)
    path = Path(source.removeprefix(PREFIX)) if source.startswith(PREFIX) else INSTALLED
    return path if path.is_dir() else _unpacked(path, cache_dir)


def check_stamps(source: str) -> None:
    """Raise unless the stamps that a source names exist.

    Raises
    ------
    BadInput
        They do not; the message says how to get them.
    """
    if source.startswith(PREFIX):
        path = Path(source.removeprefix(PREFIX))
        if not path.is_dir() and not (path.is_file() and path.suffix == ".deb"):
            raise wb.BadInput(
                f"{source!r}: {path} is neither a folder nor a .deb file",
                hint="stamps:PATH takes the folder of such pictures, or the Debian package as a file.",
            )
    elif not INSTALLED.is_dir():
        raise wb.BadInput(
            f"the collection 'stamps' is not installed: {INSTALLED} not found",
            hint="On Debian: apt-get install tuxpaint-stamps-default. "
            "Elsewhere, give the package's file: stamps:PATH.deb",
        )


def read_stamps(folder: Path, opening: Opening) -> CaptionedImages:
    """Read a folder of pictures with side-car texts in many languages.

    Parameters
    ----------
    folder : Path
        As :func:`stamps_folder` returns it.
    opening : Opening
        Options: ``photographs``, ``no`` (default) for all pictures or ``yes`` for photographs only; and
        ``languages``, the tags of the captions that are read, by default ``en,ko``, or ``all``.

    Raises
    ------
    BadInput
        There is no usable picture, or an option has an unknown value.
    MissingExtra
        The folder holds SVG drawings, and resvg-py is not installed.
    """
    photographs = opening.choice("photographs", ("no", "yes")) == "yes"
    languages = _languages(opening.options.get("languages", LANGUAGES))
    files = [path for path in _files(folder) if not photographs or _may_be_photograph(path, folder)]
    if any(path.suffix.lower() == ".svg" for path in files) and not importlib.util.find_spec("resvg_py"):
        raise wb.MissingExtra("SVG drawings (resvg-py)", "demo")
    items: list[tuple[int, Item]] = []
    problems: list[UnusableLine] = []
    for number, path in enumerate(files, 1):
        try:
            items.append((number, _item(path, folder, languages)))
        except wb.BadInput as error:
            name = path.relative_to(folder).as_posix()
            problems.append(UnusableLine(number, f"{name}: {error.message}"))
    if photographs:
        items = _photographs(items, opening)
    kept, broken = decoded(
        items, folder / folder.name, opening.cache_dir, opening.progress, decode=opening.decode
    )
    collection = CaptionedImages(
        "stamps",
        with_concepts(kept),
        credits=CREDITS if folder.is_relative_to(INSTALLED) else (),
        problems=sorted([*problems, *broken], key=lambda problem: problem.line),
        notes=["Line numbers count the pictures by name."] if problems or broken else (),
    )
    if not kept:
        summary = collection.problem_summary or "no picture was found"
        raise wb.BadInput(
            f"no usable picture in {folder}: {summary}",
            hint="A picture needs a text beside it: kangaroo.png, kangaroo.txt.",
        )
    return collection


def _files(folder: Path) -> Iterator[Path]:
    """Yield pictures by name, without mirror images of others; of a drawing that is SVG too, the pixels."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        parts = sorted(os.path.splitext(name) for name in files)  # noqa: PTH122  # ten thousand sounds too
        stems = {stem for stem, ending in parts if ending.lower() in PICTURE_ENDINGS}
        for stem, ending in parts:
            plain = _VARIANT.sub("", stem)
            if plain != stem and plain in stems:
                continue
            if ending.lower() in PICTURE_ENDINGS or (ending.lower() == ".svg" and stem not in stems):
                yield Path(place, stem + ending)


def _languages(text: str) -> frozenset[str] | None:
    """Return the languages that an option lists; None for all."""
    tags = frozenset(tag.strip() for tag in text.split(",") if tag.strip())
    if not tags or not all(_TAG.fullmatch(tag) for tag in tags):
        raise wb.BadInput(f"languages must be tags such as en,ko or all, got {text!r}")
    return None if tags == {"all"} else tags


def _item(path: Path, folder: Path, languages: frozenset[str] | None) -> Item:
    inside = path.relative_to(folder)
    # Folders that are links are not walked into, so only the file itself can lead outside.
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise wb.BadInput("a link that leads outside the folder")
    captions = captions_of(sidecar_text(path))
    if languages is not None:
        captions = {language: texts for language, texts in captions.items() if language in languages}
    row: dict[str, Any] = {"id": inside.as_posix(), "captions": captions}
    parts = inside.parts[:-1]
    row["labels"] = list(parts[-1:])
    image: Picture = SvgDrawing(path, DRAWN_WIDTH) if path.suffix.lower() == ".svg" else path
    return replace(line_item(as_line(row), image), group=parts[0] if parts else "")


def captions_of(text: str) -> dict[str, list[str]]:
    """Return the captions of a side-car text by language: English first, and no country's variant.

    The full stop at the end is dropped, as no query has one.
    """
    lines = [line.strip() for line in text.splitlines()]
    out: dict[str, list[str]] = {"en": [lines[0]] if lines else []}
    for line in lines[1:]:
        if (found := _LANGUAGE.fullmatch(line)) and found[1] != "en":
            tag = f"{found[1]}-{found[2]}" if found[1] == "zh" and found[2] else found[1]
            out.setdefault(tag, []).append(found[3])
    return {
        language: [cleaned]
        for language, texts in out.items()
        if (cleaned := next(iter(texts), "").strip().rstrip(".。").strip())
    }


# --- photographs --------------------------------------------------------------------------------------------


def _may_be_photograph(path: Path, folder: Path) -> bool:
    if path.suffix.lower() == ".svg":
        return False
    return not NO_PHOTOGRAPHS.search(path.relative_to(folder).as_posix())


def _photographs(items: list[tuple[int, Item]], opening: Opening) -> list[tuple[int, Item]]:
    """Return the photographs, by their pixels, and those that cannot be decoded, which are reported later."""

    def judged(numbered: tuple[int, Item]) -> bool:
        item = numbered[1]
        try:
            return is_photograph(decode_picture(item.image, name=item.id))
        except wb.BadInput:
            return True

    kept = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done, (numbered, photograph) in enumerate(zip(items, pool.map(judged, items), strict=True)):
            if opening.progress and done % 25 == 0:
                opening.progress(done, len(items), "looking for photographs")
            if photograph:
                kept.append(numbered)
    return kept


def is_photograph(picture: Image) -> bool:
    """Return whether a picture looks like a photograph: many colours, and few equal neighbours.

    White, on which pictures with transparency are laid, does not count.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8).astype(np.uint32)
    colours = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    shown = colours != 0xFFFFFF
    if len(np.unique(colours[shown])) < LEAST_COLOURS:
        return False
    both = shown[:, 1:] & shown[:, :-1]
    equal = (colours[:, 1:] == colours[:, :-1]) & both
    return bool(equal.sum() < MOST_EQUAL * max(both.sum(), 1))


# --- the package as a file ----------------------------------------------------------------------------------


def _unpacked(deb: Path, cache_dir: Path | None) -> Path:
    """Unpack the pictures and texts of a Debian package into the cache, once."""
    if cache_dir is None:
        import platformdirs

        cache_dir = platformdirs.user_cache_path("notebook-workbench")
    status = deb.stat()
    key = hashlib.sha256(f"{deb.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_dir / f"stamps-{key}"
    if folder.is_dir():
        return folder
    work = cache_dir / f"stamps-{key}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=_data_of(deb), mode="r:") as archive:
            _unpack(archive, work)
        if not any(work.iterdir()):
            raise wb.BadInput(f"{deb} holds no pictures with texts below usr/share/tuxpaint/stamps")
        try:
            work.rename(folder)
        except OSError:
            if not folder.is_dir():  # if it is, another process was quicker
                raise
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise wb.BadInput(f"{deb} is not a Debian package that can be read ({error})") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _data_of(deb: Path) -> io.BufferedIOBase:
    """Return the files of a Debian package as an unpacked tar."""
    if first_bytes(deb, 8) != b"!<arch>\n":
        raise ValueError("it does not start like one")
    with deb.open("rb") as file:
        file.seek(8)
        while len(head := file.read(60)) == 60:
            name, size = head[:16].decode("ascii", "replace").strip().rstrip("/"), int(head[48:58])
            if name in ("data.tar.xz", "data.tar"):
                part = _Part(deb, file.tell(), size)
                return lzma.LZMAFile(part) if name.endswith(".xz") else part
            file.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError("it has no data.tar.xz")


class _Part(io.BufferedReader):
    """A part of a file, read as a file of its own."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__(_RawPart(path, offset, size))


class _RawPart(io.RawIOBase):
    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb")
        self._start, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        count = max(min(len(buffer), self._size - self._at), 0)
        self._file.seek(self._start + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Write the pictures and texts; each path is made of checked names, and nothing else is written."""
    total = 0
    for member in archive:
        parts = PurePosixPath(member.name).parts
        at = next((i for i, part in enumerate(parts) if part == "stamps"), -1)
        names = parts[at + 1 :]
        wanted = Path(member.name).suffix.lower() in {*PICTURE_ENDINGS, ".svg", ".txt"}
        if not member.isreg() or at < 0 or not names or not wanted:
            continue
        if any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names):
            continue
        total += member.size
        if member.size > MAX_FILE or total > MAX_TOTAL:
            raise ValueError(f"it unpacks to more than {MAX_TOTAL / 1e9:g} GB")
        file = archive.extractfile(member)
        target = folder.joinpath(*names)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file is not None:
            target.write_bytes(file.read())


STAMPS = Loader(
    form="stamps",
    about="Tux Paint's stamps, or pictures with a text in many languages beside each",
    recognises=lambda path: False,  # by its name only: such a folder could be any folder
    read=read_stamps,
    options={
        "photographs": "no (default), or yes for photographs only",
        "languages": f"languages of the captions (default: {LANGUAGES}), or all",
    },
)
