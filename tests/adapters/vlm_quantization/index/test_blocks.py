import hashlib

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.index import blocks
from adapters.vlm_quantization.index.blocks import BlockWriter, CheckedFile, CheckedRows, Checks

BLOCK = 256


def written(path, data, head=b"", parts=(7, 300, 1, 900)):
    """Write a file in parts of different sizes; return the checksums of its blocks."""
    out = BlockWriter(path, BLOCK)
    at = 0
    while at < len(data):
        for size in parts:
            out.write(data[at : at + size])
            at += size
    assert out.size == len(data)
    return out.finish(head)


def checked(path, checksums):
    table = np.frombuffer(checksums, np.uint8).reshape(-1, blocks.CHECKSUM)
    return CheckedFile(path, BLOCK, table, blocks.seal_of(checksums))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 2_000])
def test_checksums_are_those_of_the_blocks_whatever_the_parts(tmp_path, size):
    data = np.random.default_rng(0).bytes(size)
    checksums = written(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == data
    expected = [hashlib.sha256(data[at : at + BLOCK]).digest()[:16] for at in range(0, size, BLOCK)]
    assert checksums == b"".join(expected) == blocks.checksums_of(tmp_path / "a", BLOCK)
    assert blocks.seal_of(checksums) == hashlib.sha256(checksums).hexdigest()


@pytest.mark.parametrize("size", [50, 256, 600])
def test_the_first_bytes_may_be_written_last(tmp_path, size):
    checksums = written(tmp_path / "a", bytes(size), b"head")
    assert (tmp_path / "a").read_bytes() == b"head" + bytes(size - 4)
    assert checksums == blocks.checksums_of(tmp_path / "a", BLOCK)


def test_an_altered_block_is_an_error_when_it_is_used_and_others_are_not(tmp_path):
    path = tmp_path / "a"
    checksums = written(path, bytes(range(256)) * 4)
    with path.open("r+b") as file:
        file.seek(600)
        file.write(b"x")
    one = checked(path, checksums)
    one.check(0, 512)
    one.check(768, 1_024)
    one.check(5, 5)
    for start, stop in ((512, 513), (600, 601), (0, 1_024), (511, 513)):
        with pytest.raises(wb.CorruptFile, match="checksum mismatch in bytes 512 to 768") as refused:
            one.check(start, stop)
        assert refused.value.path == path
    with pytest.raises(wb.CorruptFile):
        one.check_all()


def test_a_block_is_compared_once(tmp_path, monkeypatch):
    checksums = written(tmp_path / "a", bytes(1_000))
    one = checked(tmp_path / "a", checksums)
    compared = []
    monkeypatch.setattr(blocks, "checksum", lambda data: compared.append(len(data)) or checksums[:16])
    one.check(0, 300)
    one.check(100, 400)
    assert compared == [256, 256]
    one.check(300, 700)
    assert compared == [256, 256, 256]


def test_altered_checksums_are_named(tmp_path):
    checksums = written(tmp_path / "a", bytes(1_000))
    other = b"\1" + checksums[1:]
    table = np.frombuffer(other, np.uint8).reshape(-1, 16)
    one = CheckedFile(tmp_path / "a", BLOCK, table, blocks.seal_of(checksums), tmp_path / "sums")
    with pytest.raises(wb.CorruptFile, match=r"sums: the checksums of a do not have the seal"):
        one.check(900, 901)


def test_without_checksums_nothing_is_compared(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    one = CheckedFile(tmp_path / "a")
    one.check(0, 10)
    one.check_all()
    assert len(one.bytes) == 0


@pytest.mark.parametrize(
    "rows",
    [3, -1, np.int64(70), slice(None), slice(60, 80), slice(90, 50, -3), slice(5, 2), [7, 64, 64], [], [-1]],
)
def test_rows_are_checked_before_they_are_given(tmp_path, rows):
    values = np.arange(300, dtype=np.uint32).reshape(100, 3)
    np.save(tmp_path / "a.npy", values)
    checksums = blocks.checksums_of(tmp_path / "a.npy", BLOCK)
    stored = np.lib.format.open_memmap(tmp_path / "a.npy", mode="r")
    assert np.array_equal(CheckedRows(checked(tmp_path / "a.npy", checksums), stored)[rows], values[rows])
    # An altered byte is met by those who use its block, and by nobody else.
    for at in range(128, 128 + values.nbytes, 97):
        data = bytearray((tmp_path / "a.npy").read_bytes())
        data[at] ^= 1
        (tmp_path / "b.npy").write_bytes(data)
        other = CheckedRows(
            checked(tmp_path / "b.npy", checksums), np.lib.format.open_memmap(tmp_path / "b.npy", mode="r")
        )
        touched = np.arange(100)[rows]
        first = {*((128 + 12 * np.ravel(touched)) // BLOCK), *((139 + 12 * np.ravel(touched)) // BLOCK)}
        if at // BLOCK in first:
            with pytest.raises(wb.CorruptFile):
                other[rows]
        else:
            assert np.array_equal(other[rows], values[rows])
        (tmp_path / "b.npy").unlink()


def test_rows_may_be_wider_than_blocks_and_chosen_by_bools(tmp_path):
    values = np.arange(1_200, dtype=np.float32).reshape(4, 300)
    np.save(tmp_path / "a.npy", values)
    checksums = blocks.checksums_of(tmp_path / "a.npy", BLOCK)
    rows = CheckedRows(
        checked(tmp_path / "a.npy", checksums), np.lib.format.open_memmap(tmp_path / "a.npy", mode="r")
    )
    chosen = np.array([True, False, True, False])
    assert np.array_equal(rows[chosen], values[chosen])
    assert len(rows) == 4


def test_the_checksums_of_all_files_stand_in_one_in_the_order_of_names(tmp_path):
    parts = {name: written(tmp_path / name, name.encode() * size) for name, size in (("b", 700), ("a", 10))}
    size, own = blocks.write_all(tmp_path / "sums", blocks.joined(parts), BLOCK)
    assert (tmp_path / "sums").read_bytes() == parts["a"] + parts["b"]
    files = {
        "b": (700, blocks.seal_of(parts["b"])),
        "sums": (size, blocks.seal_of(own)),
        "a": (10, blocks.seal_of(parts["a"])),
    }
    checks = Checks(tmp_path, files, "sums", BLOCK)
    assert checks.file("a") is checks.file("a")
    checks.check_all()
    (tmp_path / "b").write_bytes(b"b" * 699 + b"c")
    with pytest.raises(wb.CorruptFile, match="b: checksum mismatch in bytes 512 to 700"):
        Checks(tmp_path, files, "sums", BLOCK).check_all()
    with pytest.raises(wb.CorruptFile, match="sums: must have 80 bytes for 5 blocks, not 64"):
        Checks(tmp_path, files | {"a": (257, files["a"][1])}, "sums", BLOCK)
