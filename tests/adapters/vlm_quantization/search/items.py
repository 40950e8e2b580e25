"""Items in memory, and a second opinion on which of them a condition matches."""

import re
import unicodedata

import pyarrow as pa


class TableItems:
    """Items of an Arrow table, as an opened index has them; counts what is read."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.schema = table.schema
        self.read: list[str] = []

    def __len__(self) -> int:
        return self._table.num_rows

    def batches(self, columns, every=1):
        self.read += columns
        yield from self._table.select(columns).to_batches()[::every]


def values_of(item, field):
    """Return what an item has in a field, from the item itself."""
    captions = item.get("captions", {})
    if field == "language" and "captions" in item:
        return list(captions)
    if field == "caption" and "captions" in item:
        return [text for texts in captions.values() for text in texts]
    value = item.get({"label": "labels"}.get(field, field))
    return value if isinstance(value, list) else [] if value is None else [value]


def holds(condition, values):
    """Return whether one of an item's values matches a condition of texts."""
    for wanted in condition.values:
        nfc = unicodedata.normalize("NFC", wanted.text)
        known = [unicodedata.normalize("NFC", value) for value in values]
        if not wanted.text:
            if wanted.prefix == any(known):
                return True
        elif condition.field == "caption":
            start = "^" if wanted.prefix else ""
            if any(re.search(start + re.escape(nfc), value, re.IGNORECASE) for value in known):
                return True
        elif any(value.startswith(nfc) if wanted.prefix else value == nfc for value in known):
            return True
    return False
