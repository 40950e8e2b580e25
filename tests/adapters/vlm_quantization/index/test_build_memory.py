"""The memory of a build does not grow with the number of its items."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded
from adapters.vlm_quantization.data import external_sort
from adapters.vlm_quantization.data.collection import Item
from adapters.vlm_quantization.encoding.known_pictures import KnownPicture
from adapters.vlm_quantization.index import blocks, item_table, names, shards, thresholds
from adapters.vlm_quantization.index.build import build_index


class Items(Sequence[Any]):
    """Items that are made when they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(self.count))

    def __getitem__(self, row: Any) -> Any:
        digest = hashlib.sha256(str(row).encode()).hexdigest()
        captions = {"en": (f"a thing with the number {row}", f"the same in other words, {row}")}
        return Item(
            f"{digest[:8]}-{row}.jpg", f"{row}", captions, Path("/photos", f"{row}.jpg"), digest=digest
        )


class Collection:
    name, languages, credits = "many", ("en",), ()

    def __init__(self, count: int) -> None:
        self.items, self.fingerprint = Items(count), str(count)

    def open(self, i: int) -> Any:
        return KnownPicture(np.eye(8, dtype=np.float32)[i % 8], b"x" * 400)


class Encoder:
    bits, dim, name, fingerprint = CODE_LENGTHS, 8, "units", "f" * 64

    def encode_images(self, images: Sequence[Any]) -> Encoded:
        return self.encode_texts(images)

    def encode_texts(self, texts: Sequence[Any]) -> Encoded:
        rows = np.eye(8, dtype=np.float32)[np.arange(len(texts)) % 8]
        return Encoded(np.tile(np.arange(16, dtype=np.uint8), (len(texts), 1)), rows)


def test_memory_does_not_grow_with_the_number_of_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_sort, "RUN_BYTES", 2**14)
    monkeypatch.setattr(external_sort, "FAN_IN", 4)
    monkeypatch.setattr(external_sort, "_READ_BYTES", 2**11)
    monkeypatch.setattr(shards, "SHARD_ITEMS", 32)
    monkeypatch.setattr(item_table, "ROWS", 32)
    monkeypatch.setattr(names, "RUN", 256)
    monkeypatch.setattr(blocks, "BLOCK", 2**12)
    monkeypatch.setattr(thresholds, "UNRELATED_SAMPLE", 50)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            collection: Any = Collection(count)
            report = build_index(tmp_path, collection, Encoder(), name=f"n{count}", batch_size=32)
            assert (report.images, report.captions) == (count, 2 * count)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(40)
    # The entries of 400 pictures and 800 captions in memory would be some 1,400,000 bytes.
    assert peak(600) - peak(200) < 500_000
