"""The layout of an index folder, and how its files are sealed and checked.

::

    manifest.json               lists every other file with its size and its seal, and has its own checksum
    checksums.bin               16 bytes for each block of the other files, which are in the order of names
    images.codes.1-8.npy        uint8 (n, 1), the first 8 bits of each code; rows are in the order of item ids
    images.codes.9-16.npy       uint8 (n, 1), the bits from 9 to 16: a file for what each length adds
    images.codes.17-32.npy …    uint8 (n, 2), and so on; what has more than 64 bits is cut into several files
    images.features.npy         float32, float16 or int8 (n, d), rows of unit norm; there may be none
    images.scales.npy           float32 (n,), what a row of int8 is multiplied by
    images.items.arrow          the items, sorted by id, in record batches of one number of rows
    images.names.npy            uint64 (m,), numbers of the names of items, ascending
    images.named.npy            uint32 (m,), the row that has each name
    captions.codes.1-8.npy …    the same for captions
    thumbnails.00000.bin …      encoded pictures, one after the other, cut into files of one size
    thumbnails.offsets.npy      int64 (n + 1,), the offset of each in all of them
    model.safetensors           the checkpoint that made the codes, so that queries can be encoded

Rows are sorted by item id (by code point), so a tie broken by row is a tie broken by id. The seal of a file
is the SHA-256 of the checksums of its blocks, see :mod:`adapters.vlm_quantization.index.blocks`.

Indexes of format 2 have the items in ``images.jsonl``, one JSON object per line, all thumbnails in one
``thumbnails.bin``, float32 features, neither names nor checksums of blocks, and as seals the SHA-256 of whole
files. Those of 0.2.0, format 1, also hold all bits of the codes in one file, ``images.codes.npy``, uint8
(n, bytes). Both are still read.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

import workbench as wb
from adapters.vlm_quantization.codes import check_lengths
from adapters.vlm_quantization.index.blocks import LEAST_BLOCK, MOST_BLOCK, CheckedRows, Checks
from adapters.vlm_quantization.index.features import FeatureKind, Features
from adapters.vlm_quantization.neighbours.columns import Columns, Cut, cuts_of

#: Version of this layout. Versions 1, of 0.2.0, and 2 are still read; an index with another one is refused.
FORMAT = 3


#: The versions before, which have checksums of whole files only.
OLD_FORMATS = (1, 2)


#: The adapter that an index belongs to, unless another is named.
ADAPTER = "vlm_quantization"


MANIFEST = "manifest.json"


#: Name of the checkpoint in an index, without its ending.
MODEL = "model"


#: The file with the checksums of all blocks.
CHECKSUMS = "checksums.bin"


#: The thumbnails of an index before format 3.
THUMBNAILS = "thumbnails.bin"


THUMBNAIL_OFFSETS = "thumbnails.offsets.npy"


#: The two sides of an index; each can be searched.
SIDES = ("images", "captions")


def codes_file(side: str) -> str:
    """Return the name of the file with all bits of a side's codes, in an index of 0.2.0."""
    return f"{side}.codes.npy"


def column_files(side: str, cuts: Sequence[int]) -> dict[Cut, str]:
    """Return the names of a side's codes files, one per column of a code that is cut at these lengths."""
    return {cut: f"{side}.codes.{cut.name}.npy" for cut in cuts_of(cuts)}


def features_file(side: str) -> str:
    """Return the name of a side's features file."""
    return f"{side}.features.npy"


def scales_file(side: str) -> str:
    """Return the name of the file with the scales of a side's features."""
    return f"{side}.scales.npy"


def items_file(side: str) -> str:
    """Return the name of a side's items file."""
    return f"{side}.items.arrow"


def lines_file(side: str) -> str:
    """Return the name of a side's items file before format 3."""
    return f"{side}.jsonl"


def names_files(side: str) -> tuple[str, str]:
    """Return the names of the files with the numbers of a side's names, and with their rows."""
    return f"{side}.names.npy", f"{side}.named.npy"


def shard_file(number: int) -> str:
    """Return the name of a file of thumbnails."""
    return f"thumbnails.{number:05d}.bin"


def pair_key(one: str, other: str) -> str:
    """Return the key of the thresholds of two sides, in either order."""
    return "-".join(sorted((one, other)))


_NAME = re.compile(r"\w[\w.\-]*")


def check_name(name: str) -> str:
    """Return a name in Unicode form NFC, if it is valid for an index: letters, digits, and ``. _ -``.

    Raises
    ------
    workbench.BadName
        The name is empty, too long, begins with a dot or dash, or contains other characters.
    """
    name = unicodedata.normalize("NFC", name) if isinstance(name, str) else name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wb.BadName(
            f"invalid index name {name!r}: it must consist of letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    # The names of temporary siblings are some thirty bytes longer, and file names are limited to 255 bytes.
    if (size := len(name.encode())) > 200:
        raise wb.BadName(f"the index name {name[:20]!r}… has {size} bytes; at most 200 are allowed")
    return name


class FileSeal(BaseModel):
    """Size in bytes and seal of one file: the SHA-256 of its blocks' checksums; of the file if it is old."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """The contents and origin of an index.

    Attributes
    ----------
    adapter : str
        The adapter whose indexes it belongs to.
    code_bits, code_cuts : int, list of int
        Bits of the stored code, and where it may be cut into a shorter one; the last cut is its end.
    counts : dict
        Items by side, and ``"skipped"``.
    model : dict
        ``name``, ``fingerprint``, and ``file``: the checkpoint inside the folder, or None.
    data : dict
        ``name`` and ``fingerprint`` of the collection.
    thresholds : dict
        By pair of sides (``"captions-images"``) and by length (``"8"``, …) and ``"cosine"``: the distance or
        score that only one unrelated pair in a thousand reaches; None if there were too few pairs.
    provenance : dict
        Data stored by the job that built it.
    features : {"float32", "float16", "int8", "none"}
        How features are stored.
    block_bytes : int
        Bytes of a block that has its own checksum; 0 before format 3.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    adapter: str
    name: str
    title: str
    created: str
    code_bits: int
    code_cuts: list[int]
    feature_dim: int
    counts: dict[str, int]
    languages: list[str]
    model: dict[str, str | None]
    data: dict[str, str]
    credits: list[str]
    thresholds: dict[str, dict[str, float | None]]
    provenance: dict[str, Any]
    files: dict[str, FileSeal]
    features: FeatureKind = "float32"
    block_bytes: int = 0


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as JSON with its own checksum, so that every change is detected."""
    body = manifest.model_dump(mode="json")
    return json.dumps({**body, "checksum": _checksum(body)}, ensure_ascii=False, indent=1) + "\n"


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path, adapter: str = ADAPTER) -> Manifest:
    """Read and check an index's manifest, but none of the files it names.

    Parameters
    ----------
    folder : Path
        The index.
    adapter : str
        The adapter that it must belong to.

    Raises
    ------
    workbench.CorruptFile
        The manifest is missing, altered, of another format or adapter, or lists a file outside the folder.
    """
    path = folder / MANIFEST
    rebuild = "Build the index again."
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise wb.CorruptFile(path, "the manifest is missing", hint=rebuild) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise wb.CorruptFile(path, f"not JSON: {error}", hint=rebuild) from None
    if not isinstance(body, dict):
        raise wb.CorruptFile(path, "not a JSON object", hint=rebuild)
    if body.get("format") not in (*OLD_FORMATS, FORMAT) or body.get("adapter") != adapter:
        raise wb.CorruptFile(
            path,
            f"format {body.get('format')!r} of adapter {body.get('adapter')!r}; "
            f"this version reads formats {', '.join(map(str, OLD_FORMATS))} and {FORMAT} of {adapter!r}",
            hint=rebuild,
        )
    if body.pop("checksum", None) != _checksum(body):
        raise wb.CorruptFile(path, "checksum mismatch: the file was altered", hint=rebuild)
    if body["format"] == 1 and "code_lengths" in body:
        body["code_cuts"] = body.pop("code_lengths")
    try:
        manifest = Manifest.model_validate(body)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise wb.CorruptFile(path, f"invalid fields: {reasons}", hint=rebuild) from None
    # Names are checked before any file is touched: an attacker who writes a manifest can also seal it.
    for name in manifest.files:
        if not name or name != Path(name).name or name.startswith(".") or "\\" in name or "\0" in name:
            raise wb.CorruptFile(path, f"lists a file outside the index folder: {name!r}", hint=rebuild)
    for field, problem in _wrong_fields(manifest):
        raise wb.CorruptFile(path, f"invalid fields: {field}: {problem}", hint=rebuild)
    if missing := [name for name in _required(manifest) if name not in manifest.files]:
        raise wb.CorruptFile(path, f"missing files in the manifest: {', '.join(missing)}", hint=rebuild)
    return manifest


def has_columns(manifest: Manifest, side: str) -> bool:
    """Say whether a side's codes are stored column by column, and not in one file as in 0.2.0."""
    return codes_file(side) not in manifest.files


def is_old(manifest: Manifest) -> bool:
    """Say whether an index is of a format before 3."""
    return manifest.format in OLD_FORMATS


def shards_of(manifest: Manifest) -> list[str]:
    """Return the names of an index's files of thumbnails, in order."""
    if is_old(manifest):
        return [THUMBNAILS]
    return list(itertools.takewhile(manifest.files.__contains__, map(shard_file, itertools.count())))


def _required(manifest: Manifest) -> Iterator[str]:
    """Yield the files that an index must have."""
    for side in SIDES:
        if has_columns(manifest, side):
            yield from column_files(side, manifest.code_cuts).values()
        if manifest.features != "none":
            yield features_file(side)
        if manifest.features == "int8":
            yield scales_file(side)
        if is_old(manifest):
            yield lines_file(side)
        else:
            yield items_file(side)
            yield from names_files(side)
    yield THUMBNAIL_OFFSETS
    if is_old(manifest):
        yield THUMBNAILS
    else:
        yield CHECKSUMS
        yield shard_file(0)


def _wrong_fields(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the fields whose values an index cannot have, with what they must be."""
    try:
        check_lengths(manifest.code_cuts, "the cuts of a code")
    except wb.BadInput as error:
        yield "code_cuts", error.message
        return
    if manifest.code_bits != manifest.code_cuts[-1]:
        yield (
            "code_bits",
            f"must be the last of code_cuts, {manifest.code_cuts[-1]}, not {manifest.code_bits}",
        )
    if manifest.feature_dim < 1:
        yield "feature_dim", f"must be at least 1, not {manifest.feature_dim}"
    for side in SIDES:
        if manifest.counts.get(side, -1) < 0:
            yield f"counts.{side}", f"must be at least 0, not {manifest.counts.get(side)}"
    if not manifest.counts["images"]:
        yield "counts.images", "must be at least 1"
    if manifest.counts["captions"] and not manifest.languages:
        yield "languages", "must name the languages of the captions"
    for field, value in (("model", manifest.model), ("data", manifest.data)):
        for name in ("name", "fingerprint"):
            if not isinstance(value.get(name), str):
                yield f"{field}.{name}", f"must be text, not {value.get(name)!r}"
    if is_old(manifest):
        if manifest.block_bytes or manifest.features != "float32":
            yield "block_bytes", f"must be 0, and features float32, in format {manifest.format}"
    elif not LEAST_BLOCK <= manifest.block_bytes <= MOST_BLOCK:
        limits = f"{LEAST_BLOCK} to {MOST_BLOCK:,}"
        yield "block_bytes", f"must be from {limits}, not {manifest.block_bytes}"
    sizes = [manifest.files[name].size for name in shards_of(manifest) if name in manifest.files]
    if any(size != sizes[0] for size in sizes[:-1]) or sizes[-1:] > sizes[:1]:
        yield "files", f"all files of thumbnails but the last must have {sizes[0]:,} bytes"
    for pair, tails in manifest.thresholds.items():
        for name, limit in tails.items():
            if limit is not None and not math.isfinite(limit):
                yield f"thresholds.{pair}.{name}", f"must be a finite number, not {limit}"


def _unreadable(path: Path, error: OSError) -> wb.CorruptFile:
    reason = error.strerror or type(error).__name__
    return wb.CorruptFile(path, f"cannot be read ({reason})", hint="See who may read it.")


def check_files(folder: Path, manifest: Manifest, *, checksums: bool = False) -> None:
    """Check that every file is present and complete.

    Parameters
    ----------
    folder : Path
        The index.
    manifest : Manifest
        Its manifest.
    checksums : bool
        Compare the SHA-256 of every file of an old index, too; otherwise only sizes are compared.

    Raises
    ------
    workbench.CorruptFile
        A file differs from its seal; the error names the first one.
    """
    for name, seal in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise wb.CorruptFile(path, "missing or not a regular file", hint="Build the index again.")
        if (size := path.stat().st_size) != seal.size:
            raise wb.CorruptFile(
                path, f"must have {seal.size:,} bytes, not {size:,}", hint="Build the index again."
            )
        try:
            same = not (checksums and is_old(manifest)) or sha256_of(path) == seal.sha256
            path.open("rb").close()
        except OSError as error:
            raise _unreadable(path, error) from None
        if not same:
            raise wb.CorruptFile(
                path, "SHA-256 mismatch: the file was altered", hint="Build the index again."
            )


def checks_of(folder: Path, manifest: Manifest) -> Checks:
    """Return the checksums of the blocks of an index; an old one has none, and nothing is compared."""
    seals = {name: (seal.size, seal.sha256) for name, seal in manifest.files.items()}
    return Checks(folder, seals, CHECKSUMS, manifest.block_bytes)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_rows(path: Path) -> NDArray[Any]:
    """Open an array of a ``.npy`` file as a read-only memory map.

    Raises
    ------
    workbench.CorruptFile
        The file is not a plain array.
    """
    try:
        # Unlike np.load it opens no archives and no pickles.
        rows: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises its own, and others for a header that lies
        what = "but an archive" if zipfile.is_zipfile(path) else f": {error}"
        problem = f"not a plain array {what}".replace(" :", ":")
        raise wb.CorruptFile(path, problem, hint="Build the index again.") from None
    return rows


def open_codes(folder: Path, manifest: Manifest, side: str, checks: Checks) -> Columns:
    """Open a side's codes, memory-mapped; nothing is read but the headers of the files.

    Raises
    ------
    workbench.CorruptFile
        A file is not an array of the shape that the manifest says.
    """
    n, cuts = manifest.counts[side], manifest.code_cuts
    if has_columns(manifest, side):
        parts = [
            open_checked(folder / name, np.uint8, (n, cut.width), checks)
            for cut, name in column_files(side, cuts).items()
        ]
        return Columns(cuts, [part.rows for part in parts], lambda at, rows: parts[at].check(rows))
    return Columns.of_table(open_shaped(folder / codes_file(side), np.uint8, (n, cuts[-1] // 8)), cuts)


def open_checked(path: Path, dtype: DTypeLike, shape: tuple[int, ...], checks: Checks) -> CheckedRows:
    """Open an array as :func:`open_shaped` does, whose rows are checked before they are used."""
    return CheckedRows(checks.file(path.name), open_shaped(path, dtype, shape))


def open_features(folder: Path, manifest: Manifest, side: str, checks: Checks) -> Features:
    """Open a side's features, memory-mapped.

    Raises
    ------
    workbench.CorruptFile
        A file is not an array of the shape that the manifest says.
    """
    kind, shape = manifest.features, (manifest.counts[side], manifest.feature_dim)
    rows = scales = None
    if kind != "none":
        rows = open_checked(folder / features_file(side), kind, shape, checks)
    if kind == "int8":
        scales = open_checked(folder / scales_file(side), np.float32, shape[:1], checks)
    return Features(kind, rows, scales, shape, manifest.name)


def open_shaped(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Open an array as :func:`open_rows` does, which must have a dtype and a shape.

    Raises
    ------
    workbench.CorruptFile
        It is not an array, or another one.
    """
    rows = open_rows(path)
    if rows.dtype != dtype or rows.shape != shape or not rows.flags.c_contiguous:
        kind = f"{rows.dtype} {rows.shape}" + ("" if rows.flags.c_contiguous else " in Fortran order")
        raise wb.CorruptFile(
            path, f"must be {np.dtype(dtype)} {shape}, not {kind}", hint="Build the index again."
        )
    return rows


# --- writing ------------------------------------------------------------------------------------------------


@contextmanager
def synced(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for writing; on exit, it is synced to disk."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def array_header(shape: Sequence[int], dtype: DTypeLike) -> bytes:
    """Return the header of a ``.npy`` file, which has one length whatever the number of rows."""
    out = io.BytesIO()
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": tuple(shape),
    }
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    temporary = path.with_name(f"{path.name}.partial")
    with synced(temporary) as out:
        out.write(data)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync renames and new files in a folder to disk, if the system supports it."""
    with suppress(PermissionError):  # Windows cannot open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def aside(final: Path) -> Path:
    """Return the path of an index while its successor replaces it."""
    return final.with_name(f".{final.name}.old")


def publish(built: Path, final: Path) -> None:
    """Move a built folder into place, replacing an existing one, atomically if the system supports it.

    The replaced folder ends up at ``built`` or :func:`aside`, for the caller to delete. If two renames are
    needed, a crash between them leaves the old index :func:`aside`; opening looks there, and the next build
    restores it.
    """
    if not final.exists():
        built.rename(final)
    elif not _exchange(built, final):
        final.rename(aside(final))
        wb.crash_point("index:between-renames")
        built.rename(final)
    sync_folder(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; False if the system or file system does not support it."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
