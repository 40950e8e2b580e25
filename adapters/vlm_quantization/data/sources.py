"""Open a collection by name or path; register a new loader in :data:`NAMED`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import BadInput

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress


#: Maximum number of files of a folder among which the nearest name is looked for.
_MOST_NEAR = 1000


def open_collection(
    source: str | os.PathLike[str], *, cache_dir: Path | None = None, progress: OnProgress | None = None
) -> CaptionedImages:
    """Open a collection.

    Parameters
    ----------
    source : str or path
        ``"emoji"``, the default collection: about 1,900 emoji in two drawing styles, named in English and
        Korean. Or the path of a JSONL file with ``{"image", "captions": {"en": [...]}, "labels": [...]}`` per
        line; see :mod:`adapters.vlm_quantization.data.jsonl`.
    cache_dir : Path, optional
        Folder that caches drawn pictures (about 8 MB) and the digests of decoded ones, so that reopening is
        fast. Default: the user's cache folder for ``"emoji"``, none for a file.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while pictures are drawn or decoded.

    Raises
    ------
    BadInput
        ``source`` is neither the name of a collection nor a file, or no line of the file is valid; the
        message names the first problems.
    MissingExtra
        The packages that hold the drawings are not installed.
    """
    name = os.fspath(source)
    if name in NAMED:
        return NAMED[name](cache_dir, progress)
    check_source(name)
    from adapters.vlm_quantization.data.jsonl import read_jsonl

    return read_jsonl(Path(name), cache_dir=cache_dir, progress=progress)


def check_source(source: str) -> None:
    """Raise unless a collection of that name, or a file, exists; the file is not read.

    Raises
    ------
    BadInput
        Neither exists; the message names the nearest file.
    """
    path = Path(source)
    if source in NAMED or path.is_file():
        return
    near = _nearest_file(path)
    meant = f". Did you mean {near!r}?" if near else ""
    kind = "a folder, not a file" if path.is_dir() else f"neither {' nor '.join(map(repr, NAMED))} nor a file"
    raise BadInput(
        f"collection {source!r} not found: {kind}{meant}",
        hint="Give the path of a JSONL file with image, captions and labels per line.",
    )


def _nearest_file(path: Path) -> str:
    """Return the JSONL file, or the named collection, that is probably meant; empty if there is none."""
    try:
        folder = path if path.is_dir() else path.parent
        files = [file.name for file in sorted(folder.glob("*.jsonl"))[:_MOST_NEAR]]
    except OSError:
        return ""
    if path.is_dir():
        return str(path / files[0]) if files else ""
    near = difflib.get_close_matches(path.name, [*files, *NAMED], n=1)
    return "" if not near else near[0] if near[0] in NAMED else str(path.with_name(near[0]))


def _emoji(cache_dir: Path | None, progress: OnProgress | None) -> CaptionedImages:
    from adapters.vlm_quantization.data.emoji.emoji import open_emoji

    if cache_dir is None:
        import platformdirs

        cache_dir = platformdirs.user_cache_path("notebook-workbench")
    return open_emoji(Path(cache_dir), progress)


#: Loaders of the named collections.
NAMED: Mapping[str, Callable[[Path | None, OnProgress | None], CaptionedImages]] = {"emoji": _emoji}
