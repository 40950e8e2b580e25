"""An opened index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import Encoder
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.blocks import Checks
from adapters.vlm_quantization.index.items import ItemFile, ItemLines, Items
from adapters.vlm_quantization.index.names import KEY, ROW, Named, NameFile, Names
from adapters.vlm_quantization.index.ranking import cosine_search
from adapters.vlm_quantization.index.thumbnails import Thumbnails
from adapters.vlm_quantization.neighbours.prefix_codes import THREADS, PrefixCodes
from adapters.vlm_quantization.search.filters import ItemFilters
from adapters.vlm_quantization.search.item_fields import PRIVATE
from adapters.vlm_quantization.search.languages import joined, names_of
from adapters.vlm_quantization.search.options import METHODS, NEED_FEATURES

#: More languages than this are counted instead of named in a subtitle, except those of the captions.
_LANGUAGES_NAMED = 3


#: Number of languages of captions that a subtitle names.
_NAMED_LANGUAGES = 4


#: Values of ``provenance["words"]`` of an index in which words find little, or cannot be searched with.
HARDLY, NOT = "hardly", "not"


_GET_WORDS = (
    "To search with words, index them with an encoder of pictures and texts, such as a SigLIP 2 model, or "
    "train on captions."
)


#: What a search page says about the codes, by ``provenance["codes"]``.
_CODES = {
    "itq": "Nothing was trained: the codes are fitted to these pictures (ITQ).",
    "sign": "Nothing was trained: the codes are signs of these pictures' principal components.",
}


#: What a search page says about words.
_WORDS = {
    NOT: f"The encoder reads pictures only: this index knows no words. {_GET_WORDS}",
    HARDLY: f"The model was trained on other pictures, so words find little here. {_GET_WORDS}",
}


# --- an opened index ----------------------------------------------------------------------------------------


class Side:
    """One side of an index: pictures or captions.

    Nothing of its size is read when it is opened, unless the index is of a format before 3.

    Attributes
    ----------
    items : Items
        Stored data of each row.
    codes : Columns, uint8, shape (n, bytes)
        Memory-mapped column by column; indexed by row as a table is.
    features : Features, float32, shape (n, d)
        Memory-mapped; indexed by row.
    """

    def __init__(self, folder: Path, name: str, manifest: files.Manifest, checks: Checks) -> None:
        n = manifest.counts.get(name, -1)
        self.name = name
        self.items: Items
        self._stored_names: NameFile | None = None
        if files.is_old(manifest):
            self.items = ItemLines(folder / files.lines_file(name), name)
            if len(self.items) != n:
                raise wb.CorruptFile(
                    folder / files.lines_file(name),
                    f"must have {n} items as in the manifest, not {len(self.items)}",
                    hint=_REBUILD,
                )
        else:
            self.items = ItemFile(checks.file(files.items_file(name)), name, n)
            self._stored_names = _open_names(folder, name, n, checks)
        self.codes = files.open_codes(folder, manifest, name, checks)
        self.features = files.open_features(folder, manifest, name, checks)
        self.prefixes = PrefixCodes(self.codes)
        self.prefixes.prepare()

    @cached_property
    def names(self) -> Named:
        """The names of the items; those of an old index are read when they are first asked for."""
        return self._stored_names or Names(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def check(self, folder: Path) -> None:
        """Read every row, and check the items, their names and the features.

        Raises
        ------
        workbench.CorruptFile
            An item lacks a field, the items or names are not in order, or a feature is not of unit norm.
        """
        self.items.check()
        if self._stored_names is not None:
            self._stored_names.check()
        for start in range(0, len(self) if self.features.present else 0, _ROWS_AT_ONCE):
            part = np.asarray(self.features[start : start + _ROWS_AT_ONCE], np.float64)
            # A NaN fails the comparison, so one check detects NaN, infinity and a wrong norm.
            unit = np.abs(np.einsum("ij,ij->i", part, part) - 1) < 0.03
            if not unit.all():
                row = start + int(np.argmin(unit))
                raise wb.CorruptFile(
                    folder / files.features_file(self.name), f"row {row} is not of unit norm", hint=_REBUILD
                )


def _open_names(folder: Path, side: str, n: int, checks: Checks) -> NameFile:
    """Open the names of a side, of which there may be any number."""
    keys, rows = (folder / name for name in files.names_files(side))
    stored = files.open_rows(keys)
    shape = stored.shape if stored.ndim == 1 else (0,)
    return NameFile(
        files.open_checked(keys, KEY, shape, checks), files.open_checked(rows, ROW, shape, checks), n
    )


_ROWS_AT_ONCE = 16_384


_REBUILD = "Build the index again."


class Index:
    """An index folder, opened and checked; see :func:`load_index`.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : Manifest
        Its manifest.
    encoder : Encoder
        The model that made it, to encode queries.
    sides : mapping of str to Side
        ``"images"`` and ``"captions"``.
    """

    def __init__(
        self, path: Path, manifest: files.Manifest, encoder: Encoder, *, threads: int = THREADS
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.encoder = encoder
        self.threads = threads
        self.checks = files.checks_of(path, manifest)
        self.sides: Mapping[str, Side] = {
            name: Side(path, name, manifest, self.checks) for name in files.SIDES
        }
        self._thumbnails = Thumbnails(
            [self.checks.file(name) for name in files.shards_of(manifest)],
            files.open_checked(
                path / files.THUMBNAIL_OFFSETS, np.int64, (len(self.sides["images"]) + 1,), self.checks
            ),
        )

    def __len__(self) -> int:
        return len(self.sides["images"])

    def __repr__(self) -> str:
        return f"<Index {self.manifest.name!r}: {len(self)} pictures, {len(self.sides['captions'])} captions>"

    def thumbnail(self, row: int) -> bytes:
        """Return the encoded thumbnail of a picture by row."""
        return self._thumbnails[row]

    def check(self) -> None:
        """Read everything, and check it.

        Raises
        ------
        workbench.CorruptFile
            A file was altered, or what it holds is wrong; the message names it.
        """
        self.checks.check_all()
        self._thumbnails.check()
        for side in self.sides.values():
            side.check(self.path)

    def picture_path(self, row: int) -> str:
        """Return the path of a picture's file, as it was when the index was built; empty if there is none."""
        root, path = self.manifest.provenance.get("root"), self.sides["images"].items[row].get("path")
        return str(Path(root, path)) if root and path else ""

    def picture_file(self, item_id: str) -> Path:
        """Return the file of a picture, once it is known to be the one that was indexed.

        It must still be inside the folder that held the pictures, with symlinks resolved, and have the size
        and the time of modification of then. Indexes of before these were kept: it must be older than the
        index.

        Raises
        ------
        workbench.NotFound
            There is no such picture, it has no file of its own, or the file is missing.
        workbench.WrongState
            The file has changed, or its path leads elsewhere.
        """
        side = self.sides["images"]
        row = side.items.find(item_id)
        if row is None:
            raise wb.NotFound(f"no picture {item_id!r} in index {self.manifest.name!r}")
        path = self.picture_path(row)
        if not path:
            raise wb.NotFound(
                f"picture {item_id!r} has no file of its own",
                hint="It is part of a package or of a database.",
            )
        try:
            real = Path(path).resolve(strict=True)
            status = real.stat()
        except NotADirectoryError:
            raise wb.NotFound(f"picture {item_id!r} is inside an archive", advice=path) from None
        except (OSError, ValueError) as error:
            raise wb.NotFound(
                f"the file of picture {item_id!r} is missing",
                hint="Index the pictures again.",
                advice=f"{path}: {getattr(error, 'strerror', None) or error}",
            ) from None
        root = Path(str(self.manifest.provenance["root"])).resolve()
        if not real.is_relative_to(root) or not real.is_file():
            raise wb.WrongState(
                f"the path of picture {item_id!r} leads out of the folder that was indexed", advice=path
            )
        known = side.items[row].get("file")
        if known is None:
            same = status.st_mtime_ns <= (self.path / files.MANIFEST).stat().st_mtime_ns
        else:
            same = known == [status.st_size, status.st_mtime_ns]
        if not same:
            raise wb.WrongState(
                f"the file of picture {item_id!r} has changed since it was indexed",
                hint="Index the pictures again.",
                advice=path,
            )
        return real

    @cached_property
    def filters(self) -> ItemFilters:
        """Filters over the items; nothing is read before the first one."""
        return ItemFilters({name: side.items for name, side in self.sides.items()})

    @property
    def words(self) -> str:
        """How well words find pictures: ``"well"``, ``"hardly"`` or, if texts are not encoded, ``"not"``."""
        words = self.manifest.provenance.get("words")
        return words if words in (HARDLY, NOT) else "well"

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Languages to search in: those the model knows, the captions' own first; else the captions' own."""
        known: tuple[str, ...] = getattr(self.encoder, "languages", ())
        if self.words == NOT:
            return ()
        own = [tag for tag in self.manifest.languages if not known or tag in known]
        return tuple(dict.fromkeys([*own, *known]))

    def describe(self) -> dict[str, Any]:
        """Return title, subtitle, count, credits, the languages it knows, and how it is best searched."""
        names = names_of(self.languages)
        own = sum(tag in self.languages for tag in self.manifest.languages)
        own = min(max(1, own), _NAMED_LANGUAGES)
        if len(names) > max(own, _LANGUAGES_NAMED):
            names = [*names[:own], f"{len(names) - own} other languages"]
        pictures = f"{len(self):,} {'picture' if len(self) == 1 else 'pictures'}"
        ways = "drop a picture"
        if names:
            typed = f"type in {joined(names)}"
            ways = f"{typed}, or {ways}" if self.words == "well" else f"{ways}, or {typed}"
        return {
            "title": "Image search",
            "subtitle": f"{self.manifest.title}: {pictures} · {ways}",
            "count": len(self),
            "credits": self.manifest.credits,
            "languages": list(self.languages),
            "lead": "text" if self.words == "well" else "picture",
            "note": " ".join(filter(None, [_CODES.get(self._method), _WORDS.get(self.words)])),
            **({"private_fields": sorted(PRIVATE)} if self.manifest.provenance.get("root") else {}),
            **({"by": ["image", "item"]} if self.words == NOT else {}),
            **({"choices": choices} if (choices := self._choices()) else {}),
        }

    def _choices(self) -> dict[str, list[str]]:
        """Return the values of options that can be chosen, where these are not all."""
        choices = {}
        if not len(self.sides["captions"]):
            choices["target"] = ["pictures"]
        if self.manifest.features == "none":
            choices["method"] = [method for method in METHODS if method not in NEED_FEATURES]
            choices["rescore"] = ["auto", "none", "bits"]
        return choices

    @property
    def _method(self) -> str:
        return str(self.manifest.provenance.get("codes", ""))

    def search(
        self,
        code: NDArray[np.uint8],
        feature: NDArray[np.float32] | None,
        *,
        side: str = "images",
        bits: int = 64,
        method: str = "hamming",
        k: int = 20,
        radius: int | None = None,
        among: NDArray[np.bool_] | NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | NDArray[np.float64]]:
        """Rank one side for one encoded query.

        Parameters
        ----------
        code : ndarray, uint8, shape (bytes,)
            Used by ``"hamming"``.
        feature : ndarray, float32, shape (d,), or None
            Used by ``"cosine"``, and not needed otherwise.
        side : {"images", "captions"}
            What to search for.
        bits, method, k, radius
            As in :class:`adapters.vlm_quantization.search.options.SearchOptions`; with a radius, all within
            it are returned, whatever ``k`` is.
        among : ndarray, bool (n,) or int64 (m,), optional
            The items that may be found: True for each, or their rows in ascending order. All if not given.

        Returns
        -------
        rows, values : ndarray
            Distances for ``"hamming"``, cosines for ``"cosine"``; best first, ties by item id.

        Raises
        ------
        workbench.BadInput
            The side, length, method, k or query is invalid, and the message lists what is allowed; or the
            method needs features, and the index has none.
        workbench.CorruptFile
            A file was altered; this is found before it is used.
        """
        if side not in self.sides:
            raise wb.BadInput(f"unknown side {side!r}. Allowed: {', '.join(files.SIDES)}")
        if method == "hamming":
            prefixes = self.sides[side].prefixes
            if radius is not None:
                return prefixes.within(code, bits=bits, radius=radius, among=among)
            return prefixes.search(code, bits=bits, k=k, threads=self.threads, among=among)
        if method == "cosine":
            features = self.sides[side].features
            return cosine_search(features, features.query(feature), k=k, among=among)
        raise wb.BadInput(f"unknown method {method!r}. Allowed: {', '.join(METHODS)}")

    def measure(
        self,
        code: NDArray[np.uint8],
        feature: NDArray[np.float32] | None,
        rows: NDArray[np.int64],
        *,
        side: str,
        bits: int,
        method: str,
    ) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return the distances or cosines of some rows, as :meth:`search` does."""
        one = self.sides[side]
        if method == "hamming":
            differing = np.bitwise_count(one.codes[rows][:, : bits // 8] ^ code[: bits // 8])
            distances: NDArray[np.int64] = differing.sum(axis=1, dtype=np.int64)
            return distances
        query = one.features.query(feature)
        cosines: NDArray[np.float64] = (one.features[rows].astype(np.float64) * query).sum(axis=1)
        return cosines

    def feature(self, side: str, row: int) -> NDArray[np.float32] | None:
        """Return the feature of an item, float32 (d,); None if the index has no features."""
        features = self.sides[side].features
        return features[row] if features.present else None


def load_index(
    path: Path,
    encoder_loader: Callable[[Path | None], Encoder],
    *,
    adapter: str = files.ADAPTER,
    verify: bool | None = None,
    threads: int = THREADS,
) -> Index:
    """Open an index folder.

    Parameters
    ----------
    path : Path
        The folder.
    encoder_loader : callable
        Returns the encoder from the path of the checkpoint in the folder (None if the index has none).
    adapter : str
        The adapter that it must belong to.
    verify : bool, optional
        Read every file now, compare its checksums, and check every item and feature. Sizes, shapes, the
        manifest and the checkpoint are always checked. Not given: only of an index before format 3, since
        what is stored in later ones is checked before it is first used.
    threads : int
        Threads per Hamming search.

    Raises
    ------
    workbench.UnknownIndex
        The folder is missing.
    workbench.CorruptFile
        A file is missing, altered or inconsistent with the others; the message names it.
    workbench.BadInput
        The encoder is not the one that made the index.
    """
    path = Path(path)
    for _ in range(_REPLACED_AT_MOST):
        before = _inode(path)
        try:
            index = _load(path, encoder_loader, adapter, verify, threads)
        except (wb.WorkbenchError, OSError):
            if _inode(path) == before:
                raise
        else:
            if _inode(path) == before:
                return index
        # It was replaced meanwhile, so that files of both may have been opened.
    return _load(path, encoder_loader, adapter, verify, threads)


#: How often an index may be replaced while it is opened, which takes milliseconds.
_REPLACED_AT_MOST = 5


def _inode(path: Path) -> int:
    """Return what tells a folder from the one that replaces it; 0 if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _load(
    path: Path,
    encoder_loader: Callable[[Path | None], Encoder],
    adapter: str,
    verify: bool | None,
    threads: int,
) -> Index:
    """Open an index folder that is not replaced meanwhile; see :func:`load_index`."""
    if not path.exists() and files.aside(path).exists():
        path = files.aside(path)  # a crash while the index was being replaced; the next build restores it
    if not path.is_dir():
        known = sorted(other.parent.name for other in path.parent.glob(f"[!.]*/{files.MANIFEST}"))
        raise wb.UnknownIndex(path.name, known)
    manifest = files.read_manifest(path, adapter)
    if verify is None:
        verify = files.is_old(manifest)
    files.check_files(path, manifest, checksums=verify)
    if (file := manifest.model.get("file")) is not None and file not in manifest.files:
        raise wb.CorruptFile(
            path / files.MANIFEST,
            f"model.file: the checkpoint {file!r} is missing in the list of files",
            hint=_REBUILD,
        )
    if file is not None:
        files.checks_of(path, manifest).file(file).check_all()
    encoder = encoder_loader(None if file is None else path / file)
    if encoder.fingerprint != manifest.model["fingerprint"]:
        raise wb.BadInput(
            f"index {manifest.name!r} was made by model {manifest.model['name']!r} with fingerprint "
            f"{manifest.model['fingerprint']}, not by {encoder.name!r} with {encoder.fingerprint}",
            hint="Open it with the model that made it, or build it again.",
        )
    index = Index(path, manifest, encoder, threads=threads)
    if [*encoder.bits] != manifest.code_cuts:
        raise wb.CorruptFile(
            path / files.MANIFEST,
            f"code_cuts: must be {[*encoder.bits]} as in the model, not {manifest.code_cuts}",
            hint=_REBUILD,
        )
    if encoder.dim != manifest.feature_dim:
        raise wb.CorruptFile(
            path / files.MANIFEST,
            f"feature_dim: must be {encoder.dim} as in the model, not {manifest.feature_dim}",
            hint=_REBUILD,
        )
    if verify:
        index.check()
    return index
