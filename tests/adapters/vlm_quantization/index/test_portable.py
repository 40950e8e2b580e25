"""A shard that is encoded in another process has the bytes of one that is encoded here."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.index.entries import SortedEntries, caption_entries, picture_entries
from adapters.vlm_quantization.index.portable import EncoderFile, StoredPictures, portable
from adapters.vlm_quantization.index.shards import Shards, encode_shard
from tests.adapters.vlm_quantization import shapes
from tests.adapters.vlm_quantization.small_index import SmallCollection, SmallEncoder


class Opened:
    """Stands for a checkpoint in another process: it opens the small encoder."""

    def __call__(self) -> SmallEncoder:
        return SmallEncoder()


def test_a_task_that_was_pickled_writes_the_same_file(tmp_path: Path) -> None:
    collection = shapes.collection()
    with (
        SortedEntries(picture_entries(collection), tmp_path) as pictures,
        SortedEntries(caption_entries(collection, tmp_path), tmp_path) as texts,
    ):
        sides = {"images": pictures, "captions": texts}
        shards = Shards(tmp_path / "shards", collection, SmallEncoder(), sides, 8, None)
        tasks = list(shards.missing())
        assert {task.side for task in tasks} == {"images", "captions"}
        for task in tasks:
            sent = portable(replace(task, encoder=SmallEncoder()), EncoderFile("model", "family"))
            assert isinstance(sent.encoder, EncoderFile)
            sent = pickle.loads(pickle.dumps(replace(sent, encoder=Opened())))  # noqa: S301  # our own
            encode_shard(sent)
            there = Path(task.output).read_bytes()
            encode_shard(task)
            assert Path(task.output).read_bytes() == there
        assert list(shards.missing()) == []
        assert sum(len(rows.codes) for rows in shards.read("images")) == len(collection)


def test_a_collection_whose_pictures_are_only_here_is_refused(tmp_path: Path) -> None:
    with SortedEntries(picture_entries(SmallCollection()), tmp_path) as pictures:
        shards = Shards(tmp_path / "shards", SmallCollection(), SmallEncoder(), {"images": pictures}, 8, None)
        task = next(shards.missing())
    with pytest.raises(wb.BadInput, match="SmallCollection cannot be opened by another process"):
        portable(task, EncoderFile("model", "family"))


def test_a_checkpoint_is_opened_by_its_family(tmp_path: Path) -> None:
    with pytest.raises(wb.WorkbenchError):
        EncoderFile(str(tmp_path / "missing.safetensors"), "vlm_quantization")()


def test_what_is_known_of_a_picture_is_handed_on() -> None:
    from adapters.vlm_quantization.encoding.known_pictures import KnownPicture

    known = KnownPicture(np.ones(3, np.float32), b"webp")
    assert StoredPictures((known,), ("a",)).open(0) is known
