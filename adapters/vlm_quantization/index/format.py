"""What lies in an index folder, and how its files are written, sealed and checked.

::

    manifest.json               names every other file with its size and SHA-256, and carries its own checksum
    images.codes.npy            uint8 (n, 16), packed codes; row order is the order of item ids
    images.features.npy         float32 (n, d), rows of unit norm
    images.jsonl                one item a line, sorted by id
    captions.codes.npy …        the same for captions
    thumbnails.bin              encoded pictures, one after the other
    thumbnails.offsets.npy      int64 (n + 1,), where each begins
    model.safetensors           the checkpoint that made the codes, so that queries can be encoded

Rows are sorted by item id (by code point), so a tie broken by row is a tie broken by id.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

import workbench as wb

#: Version of this layout; an index of another version is refused.
FORMAT = 1


ADAPTER = "vlm_quantization"


MANIFEST = "manifest.json"


MODEL = "model.safetensors"


THUMBNAILS = "thumbnails.bin"


THUMBNAIL_OFFSETS = "thumbnails.offsets.npy"


#: The two sides of an index: what can be searched and what can be found.
SIDES = ("images", "captions")


def codes_file(side: str) -> str:
    """Return the name of a side's file of codes."""
    return f"{side}.codes.npy"


def features_file(side: str) -> str:
    """Return the name of a side's file of features."""
    return f"{side}.features.npy"


def items_file(side: str) -> str:
    """Return the name of a side's file of items."""
    return f"{side}.jsonl"


def pair_key(one: str, other: str) -> str:
    """Return the name under which the thresholds of two sides are kept, in either order."""
    return "-".join(sorted((one, other)))


REQUIRED = (
    *(name(side) for side in SIDES for name in (codes_file, features_file, items_file)),
    THUMBNAILS,
    THUMBNAIL_OFFSETS,
)


_NAME = re.compile(r"\w[\w.\-]*")


def check_name(name: str) -> str:
    """Return the name if it can name an index: letters of any script, digits, and ``. _ -`` within.

    Raises
    ------
    workbench.BadName
        Empty, too long, beginning with a dot or dash, or holding anything else.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wb.BadName(
            f"an index cannot be named {name!r}: letters, digits, '.', '_' and '-' are allowed, "
            "beginning with a letter or digit"
        )
    # Temporary siblings add some thirty bytes, and a file name ends at 255.
    if (size := len(name.encode())) > 200:
        raise wb.BadName(f"the index name {name[:20]!r}… has {size} bytes; at most 200 are allowed")
    return name


class FileSeal(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """What an index is made of and made from.

    Attributes
    ----------
    counts : dict
        Items by side, and ``"skipped"``.
    model : dict
        ``name``, ``fingerprint``, and ``file``: the checkpoint inside the folder, or None.
    data : dict
        ``name`` and ``fingerprint`` of the collection.
    thresholds : dict
        By pair of sides (``"captions-images"``) and by ``"8"`` … ``"128"`` and ``"cosine"``: how near only
        one unrelated pair in a thousand is; None where there were too few pairs to say.
    provenance : dict
        What the job that built it wants remembered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    adapter: str
    name: str
    title: str
    created: str
    code_bits: int
    code_lengths: list[int]
    feature_dim: int
    counts: dict[str, int]
    languages: list[str]
    model: dict[str, str | None]
    data: dict[str, str]
    credits: list[str]
    thresholds: dict[str, dict[str, float | None]]
    provenance: dict[str, Any]
    files: dict[str, FileSeal]


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as JSON with a checksum of itself, so that no byte of it changes unseen."""
    body = manifest.model_dump(mode="json")
    return json.dumps({**body, "checksum": _checksum(body)}, ensure_ascii=False, indent=1) + "\n"


def _checksum(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check an index's manifest, but none of the files it names.

    Raises
    ------
    workbench.CorruptFile
        It is missing, altered, of another format or adapter, or names a file outside the folder.
    """
    path = folder / MANIFEST
    rebuild = "Build the index again."
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise wb.CorruptFile(path, "the manifest is missing", hint=rebuild) from None
    except ValueError as error:
        raise wb.CorruptFile(path, f"not JSON: {error}", hint=rebuild) from None
    if not isinstance(body, dict):
        raise wb.CorruptFile(path, "not a JSON object", hint=rebuild)
    if body.get("format") != FORMAT or body.get("adapter") != ADAPTER:
        raise wb.CorruptFile(
            path,
            f"format {body.get('format')!r} of adapter {body.get('adapter')!r}; "
            f"this version reads format {FORMAT} of {ADAPTER!r}",
            hint=rebuild,
        )
    if body.pop("checksum", None) != _checksum(body):
        raise wb.CorruptFile(path, "its checksum does not fit: it was altered", hint=rebuild)
    try:
        manifest = Manifest.model_validate(body)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise wb.CorruptFile(path, f"fields do not fit: {said}", hint=rebuild) from None
    # Names are checked before anything they point at is touched; whoever writes a manifest can also seal it.
    for name in manifest.files:
        if not name or name != Path(name).name or name.startswith(".") or "\\" in name or "\0" in name:
            raise wb.CorruptFile(path, f"names a file outside its folder: {name!r}", hint=rebuild)
    if missing := [name for name in REQUIRED if name not in manifest.files]:
        raise wb.CorruptFile(path, f"does not name {', '.join(missing)}", hint=rebuild)
    return manifest


def check_files(folder: Path, manifest: Manifest, *, checksums: bool = True) -> None:
    """Check that every file is there and whole.

    Parameters
    ----------
    folder : Path
        The index.
    manifest : Manifest
        Its manifest.
    checksums : bool
        Read every byte; otherwise only sizes are compared.

    Raises
    ------
    workbench.CorruptFile
        Names the first file that is not as it was sealed.
    """
    for name, seal in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise wb.CorruptFile(path, "is missing or no regular file", hint="Build the index again.")
        if (size := path.stat().st_size) != seal.size:
            raise wb.CorruptFile(
                path, f"has {size:,} bytes instead of {seal.size:,}", hint="Build the index again."
            )
        if checksums and sha256_of(path) != seal.sha256:
            raise wb.CorruptFile(
                path, "its SHA-256 does not fit: it was altered", hint="Build the index again."
            )


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
        rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise wb.CorruptFile(path, f"not a plain array: {error}", hint="Build the index again.") from None
    return rows


# --- writing ------------------------------------------------------------------------------------------------


class SealedWriter:
    """Counts and digests what is written, so that a file need not be read again to be sealed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def seal(self) -> FileSeal:
        """Size and digest of what was written so far."""
        return FileSeal(size=self.size, sha256=self._digest.hexdigest())


@contextmanager
def sealed(path: Path) -> Iterator[SealedWriter]:
    """Open a new file for writing; on leaving, it is on the disk."""
    with path.open("wb") as file:
        yield SealedWriter(file)
        file.flush()
        os.fsync(file.fileno())


def write_rows(path: Path, parts: Iterable[NDArray[Any]], shape: Sequence[int], dtype: DTypeLike) -> FileSeal:
    """Write an array given in parts as one ``.npy`` file."""
    with sealed(path) as out:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": False,
            "shape": tuple(shape),
        }
        np.lib.format.write_array_header_1_0(out, header)
        for part in parts:
            out.write(np.ascontiguousarray(part, dtype).tobytes())
    return out.seal


def write_lines(path: Path, items: Iterable[Mapping[str, Any]]) -> FileSeal:
    """Write one JSON object a line."""
    with sealed(path) as out:
        for item in items:
            out.write(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return out.seal


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    beside = path.with_name(f"{path.name}.partial")
    with sealed(beside) as out:
        out.write(data)
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder last, where the system offers it."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def aside(final: Path) -> Path:
    """Return where an index stands while its successor takes its place."""
    return final.with_name(f".{final.name}.old")


def publish(built: Path, final: Path) -> None:
    """Put a built folder in its place, replacing what is there, in one step where the system has one.

    What stood there ends up at ``built`` or :func:`aside`, for the caller to delete. Where two renames are
    needed, a crash between them leaves the old index :func:`aside`; opening looks there, and the next build
    brings it back.
    """
    if not final.exists():
        built.rename(final)
    elif not _exchange(built, final):
        final.rename(aside(final))
        wb.crash_point("index:between-renames")
        built.rename(final)
    sync_folder(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; False where the system or file system cannot."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
