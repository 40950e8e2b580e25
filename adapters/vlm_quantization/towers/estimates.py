"""What a long pass needs, said before and after: time by a timed sample, memory, and space in the cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.towers.batch_size import free_bytes, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.vlm_quantization.towers.encoding_pass import EncodingPass
    from adapters.vlm_quantization.towers.feature_cache import Shelf


#: The sample that time is estimated from lasts at least this many seconds.
SAMPLE_SECONDS = 2.0


class Estimate:
    """The needs of a pass over pictures or texts.

    Parameters
    ----------
    what : str
        ``"picture"`` or ``"text"``.
    total, known : int
        Number of items, and of those whose features are in the cache.
    tower : ImageTower or TextTower
    shelf : Shelf
        Where features are kept.
    say : callable or None
        Takes each sentence.
    beside : int
        Bytes per item that the pass keeps beside its features.
    """

    def __init__(
        self,
        what: str,
        total: int,
        known: int,
        tower: Any,
        shelf: Shelf,
        say: Callable[[str], None] | None = None,
        *,
        beside: int = 0,
    ) -> None:
        self._what, self._total, self._known = what, total, known
        self._tower, self._shelf = tower, shelf
        self._say = say or (lambda words: None)
        self._started = time.perf_counter()
        self._bytes = 4 * tower.dim + beside
        #: Time and number of items after the first batch, which also loads the network.
        self._first: tuple[float, int] | None = None
        self._timed = False
        if not self.left:
            self._say(f"{_count(total, what)}: all encoded before by {tower.name}, nothing to encode.")

    @property
    def left(self) -> int:
        """Number of items to encode."""
        return self._total - self._known

    def measured(self, encoded: int) -> None:
        """Say once how long the rest takes, as soon as the sample is long enough."""
        now = time.perf_counter()
        if self._first is None:
            self._first = (now, encoded)
        seconds, timed = now - self._first[0], encoded - self._first[1]
        if self._timed or seconds < SAMPLE_SECONDS or not timed:
            return
        self._timed = True
        rate = timed / seconds
        before = f" ({self._known:,} encoded before)" if self._known else ""
        memory = resident_bytes() + 4 * self._tower.dim * self._total
        words = [
            f"{_count(self.left, self._what)} to encode by {self._tower.name}{before}: "
            f"about {duration((self.left - encoded) / rate)} more "
            f"({rate:,.1f} per second, timed on {timed:,} of them).",
            f"The features take {size_in_words(self._bytes * self.left)} of the cache; "
            f"this process takes about {size_in_words(memory)} of memory.",
        ]
        if memory - resident_bytes() > free_bytes():
            words.append(f"Only {size_in_words(free_bytes())} of memory are free.")
        self._say(" ".join(words))

    def finished(self, encoding: EncodingPass) -> str:
        """Say what was found, the batch size and what could not be kept, and return it."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        halved = encoding.size.halved
        words = [
            f"{_count(encoding.count, self._what)} encoded by {self._tower.name}, {encoding.size.now} at a "
            f"time, {encoding.count / seconds:,.1f} per second."
        ]
        if halved:
            times = "once" if halved == 1 else f"{halved} times"
            words.append(f"The memory was too small for larger batches: halved {times}.")
        if self._shelf.full:
            words.append("The cache has no room for all of them, so a later job encodes some again.")
        if damaged := self._shelf.damaged:
            files = "1 damaged file" if damaged == 1 else f"{damaged} damaged files"
            words.append(f"{files} of the cache was deleted, and what it held encoded again.")
        found = " ".join(words)
        self._say(found)
        return found


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration in words, to two digits at most: ``40 s``, ``7 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_in_words(size: float) -> str:
    """Return a number of bytes in words: ``3 MB``, ``1.2 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 1):,.0f} MB"
