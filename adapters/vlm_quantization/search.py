"""Search an index: exact by Hamming distance on prefixes of the stored code, or by cosine of the features.

Rows of an index are sorted by item id, so hits of one distance or score stand in the order of their ids,
whatever library ranked them.
"""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

import workbench as wb
from adapters.vlm_quantization import index_files as files
from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoder
from adapters.vlm_quantization.ranking import (
    FAISS_THREADS,
    PrefixCodes,
    check_k,
    cosine_search,
    hamming_search,
)

__all__ = [
    "Index",
    "SearchOptions",
    "cosine_search",
    "hamming_search",
    "load_index",
    "search_image",
    "search_item",
    "search_text",
]

METHODS = ("hamming", "cosine")


#: Languages by the names they give themselves.
LANGUAGE_NAMES = {"en": "English", "ko": "한국어"}


def _as_length(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class SearchOptions(wb.Options):
    """What a search can be asked for besides its query and k."""

    bits: Annotated[Literal[8, 16, 32, 64, 128], BeforeValidator(_as_length)] = Field(
        128,
        title="Code length",
        description="How many leading bits of the stored code are compared; short codes are coarser.",
        json_schema_extra={"x-labels": {str(length): str(length) for length in CODE_LENGTHS}},
    )
    method: Literal["hamming", "cosine"] = Field(
        "hamming",
        title="Method",
        description="Hamming compares codes; cosine compares the float features, whatever the code length.",
        json_schema_extra={"x-labels": {"hamming": "Hamming", "cosine": "Cosine"}},
    )
    target: Literal["pictures", "captions"] = Field(
        "pictures",
        title="Find",
        description="What is looked for.",
        json_schema_extra={"x-labels": {"pictures": "Pictures", "captions": "Captions"}},
    )


_SIDE_OF_TARGET = {"pictures": "images", "captions": "captions"}
_NOUN = {"images": ("picture", "pictures"), "captions": ("caption", "captions")}


# --- an opened index ----------------------------------------------------------------------------------------


class ItemLines:
    """Items of a JSON-lines file, memory-mapped and parsed one by one when asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        empty = path.stat().st_size == 0
        self._bytes = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, mode="r")
        self._ends = np.flatnonzero(self._bytes == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        start = self._ends[row - 1] + 1 if row else 0
        item: dict[str, Any] = json.loads(self._bytes[start : self._ends[row]].tobytes())
        return item

    def find(self, item_id: str) -> int | None:
        """Return the row of an item by bisection, or None; rows are sorted by id."""
        row = bisect.bisect_left(range(len(self)), item_id, key=lambda row: self[row]["id"])
        return row if row < len(self) and self[row]["id"] == item_id else None


class Side:
    """One side of an index: pictures or captions.

    Attributes
    ----------
    items : ItemLines
        What is known of each row.
    codes : ndarray, uint8, shape (n, 16)
    features : ndarray, float32, shape (n, d)
        Both memory-mapped.
    """

    def __init__(self, folder: Path, name: str, manifest: files.Manifest) -> None:
        n = manifest.counts.get(name, -1)
        self.name = name
        self.items = ItemLines(folder / files.items_file(name))
        self.codes = _rows(folder / files.codes_file(name), np.uint8, (n, CODE_BITS // 8))
        self.features = _rows(folder / files.features_file(name), np.float32, (n, manifest.feature_dim))
        if len(self.items) != n:
            raise wb.CorruptFile(
                folder / files.items_file(name), f"has {len(self.items)} items, the manifest says {n}"
            )
        self.prefixes = PrefixCodes(self.codes)

    def __len__(self) -> int:
        return len(self.items)


def _rows(path: Path, dtype: type, shape: tuple[int, int]) -> NDArray[Any]:
    rows = files.open_rows(path)
    if rows.dtype != dtype or rows.shape != shape:
        raise wb.CorruptFile(path, f"holds {rows.dtype} {rows.shape} instead of {np.dtype(dtype)} {shape}")
    return rows


class Index:
    """An index folder, opened and checked. Make one with :func:`load_index`.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : Manifest
        What it is made of.
    encoder : Encoder
        The model that made it, for queries.
    sides : mapping of str to Side
        ``"images"`` and ``"captions"``.
    """

    def __init__(
        self, path: Path, manifest: files.Manifest, encoder: Encoder, *, threads: int = FAISS_THREADS
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = encoder
        self.threads = threads
        self.sides: Mapping[str, Side] = {name: Side(path, name, manifest) for name in files.SIDES}
        blob = path / files.THUMBNAILS
        self._thumbnails = np.memmap(blob, np.uint8, mode="r")
        self._offsets = files.open_rows(path / files.THUMBNAIL_OFFSETS)
        if (
            self._offsets.shape != (len(self.sides["images"]) + 1,)
            or self._offsets[0] != 0
            or self._offsets[-1] != len(self._thumbnails)
            or (np.diff(self._offsets) < 0).any()
        ):
            raise wb.CorruptFile(path / files.THUMBNAIL_OFFSETS, f"does not fit {blob.name}")

    def __len__(self) -> int:
        return len(self.sides["images"])

    def __repr__(self) -> str:
        return f"<Index {self.manifest.name!r}: {len(self)} pictures, {len(self.sides['captions'])} captions>"

    def thumbnail(self, row: int) -> bytes:
        """Return the encoded thumbnail of a picture by row."""
        return self._thumbnails[self._offsets[row] : self._offsets[row + 1]].tobytes()

    def describe(self) -> dict[str, Any]:
        """Return what a search page says of the index."""
        spoken = " or ".join(LANGUAGE_NAMES.get(tag, tag) for tag in self.manifest.languages)
        pictures = f"{len(self):,} {'picture' if len(self) == 1 else 'pictures'}"
        return {
            "title": "Image search",
            "subtitle": f"{self.manifest.title}: {pictures} · type in {spoken}, or drop a picture",
            "count": len(self),
            "credits": self.manifest.credits,
        }

    def search(
        self,
        code: NDArray[np.uint8],
        feature: NDArray[np.float32],
        *,
        side: str = "images",
        bits: int = 64,
        method: str = "hamming",
        k: int = 20,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float64]]:
        """Rank one side for one encoded query.

        Parameters
        ----------
        code : ndarray, uint8, shape (16,)
            Used by ``"hamming"``.
        feature : ndarray, float32, shape (d,)
            Used by ``"cosine"``.
        side : {"images", "captions"}
            What is looked for.
        bits, method, k
            As in :class:`SearchOptions`.

        Returns
        -------
        rows, values : ndarray
            Distances for ``"hamming"``, cosines for ``"cosine"``; best first, ties by item id.

        Raises
        ------
        workbench.BadInput
            A side, length, method, k or query that cannot be used; the message says what is allowed.
        """
        if side not in self.sides:
            raise wb.BadInput(f"no side {side!r}. Allowed: {', '.join(files.SIDES)}")
        if method == "hamming":
            return self.sides[side].prefixes.search(code, bits=bits, k=k, threads=self.threads)
        if method == "cosine":
            return cosine_search(self.sides[side].features, feature, k=k)
        raise wb.BadInput(f"no method {method!r}. Allowed: {', '.join(METHODS)}")


def load_index(
    path: Path,
    encoder_loader: Callable[[Path | None], Encoder],
    *,
    verify: bool = True,
    threads: int = FAISS_THREADS,
) -> Index:
    """Open an index folder.

    Parameters
    ----------
    path : Path
        The folder.
    encoder_loader : callable
        Given the checkpoint inside the folder (None where the index carries none), returns the encoder.
    verify : bool
        Read every file and compare its SHA-256. Sizes, shapes and the manifest are checked always.
    threads : int
        Threads of one Hamming search.

    Raises
    ------
    workbench.UnknownIndex
        There is no such folder.
    workbench.CorruptFile
        A file is missing, altered or does not fit the others; the message names it.
    workbench.BadInput
        The encoder is not the one that made the index.
    """
    path = Path(path)
    if not path.exists() and files.aside(path).exists():
        path = files.aside(path)  # a crash while the index was being replaced; the next build settles it
    if not path.is_dir():
        known = sorted(other.parent.name for other in path.parent.glob(f"[!.]*/{files.MANIFEST}"))
        raise wb.UnknownIndex(path.name, known)
    manifest = files.read_manifest(path)
    files.check_files(path, manifest, checksums=verify)
    if (file := manifest.model.get("file")) is not None and file not in manifest.files:
        raise wb.CorruptFile(path / files.MANIFEST, f"does not seal the checkpoint {file!r}")
    encoder = encoder_loader(None if file is None else path / file)
    if encoder.fingerprint != manifest.model["fingerprint"]:
        raise wb.BadInput(
            f"index {manifest.name!r} was made by model {manifest.model['name']!r} of fingerprint "
            f"{manifest.model['fingerprint']}, not by {encoder.name!r} of {encoder.fingerprint}",
            hint="Open it with the model that made it, or build it again.",
        )
    return Index(path, manifest, encoder, threads=threads)


# --- queries of people --------------------------------------------------------------------------------------


def search_text(index: Index, query: str, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find pictures or captions by a text.

    Raises
    ------
    workbench.BadInput
        An empty query, or ``k`` below 1.
    """
    if not query.strip():
        raise wb.BadInput("the query is empty", hint="Type a word or two.")
    start = time.perf_counter()
    encoded = index.encoder.encode_texts([query.strip()])
    took = (time.perf_counter() - start) * 1e3
    return _answer(index, encoded.codes[0], encoded.features[0], "captions", k, options, took)


def search_image(index: Index, data: bytes, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find pictures or captions by an encoded picture (JPEG, PNG, WebP).

    Raises
    ------
    workbench.BadInput
        Bytes that are no such picture, or ``k`` below 1.
    """
    from adapters.vlm_quantization.pictures import decode_picture

    start = time.perf_counter()
    encoded = index.encoder.encode_images([decode_picture(data)])
    took = (time.perf_counter() - start) * 1e3
    return _answer(index, encoded.codes[0], encoded.features[0], "images", k, options, took)


def search_item(index: Index, item_id: str, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find more like an item of the index, picture or caption; the item itself is left out.

    Raises
    ------
    workbench.NotFound
        No item of that id.
    """
    for name, side in index.sides.items():
        row = side.items.find(item_id)
        if row is not None:
            return _answer(index, side.codes[row], side.features[row], name, k, options, 0.0, leave_out=row)
    raise wb.NotFound(f"no item {item_id!r} in index {index.manifest.name!r}")


def _answer(
    index: Index,
    code: NDArray[np.uint8],
    feature: NDArray[np.float32],
    query_side: str,
    k: int,
    options: SearchOptions,
    encode_ms: float,
    *,
    leave_out: int | None = None,
) -> wb.SearchResult:
    """Rank, and turn rows into hits."""
    name = _SIDE_OF_TARGET[options.target]
    side = index.sides[name]
    itself = leave_out is not None and name == query_side
    start = time.perf_counter()
    rows, values = index.search(
        code, feature, side=name, bits=options.bits, method=options.method, k=check_k(k) + itself
    )
    if itself:
        kept = rows != leave_out
        rows, values = rows[kept][:k], values[kept][:k]
    searched = time.perf_counter()
    hits = [_hit(index, name, row, value, options) for row, value in zip(rows, values, strict=True)]
    took = {
        "encode": encode_ms,
        "search": (searched - start) * 1e3,
        "fetch": (time.perf_counter() - searched) * 1e3,
    }
    there = len(side) - itself
    note = ""
    if k > there:
        noun = _NOUN[name][there != 1]
        other = "other " if itself else ""
        note = f"the index holds {there:,} {other}{noun}, so {there:,} {'is' if there == 1 else 'are'} shown"
    return wb.SearchResult(hits, took, note=note, cutoff=_cutoff(index, query_side, name, values, options))


def _hit(index: Index, side: str, row: int, value: float, options: SearchOptions) -> wb.Hit:
    item = index.sides[side].items[int(row)]
    if options.method == "hamming":
        score, distance = 1 - float(value) / options.bits, float(value)
        label = f"{int(value)}/{options.bits}"
    else:
        score, distance = float(value), None
        label = f"{score:z.2f}"
    return wb.Hit(
        id=item["id"],
        score=score,
        distance=distance,
        caption=item["caption"],
        subtitle=item["subtitle"],
        thumbnail=index.thumbnail(int(row)) if side == "images" else None,
        label=label,
        meter=min(max(score, 0.0), 1.0),
    )


def _cutoff(
    index: Index, query_side: str, side: str, values: NDArray[Any], options: SearchOptions
) -> int | None:
    """Count the leading hits that are nearer than all but one in a thousand unrelated pairs are."""
    tails = index.manifest.thresholds.get(files.pair_key(query_side, side), {})
    if options.method == "hamming":
        limit = tails.get(str(options.bits))
        return None if limit is None else int((values <= limit).sum())
    limit = tails.get("cosine")
    return None if limit is None else int((values > limit).sum())
