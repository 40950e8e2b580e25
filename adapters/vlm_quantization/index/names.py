"""The rows of an index whose items are named exactly as a text."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.index.items import ItemLines


#: The names of a side with more items than this are not read: it would hold up its first search for seconds.
MOST_NAMED = 100_000


def name_key(text: str) -> str:
    """Return a text in the form in which names are compared: its words, or itself if it has none."""
    return " ".join(words_of(text)) or unicodedata.normalize("NFC", text.strip())


class Names:
    """The names of one side's items.

    Parameters
    ----------
    items : ItemLines
        The items; none of them has a name here if there are more than :data:`MOST_NAMED`.
    """

    def __init__(self, items: ItemLines) -> None:
        self._items = items
        pairs = [
            (zlib.crc32(key.encode()), row)
            for row in range(len(items) if len(items) <= MOST_NAMED else 0)
            for key in {name_key(text) for text in _texts(items[row])}
        ]
        both = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        self._keys, self._rows = both[:, 0], both[:, 1]

    def rows(self, text: str) -> NDArray[np.int64]:
        """Return the rows of the items with a name, in order."""
        key = name_key(text)
        number = zlib.crc32(key.encode())
        found = self._rows[np.searchsorted(self._keys, number) : np.searchsorted(self._keys, number, "right")]
        kept = [row for row in found if any(name_key(one) == key for one in _texts(self._items[row]))]
        return np.array(kept, np.int64)


def _texts(item: dict[str, Any]) -> Iterator[str]:
    yield item["caption"]
    for texts in item.get("captions", {}).values():
        yield from texts
