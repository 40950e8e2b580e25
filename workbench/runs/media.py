"""What a run logs that is not a number: pictures, figures, tables, texts and histograms.

Each is one small file of a known form, so that a page can show it without trusting it:

==========  ================================================================================================
image       a PNG, JPEG or WebP file, at most :data:`MOST_PIXELS` pixels wide and high
figure      the same, of a matplotlib figure
table       JSON ``{"columns": [text], "rows": [[number, text, true, false or null]], "left_out": rows}``
text        UTF-8
histogram   JSON ``{"edges": [number], "counts": [number], "nonfinite": number}``, one edge more than counts
==========  ================================================================================================
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadInput
from workbench.results.result import View
from workbench.runs.kept_files import KeptFile
from workbench.text import shown

if TYPE_CHECKING:
    from PIL.Image import Image

#: The kinds, with the ending of their files.
KINDS = {"image": "png", "figure": "png", "table": "json", "text": "txt", "histogram": "json"}

#: Maximum width and height of a picture in pixels; a larger one is made smaller.
MOST_PIXELS = 2048

#: Size in bytes above which a picture without transparency is kept as JPEG, and maximum size of any file.
PNG_BYTES, MEDIA_BYTES = 2**20, 2**23

#: Maximum numbers of rows and columns of a table, of characters of a text, and of one cell.
MOST_ROWS, MOST_COLUMNS, TEXT_CHARACTERS, CELL_CHARACTERS = 1000, 100, 100_000, 1000

#: Maximum number of bins of a histogram.
MOST_BINS = 512

#: Maximum number of files that a run keeps under one label, and of characters of a label and a caption.
MOST_KEPT, LABEL_CHARACTERS, CAPTION_CHARACTERS = 1000, 250, 1000

#: Formats that pictures are read from, and the beginnings of the files that are kept.
_READ = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


@dataclass(frozen=True)
class MediaFile(KeptFile):
    """A picture, figure, table, text or histogram that a run logged; ``name`` is that of its file.

    Attributes
    ----------
    kind : {"image", "figure", "table", "text", "histogram"}
        Its form; see :mod:`workbench.runs.media`.
    label : str
        What it was logged as: ``"val/worst queries"``.
    step : int
        The step it belongs to.
    caption : str
        Empty without one.
    """

    kind: str
    label: str
    step: int
    caption: str = ""

    def value(self) -> Any:
        """Return the content: the bytes of a picture or figure, a text, or a dictionary.

        Raises
        ------
        BadInput
            The file is damaged: it has not the form of its kind.
        """
        with self.open() as file:
            data = file.read(MEDIA_BYTES + 1)
        return checked(self.kind, data)

    def view(self) -> View:
        """Return it as a part of a result, for ``wb.show``."""
        return views([self])[0]


def views(items: Sequence[MediaFile]) -> list[View]:
    """Return media as parts of results: pictures of one label together, by step; each other one alone."""
    out: dict[Any, View] = {}
    for item in items:
        note = [item.caption] if item.caption else []
        title = f"{item.label}, step {item.step}"
        if item.kind in ("image", "figure"):
            key: Any = (item.kind, item.label)
            grid = out.setdefault(key, View(kind="image_grid", title=item.label, data={"items": []}))
            grid.data["items"].append(_picture(item))
        elif item.kind == "table":
            out[item] = View(kind="retrieval_table", title=title, data=_table_view(item.value()), notes=note)
            if left := item.value().get("left_out"):
                out[item].notes.append(f"{left:,} more rows were not kept.")
        elif item.kind == "histogram":
            out[item] = View(kind="curve", title=title, data=_histogram_view(item.value()), notes=note)
        else:
            rows = [{"text": line} for line in item.value().splitlines()]
            data = {"columns": [{"key": "text", "label": item.label}], "rows": rows}
            out[item] = View(kind="retrieval_table", title=title, data=data, notes=note)
    return list(out.values())


def _picture(item: MediaFile) -> dict[str, str]:
    import base64

    image = base64.b64encode(item.value()).decode("ascii")
    return {"caption": item.caption or f"step {item.step}", "subtitle": f"step {item.step}", "image": image}


def _table_view(table: Mapping[str, Any]) -> dict[str, Any]:
    keys = [f"c{at}" for at in range(len(table["columns"]))]
    columns = [{"key": key, "label": label} for key, label in zip(keys, table["columns"], strict=True)]
    return {"columns": columns, "rows": [dict(zip(keys, row, strict=True)) for row in table["rows"]]}


def _histogram_view(histogram: Mapping[str, Any]) -> dict[str, Any]:
    edges = histogram["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return {
        "x_label": "value",
        "y_label": "count",
        "x": middles,
        "x_scale": "linear",
        "series": [{"name": "count", "y": histogram["counts"]}],
    }


# Names ---------------------------------------------------------------------------------------------


def check_label(label: Any) -> str:
    """Return what a file is logged as, or raise if it is not a short text."""
    try:
        fits = isinstance(label, str) and label.strip() and "\0" not in label and bool(label.encode())
    except UnicodeEncodeError:  # an unpaired surrogate
        fits = False
    if not fits or len(label) > LABEL_CHARACTERS:
        raise BadInput(
            f"the name must be a string of 1 to {LABEL_CHARACTERS} characters, got {shown(label)}",
            hint='For example "val/worst queries".',
        )
    return str(label)


def check_caption(caption: Any) -> str:
    """Return a caption, cut to its longest, or raise if it is not text."""
    if not isinstance(caption, str):
        raise BadInput(f"caption must be a string, got {shown(caption)}")
    return caption[:CAPTION_CHARACTERS]


def check_kind(kind: Any) -> str:
    """Return a kind, or raise if there is no such kind."""
    if kind not in KINDS:
        raise BadInput(f"kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    return str(kind)


def file_name(kind: str, label: str, step: int) -> str:
    """Return the name of the file, by which logging the same again replaces it."""
    digest = blake2b(f"{kind}\0{label}".encode(), digest_size=8).hexdigest()
    return f"{digest}-{step}.{KINDS[kind]}"


# Reading -------------------------------------------------------------------------------------------


def checked(kind: str, data: bytes) -> Any:
    """Return the content of a file of a kind; it may have been uploaded by anybody.

    Raises
    ------
    BadInput
        It has not the form of its kind, or is too large.
    """
    if len(data) > MEDIA_BYTES:
        raise BadInput(f"a logged {kind} must have at most {MEDIA_BYTES // 2**20} MiB")
    if kind in ("image", "figure"):
        if not data.startswith(_HEADS):
            raise BadInput(f"a logged {kind} must be a PNG, JPEG or WebP file")
        return data
    try:
        text = data.decode("utf-8")
        value = text if kind == "text" else json.loads(text, parse_constant=_no_constant)
        fits = {"text": _is_text, "table": _is_table, "histogram": _is_histogram}[kind]
        if fits(value):
            return value
    except (ValueError, RecursionError, KeyError, TypeError):
        pass
    raise BadInput(f"a logged {kind} must have the form of its kind; see workbench.runs.media")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _is_text(value: str) -> bool:
    return len(value) <= 2 * TEXT_CHARACTERS


def _is_table(value: Any) -> bool:
    columns, rows = value["columns"], value["rows"]
    cells = (str, int, float, bool, type(None))
    return (
        isinstance(value.get("left_out", 0), int)
        and 0 < len(columns) <= MOST_COLUMNS
        and all(isinstance(name, str) for name in columns)
        and len(rows) <= MOST_ROWS
        and all(len(row) == len(columns) and all(isinstance(cell, cells) for cell in row) for row in rows)
    )


def _is_histogram(value: Any) -> bool:
    edges, counts = value["edges"], value["counts"]
    return (
        isinstance(value.get("nonfinite", 0), int)
        and 0 < len(counts) <= MOST_BINS
        and len(edges) == len(counts) + 1
        and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (*edges, *counts))
        and all(low <= high for low, high in pairwise(edges))
    )


# Writing -------------------------------------------------------------------------------------------


def image_bytes(value: Any) -> bytes:
    """Return a picture as the bytes of a PNG or JPEG file.

    Parameters
    ----------
    value : PIL image, path, bytes, or array
        An array has shape (height, width), (height, width, channels) or, for a torch tensor,
        (channels, height, width), with 1, 3 or 4 channels: uint8 from 0 to 255, or floats from 0 to 1.

    Raises
    ------
    BadInput
        It is something else, or a file that cannot be read as a picture.
    """
    picture = _opened(value)
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS))
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    out = io.BytesIO()
    picture.save(out, format="PNG")
    if (out.tell() > PNG_BYTES and picture.mode in ("L", "RGB")) or out.tell() > MEDIA_BYTES:
        out = io.BytesIO()
        picture.convert("RGB").save(out, format="JPEG", quality=90)
    return out.getvalue()


def _opened(value: Any) -> Image:
    from PIL import Image

    if isinstance(value, Image.Image):
        return value.copy()
    if hasattr(value, "__array__") or hasattr(value, "detach"):
        return Image.fromarray(_pixels(value))
    if not isinstance(value, (str, os.PathLike, bytes, bytearray)):
        raise BadInput(
            "an image must be a PIL image, an array, a path or the bytes of a file, "
            f"got a {type(value).__name__}"
        )
    file = io.BytesIO(value) if isinstance(value, (bytes, bytearray)) else Path(value)
    try:
        picture = Image.open(file, formats=_READ)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        name = "" if isinstance(file, io.BytesIO) else f" {str(file)!r}"
        raise BadInput(f"the image{name} cannot be read: {error}") from None
    return picture


def _pixels(value: Any) -> Any:
    import numpy as np

    is_tensor = hasattr(value, "detach")
    array = np.asarray(value.detach().cpu() if is_tensor else value)
    if is_tensor and array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise BadInput(
            f"an image must have shape (height, width) or (height, width, 1, 3 or 4), got {array.shape}"
        )
    if array.dtype.kind == "f":
        array = np.minimum(np.maximum(np.nan_to_num(array, nan=0.0), 0), 1) * 255
        array = array.round()
    elif array.dtype.kind == "b":
        array = array * 255
    elif array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        raise BadInput(f"an image must have values from 0 to 255, or floats from 0 to 1, got {array.dtype}")
    return np.ascontiguousarray(array.astype(np.uint8))


def figure_bytes(value: Any) -> bytes:
    """Return a matplotlib figure, or the figure of its axes, as the bytes of a PNG file.

    Raises
    ------
    BadInput
        It is something else.
    """
    figure: Any = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    if not hasattr(figure, "savefig") or not hasattr(figure, "get_size_inches"):
        raise BadInput(
            f"a figure must be a matplotlib figure, got a {type(value).__name__}",
            hint="Log a picture of anything else: run.log_image(…).",
        )
    longest = max(float(side) for side in figure.get_size_inches()) or 1.0
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=min(150.0, MOST_PIXELS / longest))
    return out.getvalue() if out.tell() <= PNG_BYTES else image_bytes(out.getvalue())


def table_bytes(data: Any, columns: Sequence[str] | None = None) -> bytes:
    """Return a table as JSON; the first :data:`MOST_ROWS` rows are kept, and how many are left out.

    Parameters
    ----------
    data : data frame, mapping of str to column, or sequence of rows
        A row is a mapping, or a sequence of cells in the order of ``columns``.
    columns : sequence of str, optional
        The names of the columns, for rows that are sequences.

    Raises
    ------
    BadInput
        It is none of these, its rows differ in length, or it has too many columns.
    """
    names, rows, count = _rows_of(data, columns)
    if not names or len(names) > MOST_COLUMNS:
        raise BadInput(f"a table must have 1 to {MOST_COLUMNS} columns, got {len(names)}")
    kept = [[_cell(cell) for cell in row] for row in rows]
    if wrong := next((row for row in kept if len(row) != len(names)), None):
        raise BadInput(f"each row of the table must have {len(names)} cells, got {len(wrong)}")
    document = {"columns": names, "rows": kept, "left_out": max(count - len(kept), 0)}
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _rows_of(data: Any, columns: Sequence[str] | None) -> tuple[list[str], Iterable[Sequence[Any]], int]:
    if hasattr(data, "itertuples") and hasattr(data, "columns"):  # a data frame
        names = [str(name) for name in data.columns]
        return names, list(data.head(MOST_ROWS).itertuples(index=False, name=None)), len(data)
    if isinstance(data, Mapping):
        names, lists = [str(name) for name in data], [list(column) for column in data.values()]
        if len({len(column) for column in lists}) > 1:
            raise BadInput("the columns of a table must have equal length")
        return (
            names,
            list(zip(*(column[:MOST_ROWS] for column in lists), strict=True)),
            len(lists[0]) if lists else 0,
        )
    try:
        rows = data if isinstance(data, Sequence) and not isinstance(data, str) else list(data)
    except TypeError:
        raise BadInput(
            f"a table must be a data frame, columns by name, or rows, got a {type(data).__name__}"
        ) from None
    if columns is None:
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            raise BadInput("the columns of a table of rows must be named", hint='columns=["name", "value"]')
        names = list(dict.fromkeys(str(name) for row in rows for name in row))
        return names, [[row.get(name) for name in names] for row in rows[:MOST_ROWS]], len(rows)
    names = [str(name) for name in columns]
    return names, [list(row) for row in rows[:MOST_ROWS]], len(rows)


def _cell(value: Any) -> Any:
    """Return a cell as a number, text, true, false or null."""
    if hasattr(value, "item") and getattr(value, "size", None) == 1:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= CELL_CHARACTERS else f"{text[:CELL_CHARACTERS]}…"


def text_bytes(value: Any) -> bytes:
    """Return a text in UTF-8; what is longer than :data:`TEXT_CHARACTERS` is cut, which its end says.

    Raises
    ------
    BadInput
        It is not text.
    """
    if not isinstance(value, str):
        raise BadInput(f"a text must be a string, got a {type(value).__name__}")
    if len(value) > TEXT_CHARACTERS:
        value = (
            f"{value[:TEXT_CHARACTERS]}\n… ({len(value) - TEXT_CHARACTERS:,} more characters were not kept)"
        )
    text: str = value
    return text.encode("utf-8", "replace")


def histogram_bytes(values: Any, bins: int = 64) -> bytes:
    """Return how often values lie in each of some bins of equal width, as JSON.

    Parameters
    ----------
    values : array or sequence of numbers, or (counts, edges)
        Any shape; NaN and infinity are counted apart. A pair is what ``numpy.histogram`` returns.
    bins : int
        Number of bins, at most :data:`MOST_BINS`.

    Raises
    ------
    BadInput
        They are not numbers, or the number of bins is not allowed.
    """
    import numpy as np

    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= MOST_BINS:
        raise BadInput(f"bins must be a whole number from 1 to {MOST_BINS}, got {bins!r}")
    try:
        if isinstance(values, tuple) and len(values) == 2 and len(values[1]) == len(values[0]) + 1:
            counts, edges, odd = np.asarray(values[0], float), np.asarray(values[1], float), 0
        else:
            array = values.detach().float().cpu() if hasattr(values, "detach") else values
            numbers = np.asarray(array, np.float64).ravel()
            finite = numbers[np.isfinite(numbers)]
            counts, edges = np.histogram(finite, bins=bins)
            odd = len(numbers) - len(finite)
    except (TypeError, ValueError) as error:
        raise BadInput(f"a histogram must be of real numbers: {error}") from None
    document = {"edges": edges.tolist(), "counts": counts.tolist(), "nonfinite": odd}
    data: bytes = json.dumps(document).encode()
    checked("histogram", data)
    return data


#: What makes the file of each kind.
MAKE: Mapping[str, Callable[..., bytes]] = {
    "image": image_bytes,
    "figure": figure_bytes,
    "table": table_bytes,
    "text": text_bytes,
    "histogram": histogram_bytes,
}
