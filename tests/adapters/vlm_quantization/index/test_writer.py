import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.index import blocks, item_table, names, thumbnails
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.blocks import CheckedFile
from adapters.vlm_quantization.index.items import ItemFile
from adapters.vlm_quantization.index.writer import IndexWriter

CUTS, DIM, N = (8, 16, 32), 6, 50


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 256)
    monkeypatch.setattr(item_table, "ROWS", 8)
    monkeypatch.setattr(names, "RUN", 16)
    monkeypatch.setattr(thumbnails, "SHARD_BYTES", 300)


def items(n, side="images"):
    """Return items, one in three of which is called the same."""
    some = [
        {
            "id": f"{i:04d}",
            "concept": f"c{i}",
            "caption": f"thing {i}" if i % 3 else "Thing!",
            "subtitle": "물건",
        }
        for i in range(n)
    ]
    for i, item in enumerate(some):
        if side == "captions":
            item["language"] = "en"
        else:
            item |= {"captions": {"en": [item["caption"], "a thing"]}, "labels": ["x"], "flag": i % 2 == 0}
            item |= {"path": f"{i}.png", "file": [i, 2**60 + i]} if i % 2 else {"rating": i}
    return some


def vectors(n):
    random = np.random.default_rng(0)
    rows = random.standard_normal((n, DIM)).astype(np.float32)
    return random.integers(0, 256, (n, 4), np.uint8), rows / np.linalg.norm(rows, axis=1, keepdims=True)


PICTURES = [bytes([i]) * (10 + i % 7) for i in range(N)]


def write(folder, sizes=(N,), features="float32"):
    folder.mkdir()
    codes, rows = vectors(N)
    with IndexWriter(folder, CUTS, DIM, features=features) as writer:
        at = 0
        while at < N:
            for size in sizes:
                part = slice(at, min(at + size, N))
                for side in files.SIDES:
                    pictures = PICTURES[part] if side == "images" else ()
                    writer.add(side, items(N, side)[part], codes[part], rows[part], pictures)
                at = part.stop
        return writer.finish()


def test_the_same_items_give_the_same_bytes_in_whatever_parts_they_come(tmp_path):
    one, other = write(tmp_path / "a"), write(tmp_path / "b", sizes=(1, 9, 0, 4))
    assert one == other
    assert one.counts == {"images": N, "captions": N}
    names_of = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert sorted(one.files) == names_of
    assert "thumbnails.00002.bin" in names_of
    for name in names_of:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_what_was_written_is_read_again(tmp_path):
    written = write(tmp_path / "a", sizes=(7,))
    codes, rows = vectors(N)
    folder = tmp_path / "a"
    columns = [np.load(folder / name) for name in files.column_files("images", CUTS).values()]
    assert np.array_equal(np.concatenate(columns, axis=1), codes)
    assert np.array_equal(np.load(folder / "captions.features.npy"), rows)
    for side in files.SIDES:
        stored = ItemFile(CheckedFile(folder / f"{side}.items.arrow"), side, N)
        assert [stored[row] for row in range(N)] == items(N, side)
        stored.check()
        assert [stored.find(f"{i:04d}") for i in (0, 17, N - 1)] == [0, 17, N - 1]
        assert stored.find("0017a") is None
        assert stored.find("") is None
        assert stored.find("x") is None
        with pytest.raises(IndexError):
            stored[N]
    pictures = ItemFile(CheckedFile(folder / "images.items.arrow"), "images", N)
    assert pictures.table.num_rows == N
    assert pictures.table.column("other").to_pylist()[:3] == ['{"rating": 0}', None, '{"rating": 2}']
    assert pictures.table.column("file_mtime").to_pylist()[:2] == [None, 2**60 + 1]
    parts = list(pictures.batches(["labels", "flag"]))
    assert [part.num_rows for part in parts] == [8] * 6 + [2]
    assert parts[1].schema.names == ["labels", "flag"]
    assert parts[1].column("flag").to_pylist() == [True, False] * 4
    assert b"".join((folder / f"thumbnails.{i:05d}.bin").read_bytes() for i in range(3)) == b"".join(PICTURES)
    assert np.load(folder / "thumbnails.offsets.npy").tolist() == np.cumsum([0, *map(len, PICTURES)]).tolist()
    for name, seal in written.files.items():
        assert (folder / name).stat().st_size == seal.size
        assert blocks.seal_of(blocks.checksums_of(folder / name, 256)) == seal.sha256


@pytest.mark.parametrize(
    ("features", "dtype", "names_of"),
    [("float16", "float16", {"features"}), ("int8", "int8", {"features", "scales"}), ("none", None, set())],
)
def test_features_are_stored_as_asked(tmp_path, features, dtype, names_of):
    written = write(tmp_path / "a", features=features)
    assert written.features == features
    assert {name for name in ("features", "scales") if f"images.{name}.npy" in written.files} == names_of
    if dtype:
        assert np.load(tmp_path / "a" / "images.features.npy").dtype == dtype
    else:
        with IndexWriter(empty(tmp_path / "b"), CUTS, DIM, features="none") as writer:
            writer.add("captions", items(3, "captions"), vectors(3)[0])


def empty(folder):
    folder.mkdir()
    return folder


def test_names_are_sorted_outside_of_memory_with_their_rows(tmp_path):
    write(tmp_path / "a")
    keys, rows = np.load(tmp_path / "a" / "images.names.npy"), np.load(tmp_path / "a" / "images.named.npy")
    expected = sorted(
        (names.number_of(key), row) for row, item in enumerate(items(N)) for key in names.keys_of(item)
    )
    assert list(zip(keys.tolist(), rows.tolist(), strict=True)) == expected


def test_a_wrong_part_is_refused(tmp_path):
    codes, rows = vectors(3)
    with IndexWriter(empty(tmp_path / "a"), CUTS, DIM) as writer:
        some, pictures = items(3), PICTURES[:3]
        for wrong in (
            (some, codes[:2], rows, pictures),
            (some, codes[:, :3], rows, pictures),
            (some, codes.astype(int), rows, pictures),
            (some, codes, rows[:, 1:], pictures),
            (some, codes, None, pictures),
            (some, codes, rows, pictures[1:]),
        ):
            with pytest.raises(ValueError, match=r"must|thumbnails for"):
                writer.add("images", *wrong)
        writer.add("images", some, codes, rows, pictures)
        with pytest.raises(wb.BadInput, match="two items have the id '0002'"):
            writer.add("images", some[2:], codes[:1], rows[:1], pictures[:1])
        with pytest.raises(ValueError, match="'0001' comes after '0002'"):
            writer.add("images", some[1:2], codes[:1], rows[:1], pictures[:1])
    with pytest.raises(wb.BadInput, match="unknown features 'float64'"):
        IndexWriter(tmp_path, CUTS, DIM, features="float64")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", [3]),
        ("labels", "words"),
        ("caption", 3),
        ("captions", {"en": "x"}),
        ("flag", "no"),
        ("file", ["a", "b"]),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_field(field, value):
    named = "file_size" if field == "file" else field
    item = items(1)[0] | {field: value}
    with pytest.raises(wb.BadInput, match=f"'{named}' of one of the items '0000' to '0000' is not"):
        item_table.batch_of([item], "images")


def test_a_file_is_copied_and_sealed(tmp_path):
    (tmp_path / "model").write_bytes(bytes(700))
    with IndexWriter(empty(tmp_path / "a"), CUTS, DIM) as writer:
        writer.add("images", items(1), *vectors(1), [b"x"])
        writer.add_file("model.bin", tmp_path / "model")
        written = writer.finish()
    assert (tmp_path / "a" / "model.bin").read_bytes() == bytes(700)
    assert written.files["model.bin"].size == 700
    assert written.counts == {"images": 1, "captions": 0}
