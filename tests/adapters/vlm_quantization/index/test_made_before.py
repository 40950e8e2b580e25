"""A new index takes from the old one, and from what a killed build left, all that it can: by content."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.vlm_quantization.index import shards
from adapters.vlm_quantization.index.format import read_manifest
from adapters.vlm_quantization.index.made_before import KeyTable
from adapters.vlm_quantization.index.opened import load_index
from tests.adapters.vlm_quantization import small_index
from tests.adapters.vlm_quantization.small_index import (
    N_CONCEPTS,
    SmallCollection,
    SmallEncoder,
    SmallItem,
    build,
)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ITEMS", 16)


@dataclass(frozen=True)
class Drawn(SmallItem):
    """An item that knows the digest of its pixels, as those of real collections do."""

    digest: str = ""


class Drawings(SmallCollection):
    """The small collection with digests; its items may be renamed, added and left out."""

    def __init__(self, changed: Any = None) -> None:
        super().__init__()
        items = [Drawn(**{**vars(item), "digest": f"{item.style} {item.concept}"}) for item in self.items]
        self.items = items if changed is None else changed(items)
        self.fingerprint = str(hash(tuple(item.id for item in self.items)))


def encoded(encoder: SmallEncoder) -> dict[str, int]:
    """Return how many pictures and texts an encoder was given."""
    counts = {"images": 0, "texts": 0}
    for side, count in encoder.calls:
        counts[side] += count
    return counts


def contents(index: Path) -> dict[str, str]:
    return {name: seal.sha256 for name, seal in read_manifest(index).files.items()}


def rows(index: Path) -> dict[str, tuple[bytes, bytes, bytes]]:
    """Return what an index holds of each picture, by what is in it."""
    opened = load_index(index, lambda file: SmallEncoder())
    side = opened.sides["images"]
    return {
        f"{side.items[row]['style']} {side.items[row]['concept']}": (
            np.array(side.codes[row]).tobytes(),
            np.array(side.features[row]).tobytes(),
            opened.thumbnail(row),
        )
        for row in range(len(opened))
    }


def renamed(items: list[Drawn]) -> list[Drawn]:
    return [replace(item, id=f"zz-{item.id}" if item.concept < "010" else item.id) for item in items]


def grown(items: list[Drawn]) -> list[Drawn]:
    new = [
        Drawn(f"new:{n}", f"{n:03d}", SmallCollection.names(n), digest=f"plain {n:03d}")
        for n in range(100, 105)
    ]
    return [*new, *items]


def thinned(items: list[Drawn]) -> list[Drawn]:
    return [item for item in items if item.concept >= "007"]


@pytest.mark.parametrize(
    ("change", "new"),
    [
        (None, {"images": 0, "texts": 0}),
        (renamed, {"images": 0, "texts": 0}),
        (grown, {"images": 5, "texts": 15}),
        (thinned, {"images": 0, "texts": 0}),
    ],
)
def test_only_what_is_new_is_encoded(tmp_path: Path, change: Any, new: dict[str, int]) -> None:
    build(tmp_path, collection=Drawings())
    encoder, collection = SmallEncoder(), Drawings(change)
    report = build(tmp_path, collection=collection, encoder=encoder)
    assert encoded(encoder) == new
    assert report.images == len(collection.items)
    assert report.reused == report.images + report.captions - sum(new.values())
    fresh = build(tmp_path / "fresh", collection=collection)
    assert rows(report.path) == rows(fresh.path)
    assert contents(report.path).keys() == contents(fresh.path).keys()


def test_the_same_collection_built_again_has_the_same_bytes(tmp_path: Path) -> None:
    first = contents(build(tmp_path, collection=Drawings()).path)
    assert contents(build(tmp_path, collection=Drawings()).path) == first


def test_a_build_with_another_model_takes_nothing(tmp_path: Path) -> None:
    build(tmp_path, collection=Drawings())
    other = SmallEncoder()
    other.fingerprint = "another"
    assert build(tmp_path, collection=Drawings(), encoder=other).reused == 0
    assert encoded(other) == {"images": 2 * N_CONCEPTS, "texts": 3 * N_CONCEPTS}


def test_pictures_without_digests_are_encoded_again(tmp_path: Path) -> None:
    build(tmp_path)
    encoder = SmallEncoder()
    build(tmp_path, encoder=encoder)
    assert encoded(encoder) == {"images": 2 * N_CONCEPTS, "texts": 0}


@pytest.mark.parametrize("name", ["images.codes.1-8.npy", "images.features.npy", "images.items.arrow"])
def test_an_altered_byte_of_the_old_index_never_gets_into_the_new_one(tmp_path: Path, name: str) -> None:
    fresh = contents(build(tmp_path, collection=Drawings()).path)
    path = tmp_path / "small" / name
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)
    encoder = SmallEncoder()
    report = build(tmp_path, collection=Drawings(), encoder=encoder)
    assert encoded(encoder)["images"] > 0
    assert {one: two for one, two in contents(report.path).items() if "codes" in one or "thumb" in one} == {
        one: two for one, two in fresh.items() if "codes" in one or "thumb" in one
    }


def test_shards_of_a_killed_build_serve_a_collection_that_has_changed_since(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, small_index.__file__, tmp_path, "small"],
        env={**os.environ, "WORKBENCH_CRASH_AT": "index:shard:6", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    smaller = SmallCollection()
    smaller.items = smaller.items[:-1]  # one picture less, which is the first by its id
    encoder = SmallEncoder()
    report = build(tmp_path, collection=smaller, encoder=encoder)
    # Four shards of pictures were finished, whose items are in others now, and two of texts.
    assert (report.resumed, report.reused) == (2, 2 * N_CONCEPTS - 1)
    assert encoded(encoder) == {"images": 0, "texts": 3 * N_CONCEPTS - 32}
    assert not list(tmp_path.glob(".*"))


def test_keys_are_found_in_a_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    keys = [random.bytes(16) for _ in range(500)]
    keys += [keys[0][:8] + random.bytes(8) for _ in range(5)]  # equal in their first half
    table = KeyTable(((key, number) for number, key in enumerate(keys)), tmp_path)
    assert [table.get(key) for key in keys] == list(range(505))
    assert table.get(b"\0" * 16) is None
    assert table.get(keys[0][:8] + b"\0" * 8) is None
    assert KeyTable((), tmp_path).get(keys[0]) is None
    assert list(tmp_path.iterdir()) == []
