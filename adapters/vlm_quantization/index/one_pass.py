"""Pictures of an index, encoded and made small while their collection is opened: each is decoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from adapters.vlm_quantization.data.pictures import opened_ahead
from adapters.vlm_quantization.encoding.known_pictures import KnownCollection
from adapters.vlm_quantization.index.shards import THUMBNAIL_PIXELS, thumbnail_of
from adapters.vlm_quantization.towers.encoding_pass import GROUP, EncodingPass
from adapters.vlm_quantization.towers.estimates import Estimate
from adapters.vlm_quantization.towers.feature_cache import SHARD_RECORDS, FeatureCache, key_of
from adapters.vlm_quantization.towers.features import CHUNK, PREPARERS, Encoding, picture_shelf

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.towers.tower import ImageTower


#: Thumbnails that are made while others are written; bounds the decoded pictures in memory.
_AHEAD = 32

#: Pictures that were shown, among which those are looked for that are not kept yet; bounds their number.
_SEEN = 8_192

#: Bytes of a thumbnail, roughly, for estimates.
_THUMBNAIL_BYTES = 4_000


class OnePass:
    """An onlooker that keeps the features and the thumbnail of each picture in the feature cache.

    Use it as a context manager around the opening of a collection; what it made is kept in any case, so that
    an opening which is stopped goes on where it was.

    Parameters
    ----------
    tower : ImageTower
        The picture tower of the model.
    cache : Path
        The workspace's cache folder.
    how : Encoding
    check : callable, optional
        Called with the number of pictures before the first one is decoded; an exception stops the opening.
    """

    def __init__(
        self,
        tower: ImageTower,
        cache: Path,
        how: Encoding,
        check: Callable[[int], None] | None = None,
    ) -> None:
        shelves = FeatureCache(cache)
        self.features = picture_shelf(shelves, tower)
        self.thumbnails = shelves.shelf("thumbnails", {"pixels": THUMBNAIL_PIXELS, "form": "webp/1"})
        self._tower = tower
        self._how = how
        self._check = check or (lambda pictures: None)
        self._pictures = 0
        size = how.size_for(tower, CHUNK)
        self._encoding = EncodingPass(
            tower, self.features, size, self._encoded, threads=PREPARERS, group=GROUP
        )
        self._estimate: Estimate | None = None
        #: What was encoded and how, in words; empty if everything was known.
        self.words = ""
        self._seen: set[bytes] = set()
        self._threads = ThreadPoolExecutor(PREPARERS)
        self._small: deque[tuple[bytes, Future[bytes]]] = deque()
        self._made: list[tuple[bytes, bytes]] = []

    def __enter__(self) -> OnePass:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._encoding.__exit__(kind, error, trace)
            if error is None:
                self._collect(0)
        finally:
            self._threads.shutdown(cancel_futures=True)
            self.thumbnails.put(self._made)
            self._made = []
        if error is None and self._estimate is not None and self._encoding.count:
            self.words = self._estimate.finished(self._encoding)

    def begin(self, pictures: int) -> None:
        """Take the number of pictures, of one collection after another."""
        self._pictures += pictures
        self._check(self._pictures)
        self._estimate = Estimate(
            "picture", self._pictures, 0, self._tower, self.features, self._how.say, beside=_THUMBNAIL_BYTES
        )

    def wants(self, digest: str) -> bool:
        """Return whether the features or the thumbnail of a picture are missing, and there is room."""
        key = key_of(digest)
        if self.features.full or key in self._seen:
            return False
        return not self._is_kept(key)

    def _is_kept(self, key: bytes) -> bool:
        return key in self.features and key in self.thumbnails

    def show(self, digest: str, picture: Image) -> None:
        """Encode a picture and make its thumbnail, where they are missing."""
        key = key_of(digest)
        if key in self._seen or self.features.full:
            return
        if len(self._seen) >= _SEEN:  # those that are kept by now are known without it
            self._seen = {one for one in self._seen if not self._is_kept(one)}
        self._seen.add(key)
        if key not in self.thumbnails:
            self._small.append((key, self._threads.submit(thumbnail_of, picture)))
            self._collect(_AHEAD)
        if key not in self.features:
            self._encoding.add(key, picture)

    def fill(self, collection: CaptionedImages) -> None:
        """Decode the pictures of an opened collection that are still missing: its digests came with it."""
        rows = [row for row, item in enumerate(collection.items) if self.wants(item.digest)]
        if rows and self._estimate is None:
            self.begin(len(collection))
        with closing(opened_ahead(collection.open, rows)) as opened:
            for done, (row, picture) in enumerate(zip(rows, opened, strict=True)):
                if self._how.progress and done % 25 == 0:
                    self._how.progress(done, len(rows), "encoding pictures")
                if not isinstance(picture, Exception):  # the build lists what became unreadable
                    self.show(collection.items[row].digest, picture)

    def _encoded(self, keys: Sequence[bytes], features: NDArray[np.float32]) -> None:
        if self._estimate is not None:
            self._estimate.measured(self._encoding.count)

    def _collect(self, left: int) -> None:
        """Take the finished thumbnails, and wait until at most ``left`` are being made."""
        while len(self._small) > left:
            key, made = self._small.popleft()
            self._made.append((key, made.result()))
        if len(self._made) >= SHARD_RECORDS:
            made_now, self._made = self._made, []
            self.thumbnails.put(made_now)

    def known(self, collection: CaptionedImages) -> KnownCollection:
        """Return the opened collection with what is known of its pictures."""
        self.features.refresh()
        return KnownCollection(collection, self.features, self.thumbnails, self._tower.dim)
