"""Parquet with the pictures in it, as Hugging Face's datasets are stored.

The column of pictures holds their encoded bytes, or ``{"bytes", "path"}`` as ``datasets`` writes it; the
other columns are found as in :mod:`adapters.vlm_quantization.data.tabular`. A path, or a folder of such files
(also in its ``data``); a file named after a split, such as ``train-00000-of-00004.parquet``, belongs to it.

A file is read once when the collection is opened, a few rows at a time, and of each picture only its size,
its first bytes and a digest are kept. The picture itself is read again by its row group when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.folder import split_of_folder
from adapters.vlm_quantization.data.jsonl import as_line, read_lines
from adapters.vlm_quantization.data.loader import Loader, Opening
from adapters.vlm_quantization.data.parquet_rows import (
    ROWS_AT_ONCE,
    START_BYTES,
    ParquetPicture,
    PictureRows,
    content_of,
    pictures_of,
)
from adapters.vlm_quantization.data.tabular import COLUMNS, TABLE, Columns, parquet_file

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


# --- opening ------------------------------------------------------------------------------------------------


#: Maximum size in bytes of the pictures in one row group, decompressed. Reading one takes up to three times
#: as much memory, since writers may make a single page of it.
MAX_GROUP_BYTES = 2**30


def read_parquet(path: Path, opening: Opening) -> CaptionedImages:
    """Read a table, or a folder of tables, with pictures in it.

    Raises
    ------
    BadInput
        There is no table, one is not Parquet, a column is missing, or no row has a usable picture.
    """
    files = parquet_files(path)
    name = path if path.is_dir() else path.with_suffix("")
    collection = read_lines(
        files[0].parent / f"{name.name}.parquet" if len(files) == 1 else path / f"{name.name}.parquet",
        _all_rows(files, opening),
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
        hint="Each row has a picture, as bytes or as {bytes, path}, and its texts.",
    )
    if len(files) > 1 and collection.problems:
        names = ", then ".join(one.relative_to(path).as_posix() for one in files[:5])
        more = f", and {len(files) - 5:,} more" if len(files) > 5 else ""
        collection.notes.append(f"Line numbers go on from file to file: {names}{more}.")
    return collection


def parquet_files(path: Path) -> list[Path]:
    """Return the tables of a path: itself, or those in a folder or in its ``data``, if there are any."""
    if not path.is_dir():
        return [path]
    for place in (path, path / "data"):
        try:
            files = [one for one in sorted(place.iterdir()) if one.suffix.lower() == ".parquet"]
        except OSError:
            continue
        if files:
            return files
    return []


def _all_rows(files: Sequence[Path], opening: Opening) -> Iterator[tuple[int, bytes, Any]]:
    before = 0
    seen: dict[str, bytes] = {}
    for done, path in enumerate(files):
        file = parquet_file(path)
        for number, line, picture in _rows(path, file, opening, seen):
            yield before + number, line, picture
        before += file.metadata.num_rows
        if opening.progress:
            opening.progress(done + 1, len(files), "reading tables")


def _rows(
    path: Path, file: Any, opening: Opening, seen: dict[str, bytes]
) -> Iterator[tuple[int, bytes, ParquetPicture | wb.BadInput | None]]:
    """Yield a table's rows as lines, each with its picture, or with why it has none."""
    import pyarrow

    names = list(file.schema_arrow.names)
    holding = [name for name in [*COLUMNS["image"], *names] if picture_column(file, name)]
    columns = Columns(names, {"image": holding[0] if holding else "", **opening.options}, path)
    inner = picture_column(file, columns.image)
    if not inner:
        kind = file.schema_arrow.field(columns.image).type
        raise wb.BadInput(
            f"{path}: column {columns.image!r} holds no pictures, but {kind}",
            hint="Name the column of pictures: add ?image=COLUMN to the path.",
        )
    _check_groups(path, file, inner)
    texts = [*columns.captions, columns.language, columns.label, columns.split, columns.id]
    wanted = list(dict.fromkeys([columns.image, *filter(None, texts)]))
    rows = PictureRows(path, inner)
    split = split_of_folder(path.stem)
    number = 0
    for group in range(file.num_row_groups):
        end = number + file.metadata.row_group(group).num_rows
        start = number
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=wanted):
                pictures = list(pictures_of(batch.column(columns.image)))
                for row, data in zip(_texts_of(batch, columns.image), pictures, strict=True):
                    number += 1
                    picture: ParquetPicture | None = None
                    if data is not None:
                        begin = bytes(data[:START_BYTES])
                        picture = ParquetPicture(
                            path, number, group, number - start - 1, len(data), begin, content_of(data), rows
                        )
                    yield number, as_line(_line(row, columns, split, picture, seen)), picture
        except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
            reason = str(error)[:200]
            fault = wb.BadInput(f"rows {number + 1:,} to {end:,} of {path.name} cannot be read ({reason})")
            yield number + 1, b"", fault
            number = end


def _check_groups(path: Path, file: Any, column: str) -> None:
    """Refuse a file whose row groups take too much memory."""
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        for place in range(metadata.num_columns):
            chunk = metadata.column(place)
            if chunk.path_in_schema == column and chunk.total_uncompressed_size > MAX_GROUP_BYTES:
                size, most = chunk.total_uncompressed_size / 1e6, MAX_GROUP_BYTES / 1e6
                raise wb.BadInput(
                    f"{path}: {size:,.0f} MB of pictures in one row group; at most {most:,.0f} are allowed",
                    hint="Write it again in smaller row groups, for example with row_group_size=100.",
                )


def _texts_of(batch: Any, image: str) -> list[dict[str, Any]]:
    """Return the rows of a batch without the bytes of pictures, but with their paths."""
    import pyarrow

    column = batch.column(image)
    texts = batch.drop_columns([image]).to_pylist() if batch.num_columns > 1 else [{}] * batch.num_rows
    paths: list[Any] = [None] * batch.num_rows
    if pyarrow.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
        paths = column.field("path").to_pylist()
    return [{**row, image: path} for row, path in zip(texts, paths, strict=True)]


def _line(
    row: Mapping[str, Any],
    columns: Columns,
    split: str,
    picture: ParquetPicture | None,
    seen: dict[str, bytes],
) -> dict[str, Any]:
    """Return a row as a line of JSONL; a picture without an id is named by its path, or else by its row."""
    line = columns.line_of(row, "", split)
    if picture is None:  # perhaps a path to a file
        return line
    if "id" not in line:
        name = line["image"]
        own = f"{picture.path.stem}-{picture.row}"
        if not isinstance(name, str) or not name.strip():
            name = own
        line["id"] = name if seen.setdefault(name, picture.content) == picture.content else own
    return {**line, "image": None}


def picture_column(file: Any, name: str) -> str:
    """Return a column of encoded pictures as Parquet names it; empty if ``name`` is not one."""
    import pyarrow

    if name not in file.schema_arrow.names:
        return ""
    kind = file.schema_arrow.field(name).type
    if pyarrow.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return f"{name}.bytes" if place >= 0 and _is_binary(kind.field(place).type) else ""
    return name if _is_binary(kind) else ""


def _is_binary(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def has_pictures(path: Path) -> bool:
    """Return whether a file is Parquet with a column of pictures under one of the usual names."""
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        file = parquet_file(path)
    except wb.BadInput:
        return False  # the loader of tables says why
    return any(picture_column(file, name) for name in file.schema_arrow.names)


def _is_parquet(path: Path) -> bool:
    if path.is_dir():
        files = parquet_files(path)
        return bool(files) and not any(one.name == "metadata.parquet" for one in files)
    return has_pictures(path)


PARQUET = Loader(
    form="parquet",
    about="Parquet with the pictures in it, as Hugging Face stores datasets: a file or a folder",
    recognises=_is_parquet,
    read=read_parquet,
    options={
        "image": "column of the pictures (default: the one that holds some)",
        **{name: about for name, about in TABLE.options.items() if name not in ("image", "images")},
    },
)
