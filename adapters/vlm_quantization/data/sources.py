"""Open a collection by name or path; the forms that can be read are the table :data:`LOADERS`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.vlm_quantization.data.coco import COCO, KARPATHY
from adapters.vlm_quantization.data.flickr import FLICKR
from adapters.vlm_quantization.data.folder import FOLDER, listing_in
from adapters.vlm_quantization.data.imagefolder import IMAGEFOLDER
from adapters.vlm_quantization.data.jsonl import read_jsonl
from adapters.vlm_quantization.data.loader import Loader, Opening, first_bytes
from adapters.vlm_quantization.data.parquet import PARQUET
from adapters.vlm_quantization.data.source_text import Source, joined_text, parse_sources
from adapters.vlm_quantization.data.stamps import (
    CREDITS,
    PREFIX,
    STAMPS,
    check_stamps,
    read_stamps,
    stamps_folder,
)
from adapters.vlm_quantization.data.tabular import TABLE
from adapters.vlm_quantization.data.webdataset import WEBDATASET
from workbench import BadInput

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages, Item, OnProgress
    from adapters.vlm_quantization.data.loader import Onlooker


#: Maximum number of files of a folder among which the nearest name is looked for.
_MOST_NEAR = 1000


def open_collection(
    source: str | os.PathLike[str] | Sequence[str],
    *,
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
    onlooker: Onlooker | None = None,
    spill: Path | None = None,
) -> CaptionedImages:
    """Open a collection, or several joined.

    Parameters
    ----------
    source : str, path or sequence of str
        ``"emoji"``, the default collection: about 1,900 emoji in two drawing styles, named in English and
        Korean; ``"stamps"``, Tux Paint's stamps; or a path of any form in :data:`LOADERS`, such as a folder
        of pictures or a JSONL file. Options follow a question mark, as in
        ``"photos.csv?image=file&caption=title"``. Several are given as a list, or as ``"emoji + stamps"``;
        ids get the collection's name in front where two collections use one id.
    cache_dir : Path, optional
        Folder that caches drawn pictures (about 8 MB) and the digests of decoded ones, so that reopening is
        fast. Default: the user's cache folder for ``"emoji"`` and packages of stamps, none for others.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while pictures are drawn or decoded.
    onlooker : Onlooker, optional
        Is shown the pictures that are decoded; those of a collection whose digests come with it are not.
    spill : Path, optional
        An existing folder. The items are kept in files there instead of in memory, for any number of them,
        if the collection is a folder, JSONL, a table, Parquet, an imagefolder or a WebDataset; others and
        joined ones are in memory.

    Raises
    ------
    BadInput
        ``source`` is neither the name of a collection nor of a known form, an option is unknown, or nothing
        in it is usable; the message names the first problems.
    MissingExtra
        The packages that hold the drawings, or that read the form, are not installed.
    """
    return _read(source, cache_dir, progress, decode=onlooker or True, spill=spill)


def list_collection(
    source: str | os.PathLike[str] | Sequence[str],
    *,
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
) -> CaptionedImages:
    """Open a collection without decoding its pictures: broken ones are not found, and items have no digest.

    Parameters and errors are those of :func:`open_collection`.
    """
    return _read(source, cache_dir, progress, decode=False)


def _read(
    source: str | os.PathLike[str] | Sequence[str],
    cache_dir: Path | None,
    progress: OnProgress | None,
    *,
    decode: bool | Onlooker,
    spill: Path | None = None,
) -> CaptionedImages:
    sources = parse_sources(source_text(source))
    collections = []
    for one in sources:
        known = recognised(one)
        if unknown := sorted(one.options.keys() - known.options.keys()):
            options = ", ".join(known.options) or "none"
            raise BadInput(
                f"{one}: unknown option {unknown[0]!r} for {known.about.split(' (')[0]}; options: {options}"
            )
        # Several are joined in memory.
        opening = Opening(one.options, cache_dir, progress, decode, spill if len(sources) == 1 else None)
        collections.append(known.read(one.place, opening))
    return collections[0] if len(collections) == 1 else _joined(collections)


def source_text(source: str | os.PathLike[str] | Sequence[str]) -> str:
    """Return the text of a source that may be given as a path or a list."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return joined_text([one for text in source for one in parse_sources(text)])


def absolute_source(text: str) -> str:
    """Return the text of a source with absolute paths: a job has another working directory.

    Raises
    ------
    BadInput
        As :func:`~adapters.vlm_quantization.data.source_text.parse_sources`.
    """
    return joined_text([replace(one, place=_absolute(one.place)) for one in parse_sources(text)])


def short_name(text: str) -> str:
    """Return a name for what is made of a source: letters, digits and hyphens, such as ``emoji-stamps``."""
    stems = [Path(one.place.removeprefix(PREFIX)).stem for one in parse_sources(text)]
    return re.sub(r"\W+", "-", "-".join(stems)).strip("-")[:60] or "collection"


def _absolute(place: str) -> str:
    if place in NAMED:
        return place
    prefix = PREFIX if place.startswith(PREFIX) else ""
    return prefix + str(Path(place.removeprefix(prefix)).expanduser().resolve())


# --- which form a source has --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A source of a known form: the form's name, what it is, its options, and how to read it."""

    form: str
    about: str
    options: Mapping[str, str]
    read: Callable[[str, Opening], CaptionedImages]


def recognised(source: Source) -> Known:
    """Return the form of a source, by names and first bytes only.

    Raises
    ------
    BadInput
        It does not exist, or is of no known form; the message names the nearest file.
    """
    if source.place in NAMED:
        return NAMED[source.place]
    if source.place.startswith(PREFIX):
        check_stamps(source.place)
        return NAMED["stamps"]
    path = Path(source.place)
    for loader in LOADERS:
        if loader.recognises(path):
            return Known(loader.form, loader.about, loader.options, partial(_read_path, loader))
    if path.is_file():
        raise BadInput(f"collection {source.place!r} is of no known form", hint=_FORMS)
    near = _nearest_file(path)
    meant = f". Did you mean {near!r}?" if near else ""
    names = " nor ".join(map(repr, NAMED))
    raise BadInput(
        f"collection {source.place!r} not found: neither {names} nor a file or folder{meant}", hint=_FORMS
    )


def _read_path(loader: Loader, place: str, opening: Opening) -> CaptionedImages:
    return loader.read(Path(place), opening)


def why_no_captions(source: str) -> str:
    """Return why nothing can be trained on a collection, if its form tells; empty if it may have captions."""
    sources = parse_sources(source)
    if any(recognised(one).form != "folder" or "captions_from" in one.options for one in sources):
        return ""
    place = sources[0].place
    listed = listing_in(Path(place))
    meant = (
        f". Did you mean {str(listed)!r}?"
        if listed
        else f"; with the files' names: {place}?captions_from=name"
    )
    return f"{place!r} is a folder of pictures alone, with no captions{meant}"


def check_source(source: str) -> None:
    """Raise unless each collection that a text names exists and has a known form; none is read.

    Raises
    ------
    BadInput
        One does not; the message names the nearest file.
    """
    for one in parse_sources(source):
        if one.place == "stamps":
            check_stamps(one.place)
        known = recognised(one)
        if unknown := sorted(one.options.keys() - known.options.keys()):
            raise BadInput(
                f"{one.place}: unknown option {unknown[0]!r}; options: {', '.join(known.options) or 'none'}"
            )


def _nearest_file(path: Path) -> str:
    """Return the JSONL file, or the named collection, that is probably meant; empty if there is none."""
    try:
        files = [
            file.name
            for file in sorted(path.parent.iterdir())[:_MOST_NEAR]
            if any(loader.recognises(file) for loader in LOADERS)
        ]
    except OSError:
        files = []
    near = difflib.get_close_matches(path.name, [*files, *NAMED], n=1)
    return "" if not near else near[0] if near[0] in NAMED else str(path.with_name(near[0]))


# --- joining ------------------------------------------------------------------------------------------------


def _joined(collections: Sequence[CaptionedImages]) -> CaptionedImages:
    """Return several collections as one; each keeps its splits, concepts and order."""
    from adapters.vlm_quantization.data.collection import CaptionedImages, UnusableLine

    names = _apart([one.name for one in collections])
    seen: dict[str, set[int]] = {}
    for number, collection in enumerate(collections):
        for item in collection.items:
            for name in (item.id, item.concept):
                seen.setdefault(name, set()).add(number)
    clashing = {name for name, places in seen.items() if len(places) > 1}

    def renamed(item: Item, name: str) -> Item:
        own = {text: f"{name}/{text}" for text in (item.id, item.concept) if text in clashing}
        return replace(item, id=own.get(item.id, item.id), concept=own.get(item.concept, item.concept))

    return CaptionedImages(
        " + ".join(names),
        [renamed(item, name) for name, one in zip(names, collections, strict=True) for item in one.items],
        credits=[credit for one in collections for credit in one.credits],
        problems=[
            UnusableLine(problem.line, f"{name}: {problem.message}")
            for name, one in zip(names, collections, strict=True)
            for problem in one.problems
        ],
        notes=[f"{name}: {note}" for name, one in zip(names, collections, strict=True) for note in one.notes],
    )


def _apart(names: Sequence[str]) -> list[str]:
    """Return names made different from each other by numbers."""
    out: list[str] = []
    for name in names:
        number = sum(one == name or one.startswith(f"{name} ") for one in out)
        out.append(f"{name} {number + 1}" if name in out else name)
    return out


# --- the tables ---------------------------------------------------------------------------------------------


def _emoji(_: str, opening: Opening) -> CaptionedImages:
    from adapters.vlm_quantization.data.emoji.emoji import open_emoji

    cache_dir = opening.cache_dir
    if cache_dir is None:
        import platformdirs

        cache_dir = platformdirs.user_cache_path("notebook-workbench")
    return open_emoji(Path(cache_dir), opening.progress)


def _stamps(place: str, opening: Opening) -> CaptionedImages:
    collection = read_stamps(stamps_folder(place, opening.cache_dir), opening)
    if place.endswith(".deb"):
        collection.credits = list(CREDITS)
    return collection


#: Collections that are known by name.
NAMED: Mapping[str, Known] = {
    "emoji": Known("emoji", "about 1,900 emoji in two drawing styles, in English and Korean", {}, _emoji),
    "stamps": Known("stamps", STAMPS.about, STAMPS.options, _stamps),
}


def _is_jsonl(path: Path) -> bool:
    """Return whether a file is JSONL, or so near to it that its reader says best what is wrong with it."""
    if not path.is_file():
        return False
    start = first_bytes(path, 64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return ".jsonl" in path.name.lower() or path.suffix.lower() == ".ndjson" or start in (b"{", b"[")


def _read_jsonl(path: Path, opening: Opening) -> CaptionedImages:
    return read_jsonl(
        path,
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
    )


JSONL = Loader(
    form="jsonl",
    about="JSONL with image, captions and labels per line, or one caption per line",
    recognises=_is_jsonl,
    read=_read_jsonl,
)


#: The forms that are read, in the order in which they are tried: the particular ones first.
LOADERS: Sequence[Loader] = (
    KARPATHY,
    COCO,
    FLICKR,
    PARQUET,
    TABLE,
    IMAGEFOLDER,
    WEBDATASET,
    JSONL,
    FOLDER,
)


def forms_in_words() -> str:
    """Return what a collection can be, for descriptions of options and for errors."""
    names = " or ".join(f"'{name}'" for name in NAMED)
    return f"{names}, or the path of: " + "; ".join(loader.about for loader in LOADERS)


_FORMS = f"It can be {forms_in_words()}."
