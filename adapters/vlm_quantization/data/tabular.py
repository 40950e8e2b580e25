"""Tables: CSV, TSV and Parquet, with a picture per row, or a caption per row.

Columns are found by their names (``image`` or ``file_name``, ``caption`` or ``text``, ``language``,
``label``, ``split``, ``id``); ``image=COLUMN`` and the like name others. Captions in several columns
are given as ``caption=COLUMN,COLUMN``; a column such as ``caption_ko`` holds captions in that language.
Several labels in one cell are separated by ``|``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.jsonl import ALIASES, as_line, read_lines
from adapters.vlm_quantization.data.loader import Loader, Opening, first_bytes
from adapters.vlm_quantization.data.places import IMAGES_OPTION, picture_place

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


#: Options that name columns, each with the names that are looked for.
COLUMNS: Mapping[str, Sequence[str]] = {
    "image": ("image", "image_name", *ALIASES["image"]),
    "caption": ("caption", "captions", "comment", *ALIASES["captions"]),
    "language": ("language", "lang"),
    "label": ("label", *ALIASES["labels"], "labels"),
    "split": ("split",),
    "id": ("id",),
}


#: A column whose name ends so holds captions in that language.
_OF_LANGUAGE = re.compile(r"(?:captions?|text)_([a-z]{2,3})")


_TAG = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


Rows = Iterable[tuple[int, Mapping[str, Any]]]


def read_table(path: Path, opening: Opening) -> CaptionedImages:
    """Read a table.

    Raises
    ------
    BadInput
        A column is missing, the file is not such a table, or no row is valid.
    """
    names, rows = table_rows(path)
    columns = Columns(names, opening.options, path)
    first = list(islice(rows, 20))
    given = opening.options.get("images", "")
    root, inside = picture_place(path, given, [str(row.get(columns.image, "")) for _, row in first], [])

    def lines() -> Iterator[tuple[int, bytes]]:
        for source in (first, rows):
            for number, row in source:
                yield number, as_line(columns.line_of(row, inside))

    return read_lines(
        root / path.name,
        lines(),
        cache_dir=opening.cache_dir,
        progress=opening.progress,
        decode=opening.decode,
        spill=opening.spill,
        hint=f"The pictures are read from column {columns.image!r}, relative to {root}.",
    )


class Columns:
    """The columns of a table in use.

    Parameters
    ----------
    names : sequence of str
        All columns.
    options : mapping of str to str
        The columns that the user named, by what they hold.
    path : Path
        The table, for errors.

    Raises
    ------
    BadInput
        A named column, or the pictures' column, is missing.
    """

    def __init__(self, names: Sequence[str], options: Mapping[str, str], path: Path) -> None:
        self._names = list(names)
        self._path = path
        self.image = self._column("image", options)
        if not self.image:
            raise wb.BadInput(
                f"{path} has no column of pictures; its columns: {', '.join(map(repr, self._names[:20]))}",
                hint="Name it: add ?image=COLUMN&caption=COLUMN to the path.",
            )
        self.language, self.fixed_language = "", ""
        language = options.get("language", "")
        if language and language not in self._names and _TAG.fullmatch(language):
            self.fixed_language = language
        else:
            self.language = self._column("language", options)
        self.label, self.split, self.id = (self._column(what, options) for what in ("label", "split", "id"))
        self.captions = self._captions(options)

    def _captions(self, options: Mapping[str, str]) -> dict[str, str]:
        """Return the columns of captions, each with its language if its name tells."""
        given = [name.strip() for name in options.get("caption", "").split(",") if name.strip()]
        if not given:
            given = [name for name in self._names if _OF_LANGUAGE.fullmatch(name)]
            one = self._column("caption", {})
            given = [one, *given] if one else given
        for name in given:
            self._check("caption", name)
        return {
            name: found[1] if (found := _OF_LANGUAGE.fullmatch(name)) else self.fixed_language
            for name in given
        }

    def _column(self, what: str, options: Mapping[str, str]) -> str:
        if name := options.get(what, ""):
            return self._check(what, name)
        return next((name for name in COLUMNS[what] if name in self._names), "")

    def _check(self, what: str, name: str) -> str:
        if name not in self._names:
            raise wb.BadInput(
                f"{what}={name}: {self._path} has no such column; "
                f"its columns: {', '.join(map(repr, self._names[:20]))}"
            )
        return name

    def line_of(self, row: Mapping[str, Any], inside: str = "", split: str = "") -> dict[str, Any]:
        """Return a row as a line of JSONL; pictures' names follow ``inside``."""
        image = row.get(self.image)
        if isinstance(image, dict):  # Hugging Face's pictures within the table
            image = image.get("path")
        out: dict[str, Any] = {"image": f"{inside}{image}" if isinstance(image, str) and image else image}
        if self.captions:
            out["captions"] = self._texts(row)
        if self.label and row.get(self.label) not in (None, ""):
            out["labels"] = _labels(row[self.label])
        if self.id and row.get(self.id) not in (None, ""):
            out["id"] = row[self.id]
        out["split"] = (str(row.get(self.split) or "") if self.split else "") or split
        return out

    def _texts(self, row: Mapping[str, Any]) -> Any:
        by_language: dict[str, list[Any]] = {}
        for name, language in self.captions.items():
            value = row.get(name)
            texts = value if isinstance(value, list) else [] if value is None else [value]
            language = language or (str(row.get(self.language) or "") if self.language else "")
            by_language.setdefault(language, []).extend(texts)
        if set(by_language) <= {""}:
            return by_language.get("", [])
        return {language or "en": texts for language, texts in by_language.items()}


def _labels(cell: Any) -> list[str]:
    if isinstance(cell, list):
        return [str(one) for one in cell]
    return [one.strip() for one in str(cell).split("|") if one.strip()]


# --- reading ------------------------------------------------------------------------------------------------


def table_rows(path: Path) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    """Return the columns of a table and its rows, with their line numbers (of Parquet: row numbers from 1).

    Raises
    ------
    BadInput
        The file is not such a table, or is empty.
    """
    return _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)


def _csv(path: Path) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise wb.BadInput(f"{path} cannot be read ({error.strerror or type(error).__name__})") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise wb.BadInput(f"{path} is not UTF-8 text (line {line})", hint="Save it as UTF-8.") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t|", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    try:
        names = [name.strip() for name in next(reader)]
    except (StopIteration, csv.Error):
        raise wb.BadInput(f"{path} has no header line with the names of its columns") from None

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise wb.BadInput(f"{path}, line {number}: {error}") from None
            if any(cell.strip() for cell in cells):
                yield number, dict(zip(names, (cell.strip() for cell in cells), strict=False))

    return names, rows()


def parquet_file(path: Path) -> Any:
    """Return a Parquet file, of which only the schema and the places of its row groups are read.

    Raises
    ------
    BadInput
        It is not such a file.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=2**20)
    except (OSError, pyarrow.ArrowException) as error:
        raise wb.BadInput(f"{path} is not a Parquet file that can be read ({str(error)[:200]})") from None


def _parquet(path: Path) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    file = parquet_file(path)
    names = list(file.schema_arrow.names)

    import pyarrow

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=1_000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (OSError, pyarrow.ArrowException) as error:
            raise wb.BadInput(f"{path}, after row {number}: {str(error)[:200]}") from None

    return names, rows()


def _is_table(path: Path) -> bool:
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return path.is_file()
    start = first_bytes(path)
    return path.suffix == ".txt" and start.startswith((b"image,caption", b"\xef\xbb\xbfimage,caption"))


TABLE = Loader(
    form="table",
    about="CSV, TSV or Parquet, a row per picture or per caption",
    recognises=_is_table,
    read=read_table,
    options={
        "image": "column of the pictures' paths",
        "caption": "column of the captions; several: image=…&caption=COLUMN,COLUMN",
        "language": "column of the captions' language, or one language such as ko",
        "label": "column of the labels (several in a cell: red|round)",
        "split": "column of the split",
        "id": "column of the ids (default: the picture's path)",
        **IMAGES_OPTION,
    },
)
