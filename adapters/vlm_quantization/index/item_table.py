"""The columns that hold the items of an index in an Arrow file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import workbench as wb

#: Items per record batch. One batch is checked and opened to read an item of it.
ROWS = 2_048

#: Name of the schema's entry with the number of items per record batch.
ROWS_KEY = b"rows_per_batch"

#: The column with the fields that have none of their own, as a JSON object.
OTHER = "other"

_TEXTS = {
    "images": ("id", "concept", "caption", "subtitle", "style", "group", "split", "path"),
    "captions": ("id", "concept", "caption", "subtitle", "language"),
}


def schema_of(side: str, rows: int = 0) -> Any:
    """Return the Arrow schema of a side's items.

    Texts are ``string``: ``id``, ``concept``, ``caption``, ``subtitle``, and ``language`` of captions or
    ``style``, ``group``, ``split`` and ``path`` of pictures. These also have ``captions`` (map of language to
    list of texts), ``labels`` (list of texts), ``flag`` (bool), ``file_size`` (int64, bytes) and
    ``file_mtime`` (int64, nanoseconds). Fields that an item lacks are null. ``other`` is a JSON object of all
    others.

    Parameters
    ----------
    side : {"images", "captions"}
    rows : int
        Items per record batch, which is stored in the schema; not if 0.
    """
    import pyarrow as pa

    fields = [(name, pa.string()) for name in _TEXTS[side]]
    if side == "images":
        texts = pa.list_(pa.string())
        fields += [
            ("captions", pa.map_(pa.string(), texts)),
            ("labels", texts),
            ("flag", pa.bool_()),
            ("file_size", pa.int64()),
            ("file_mtime", pa.int64()),
        ]
    schema = pa.schema([*fields, (OTHER, pa.string())])
    return schema.with_metadata({ROWS_KEY: str(rows).encode()}) if rows else schema


def batch_of(items: Sequence[Mapping[str, Any]], side: str) -> Any:
    """Return items as one Arrow record batch.

    Raises
    ------
    workbench.BadInput
        A field has a value of another type; the message names it.
    """
    import pyarrow as pa

    schema = schema_of(side)
    known = {*schema.names, "file"}
    columns = []
    for field in schema:
        try:
            columns.append(pa.array([_value(item, field.name, known) for item in items], field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise wb.BadInput(
                f"the field {field.name!r} of one of the items {items[0].get('id')!r} to "
                f"{items[-1].get('id')!r} is not {field.type}: {error}"
            ) from None
    return pa.record_batch(columns, schema=schema)


def _value(item: Mapping[str, Any], name: str, known: set[str]) -> Any:
    """Return an item's value for a column."""
    if name == OTHER:
        others = {one: value for one, value in item.items() if one not in known or one == OTHER}
        return json.dumps(others, ensure_ascii=False, sort_keys=True) if others else None
    if name == "captions":
        captions = item.get(name)
        return None if captions is None else [(one, _list(texts)) for one, texts in captions.items()]
    if name == "labels":
        return _list(item.get(name))
    if name in ("file_size", "file_mtime"):
        file = item.get("file")
        return file[name == "file_mtime"] if file else None
    return item.get(name)


def _list(texts: Any) -> Any:
    """Return a list of texts; one text would be taken for a list of its letters."""
    if isinstance(texts, str):
        raise TypeError(f"{texts[:60]!r} is one text, not a list")
    return texts


def item_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table as an item, without the fields that it lacks.

    Raises
    ------
    ValueError
        ``other`` is not a JSON object, or captions are not a map.
    """
    item = {name: value for name, value in row.items() if value is not None}
    if "captions" in item:
        item["captions"] = dict(item["captions"])
    size, time = item.pop("file_size", None), item.pop("file_mtime", None)
    if size is not None and time is not None:
        item["file"] = [size, time]
    if (text := item.pop(OTHER, None)) is not None:
        others = json.loads(text)
        if not isinstance(others, dict):
            raise ValueError("other: must be a JSON object")
        item = {**others, **item}
    return item
