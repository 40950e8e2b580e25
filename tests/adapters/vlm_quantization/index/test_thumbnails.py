import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.index.blocks import CheckedFile, CheckedRows
from adapters.vlm_quantization.index.thumbnails import Thumbnails

PICTURES = [b"one", b"two-and-a-half", b"3", b"four"]


def opened(tmp_path, pictures=PICTURES, shard=5, offsets=None):
    data = b"".join(pictures)
    shards = []
    for number in range(-(-len(data) // shard)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(data[number * shard : (number + 1) * shard])
        shards.append(CheckedFile(path))
    if offsets is None:
        offsets = np.cumsum([0, *map(len, pictures)])
    np.save(tmp_path / "offsets.npy", np.asarray(offsets, np.int64))
    path = tmp_path / "offsets.npy"
    return Thumbnails(shards, CheckedRows(CheckedFile(path), np.lib.format.open_memmap(path, mode="r")))


@pytest.mark.parametrize("shard", [1, 2, 5, 22, 100])
def test_a_thumbnail_may_lie_in_several_files(tmp_path, shard):
    thumbnails = opened(tmp_path, shard=shard)
    assert [thumbnails[row] for row in range(4)] == PICTURES
    thumbnails.check()


@pytest.mark.parametrize("offsets", [[1, 3, 17, 18, 22], [0, 3, 17, 18, 21], [0, 3, 17, 18, 23]])
def test_offsets_of_other_files_are_refused(tmp_path, offsets):
    with pytest.raises(wb.CorruptFile, match=r"offsets\.npy: the offsets do not match 0\.bin"):
        opened(tmp_path, offsets=offsets)


@pytest.mark.parametrize("middle", [-5, 2, 3, 2**62, 18])
def test_a_wrong_offset_is_refused_when_it_is_used(tmp_path, middle):
    thumbnails = opened(tmp_path, offsets=[0, 3, middle, 18, 22])
    assert thumbnails[0] == b"one"
    assert thumbnails[3] == b"four"
    with pytest.raises(wb.CorruptFile, match="do not match"):
        [thumbnails[row] for row in (1, 2)]
    with pytest.raises(wb.CorruptFile, match="do not match"):
        thumbnails.check()
