"""Open a collection by name or path; register a new loader in :data:`NAMED`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import BadInput

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress


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
    if not Path(name).is_file():
        raise BadInput(
            f"collection {name!r} not found: neither {' nor '.join(map(repr, NAMED))} nor a file",
            hint="Give the path of a JSONL file with image, captions and labels per line.",
        )
    from adapters.vlm_quantization.data.jsonl import read_jsonl

    return read_jsonl(Path(name), cache_dir=cache_dir, progress=progress)


def _emoji(cache_dir: Path | None, progress: OnProgress | None) -> CaptionedImages:
    from adapters.vlm_quantization.data.emoji.emoji import open_emoji

    if cache_dir is None:
        import platformdirs

        cache_dir = platformdirs.user_cache_path("notebook-workbench")
    return open_emoji(Path(cache_dir), progress)


#: Loaders of the named collections.
NAMED: Mapping[str, Callable[[Path | None, OnProgress | None], CaptionedImages]] = {"emoji": _emoji}
