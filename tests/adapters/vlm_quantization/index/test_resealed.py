"""An index that somebody changed and sealed again: a wrong field is one error, which names file and field."""

import copy
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.item_table import ROWS, batch_of, schema_of
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.search.options import SearchOptions
from tests.adapters.vlm_quantization.resealing import items_of, make_old, seal_again, write_items, write_table
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build(tmp_path_factory.mktemp("indexes")).path


@pytest.fixture
def folder(small, tmp_path):
    return shutil.copytree(small, tmp_path / "small")


@pytest.fixture(scope="module")
def old_small(small, tmp_path_factory):
    return make_old(shutil.copytree(small, tmp_path_factory.mktemp("old") / "small"))


@pytest.fixture
def old_folder(old_small, tmp_path):
    return shutil.copytree(old_small, tmp_path / "old")


def everything(folder):
    """Open an index and ask it everything that a page asks."""
    adapter, index = VlmQuantization(), load_index(folder, lambda file: SmallEncoder())
    adapter.describe_index(index)
    adapter.sample_queries(index)
    for target in ("pictures", "captions"):
        for method in ("hamming", "cosine"):
            options = SearchOptions(target=target, method=method)
            for result in (
                adapter.search_by_text(index, "thing 3", 200, options),
                adapter.search_by_text(index, "🐶", 3, options),
                adapter.search_by_item(index, "plain:003", 5, options),
            ):
                json.dumps(result.to_json(), allow_nan=False)


WRONG = [None, [], {}, "", "x", -1, 0, 3.5, True, [1], [None], {"x": 1}, {"x": None}, float("nan"), 10**30]
FIELDS = [
    "format", "adapter", "name", "title", "created", "code_bits", "code_cuts", "feature_dim", "counts",
    "languages", "model", "data", "credits", "thresholds", "provenance", "files", "features", "block_bytes",
]  # fmt: skip
INSIDE = [
    ("counts", "images"), ("counts", "captions"), ("model", "name"), ("model", "fingerprint"),
    ("model", "file"), ("data", "name"), ("thresholds", "captions-images"), ("files", "images.items.arrow"),
    ("files", "thumbnails.00000.bin"), ("files", "checksums.bin"),
]  # fmt: skip
#: Fields that may have some of those values.
HARMLESS = {
    *("format", "name", "title", "created", "credits", "thresholds", "provenance"),
    *("languages", "counts", "data", "model", "features"),
}


def refusals(folder, change):
    """Yield each wrong value, and the error it gave; None where it did no harm."""
    original = (folder / "manifest.json").read_text()
    for value in [*WRONG, ...]:
        (folder / "manifest.json").write_text(original)
        seal_again(folder, lambda body, value=value: change(body, value))
        try:
            everything(folder)
        except (wb.CorruptFile, wb.BadInput) as error:
            yield value, error
        else:
            yield value, None


def put(where, name, value):
    if value is ...:
        del where[name]
    else:
        where[name] = copy.deepcopy(value)


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_field_of_the_manifest_is_named(folder, field):
    errors = dict(enumerate(refusals(folder, lambda body, value: put(body, field, value))))
    for value, error in errors.values():
        if error is None:
            assert field in HARMLESS, value
        else:
            assert isinstance(error, wb.CorruptFile), value
            assert error.path.name in ("manifest.json", "images.features.npy"), (value, error)
            assert field.removesuffix("s") in str(error) or field == "feature_dim", (value, error)
    assert sum(error is not None for _, error in errors.values()) >= 8


@pytest.mark.parametrize(("field", "inner"), INSIDE)
def test_a_wrong_field_within_a_field_is_named(folder, field, inner):
    found = list(refusals(folder, lambda body, value: put(body[field], inner, value)))
    named = (inner.rpartition(".")[0] or inner, field, inner)
    for value, error in found:
        if isinstance(error, wb.CorruptFile):
            assert any(name in str(error) for name in named), (value, error)
        elif error is not None:  # a fingerprint of another model
            assert inner == "fingerprint", value
            assert "was made by model" in str(error)
    assert sum(error is not None for _, error in found) >= 6


@pytest.mark.parametrize(
    ("side", "field"),
    [
        *(("images", name) for name in ("id", "caption", "subtitle", "captions", "labels", "concept")),
        *(("captions", name) for name in ("id", "caption", "subtitle", "language", "concept")),
    ],
)
def test_a_wrong_field_of_an_item_is_named_with_its_line(old_folder, side, field):
    path = old_folder / f"{side}.jsonl"
    lines = path.read_text().splitlines()
    item = json.loads(lines[2])
    for value in [None, 3, True, ["a"], [3], {"en": 3}, {"en": [3]}, [None], "\ud800", ...]:
        if (field, value) == ("labels", ["a"]) or (
            field in ("captions", "labels", "concept") and value is ...
        ):
            continue
        wrong = {name: one for name, one in {**item, field: value}.items() if one is not ...}
        path.write_text("\n".join([*lines[:2], json.dumps(wrong), *lines[3:], ""]))
        seal_again(old_folder)
        with pytest.raises(wb.CorruptFile, match="line 3: ") as refused:
            everything(old_folder)
        assert refused.value.path == path
        # A text that is not Unicode is found before its field.
        assert field in refused.value.reason or value == "\ud800"


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "null", '"x"', "[" * 5_000, "\xff", "{}"])
def test_a_line_that_is_no_item_is_named(old_folder, line):
    path = old_folder / "images.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line.encode("latin-1"), *lines[2:], b""]))
    seal_again(old_folder)
    with pytest.raises(wb.CorruptFile, match=r"images\.jsonl: line 2: "):
        everything(old_folder)


@pytest.mark.parametrize("verify", [True, False])
def test_items_out_of_order_or_twice_are_refused(old_folder, verify):
    path = old_folder / "captions.jsonl"
    lines = path.read_text().splitlines()
    for wrong in ([lines[1], lines[0], *lines[2:]], [lines[0], lines[0], *lines[2:]]):
        path.write_text("\n".join([*wrong, ""]))
        seal_again(old_folder)
        if verify:
            with pytest.raises(wb.CorruptFile, match=r"captions\.jsonl: line 2: id: .* must come after"):
                load_index(old_folder, lambda file: SmallEncoder())
        else:
            load_index(old_folder, lambda file: SmallEncoder(), verify=False)


def array(folder, name, change):
    np.save(folder / name, change(np.load(folder / name)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(
            (f"{side}.{what}.npy", change)
            for side in ("images", "captions")
            for what in ("codes.17-32", "features")
            for change in (
                lambda a: a[:-1],
                lambda a: a[:, :-1],
                lambda a: a.astype(np.float64),
                lambda a: a.astype(">u2"),
                lambda a: a.ravel(),
                lambda a: a[None],
                lambda a: np.array(3),
            )
        ),
        *((f"{side}.features.npy", lambda a, x=x: np.where(np.arange(len(a))[:, None] == 5, np.float32(x), a))
          for side in ("images", "captions") for x in (np.nan, np.inf)),
        *(
            ("thumbnails.offsets.npy", change)
            for change in (
                lambda a: a[:-1],
                lambda a: a + 1,
                lambda a: a.astype(float),
                lambda a: a.astype(np.uint64),
                lambda a: a[::-1],
                lambda a: a[:, None],
                lambda a: np.where(np.arange(len(a)) == 3, a[4], a),
                lambda a: np.where(np.arange(len(a)) == 3, -5, a),
                lambda a: np.where(np.arange(len(a)) == 3, 2**62, a),
                lambda a: np.array(0),
                lambda a: np.empty(0, np.int64),
            )
        ),
    ],
)  # fmt: skip
def test_an_array_of_another_kind_is_named(folder, name, change):
    array(folder, name, change)
    seal_again(folder)
    with pytest.raises(wb.CorruptFile) as refused:
        everything(folder)
    assert refused.value.path == folder / name


@pytest.mark.parametrize("side", ["images", "captions"])
@pytest.mark.parametrize("value", [np.nan, 0, 5])
def test_features_that_are_not_of_unit_norm_are_found_when_all_is_verified(folder, side, value):
    name = f"{side}.features.npy"
    array(folder, name, lambda a: np.where(np.arange(len(a))[:, None] == 5, np.float32(value), a))
    seal_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"row 5 is not of unit norm|rows are not finite") as refused:
        load_index(folder, lambda file: SmallEncoder(), verify=True)
    assert refused.value.path == folder / name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': 'O'}   ",
        b"PK\x03\x04",
        *(
            b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
            for head in (
                b"{'descr': '|O', 'fortran_order': False, 'shape': (60, 16)}\n",
                b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 16)}\n",
                b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 16)}\n",
                b"{'descr': '|u1', 'fortran_order': False, 'shape': ('a',)}\n",
                b"{'descr': [('a', 'u1'), ('a', 'u1')], 'fortran_order': False, 'shape': (3,)}\n",
                b"{'descr': '|u1', 'fortran_order': False}\n",
                b"[" * 3_000 + b"\n",
                b"__import__('os')\n",
            )
        ),
    ],
)
@pytest.mark.parametrize("name", ["images.codes.17-32.npy", "thumbnails.offsets.npy"])
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_no_array_is_named(folder, name, data):
    (folder / name).write_bytes(data)
    seal_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"not a plain array|must be|do not match") as refused:
        everything(folder)
    assert refused.value.path == folder / name


def test_an_archive_in_place_of_an_array_is_named(folder):
    with (folder / "images.codes.17-32.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    seal_again(folder)
    with pytest.raises(wb.CorruptFile, match="not a plain array but an archive"):
        everything(folder)


def test_an_empty_file_of_thumbnails_is_named(folder):
    (folder / "thumbnails.00000.bin").write_bytes(b"")
    seal_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"thumbnails\.offsets\.npy: the offsets do not match"):
        everything(folder)


def test_what_may_not_be_read_is_named(old_folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "sha256_of", refuse)
    with pytest.raises(wb.CorruptFile, match=r"cannot be read \(Permission denied\)"):
        load_index(old_folder, lambda file: SmallEncoder())


@pytest.mark.parametrize("version", [2, 3])
def test_an_index_that_was_only_sealed_again_is_whole(folder, old_folder, version):
    one = folder if version == 3 else old_folder
    seal_again(one)
    everything(one)
    items = load_index(one, lambda file: SmallEncoder()).sides["images"].items
    assert items[0]["group"] == "things"  # fields that are not checked are kept


# --- items in an Arrow file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "field", "value", "problem"),
    [
        ("images", "id", None, "row 2: id: "),
        ("images", "caption", None, "row 2: caption: Field required"),
        ("images", "subtitle", None, "row 2: subtitle: Field required"),
        ("captions", "language", None, "row 2: language: Field required"),
        ("images", "captions", {"en": None}, "row 2: captions.en: Input should be a valid list"),
        ("images", "captions", {"en": [None]}, "row 2: captions.en.0: Input should be a valid string"),
        ("images", "labels", [None], "row 2: labels.0: Input should be a valid string"),
    ],
)
def test_a_wrong_field_of_a_row_is_named(folder, side, field, value, problem):
    items = items_of(folder, side)
    items[2][field] = value
    write_items(folder, side, items)
    with pytest.raises(wb.CorruptFile) as refused:
        everything(folder)
    assert refused.value.path == folder / f"{side}.items.arrow"
    assert problem in refused.value.reason


def spoilt(folder, change, rows=ROWS):
    """Change the record batch of the pictures, and seal the index again."""
    batch, schema = change(batch_of(items_of(folder, "images"), "images"), schema_of("images", rows))
    write_table(folder / "images.items.arrow", [batch], schema)
    seal_again(folder)


def with_column(batch, schema, name, column):
    at = schema.get_field_index(name)
    if at < 0:
        return batch.append_column(name, column), schema.append(pa.field(name, column.type))
    return batch.set_column(at, name, column), schema.set(at, pa.field(name, column.type))


def without(schema, name):
    return schema.remove(schema.get_field_index(name))


def of_buffers(batch, name, *parts):
    """Return a column of texts made of other buffers."""
    kept = batch.column(name).buffers()
    parts = [part if part is ... else pa.py_buffer(part) for part in parts]
    buffers = [None, *(old if new is ... else new for old, new in zip(kept[1:], parts, strict=True))]
    return pa.Array.from_buffers(pa.string(), batch.num_rows, buffers)


FAR = np.where(np.arange(61) == 30, 10**6, np.arange(61)).astype(np.int32)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda b, s: (b.drop_columns(["labels"]), without(s, "labels")), "labels is missing"),
        (lambda b, s: with_column(b, s, "flag", pa.array([1] * 60)), "flag must be bool, not int64"),
        (lambda b, s: with_column(b, s, "id", b.column("id").cast("large_string")), "id must be string"),
        (lambda b, s: with_column(b, s, "new", pa.array([1] * 60)), "file_mtime, other, not id, "),
        (lambda b, s: (b.slice(1), s), "must have 60 items, not 59"),
        (lambda b, s: with_column(b, s, "caption", of_buffers(b, "caption", ..., b"\xff" * 2_000)), "UTF8"),
        (lambda b, s: with_column(b, s, "caption", of_buffers(b, "caption", FAR, ...)), "not valid"),
        (lambda b, s: with_column(b, s, "other", pa.array(["[1]"] * 60)), "other: must be a JSON object"),
        (lambda b, s: with_column(b, s, "other", pa.array(["[" * 5_000] * 60)), "row"),
    ],
)  # fmt: skip
def test_an_arrow_file_of_another_kind_is_named(folder, change, problem):
    spoilt(folder, change)
    with pytest.raises(wb.CorruptFile) as refused:
        everything(folder)
    assert refused.value.path == folder / "images.items.arrow"
    assert problem in refused.value.reason


@pytest.mark.parametrize("rows", [0, 10, 59])
def test_record_batches_of_another_size_are_refused(folder, rows):
    spoilt(folder, lambda batch, schema: (batch, schema), rows=rows)
    with pytest.raises(wb.CorruptFile, match=r"images\.items\.arrow: must have 60 items"):
        everything(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"ARROW1", b"ARROW1\0\0" + b"\xff" * 50 + b"ARROW1", b"\0" * 100 + b"\x10\0\0\0ARROW1"],
)
def test_a_file_that_is_no_arrow_file_is_named(folder, data):
    (folder / "captions.items.arrow").write_bytes(data)
    seal_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"captions\.items\.arrow: not an Arrow file of items"):
        everything(folder)


def test_any_byte_of_an_arrow_file_may_be_another_without_a_crash(folder):
    path = folder / "images.items.arrow"
    original = path.read_bytes()
    random = np.random.default_rng(0)
    for at in random.choice(len(original), 150, replace=False):
        data = bytearray(original)
        data[at] ^= 1 << random.integers(8)
        path.write_bytes(data)
        seal_again(folder)
        items = load_some(folder)
        assert items is None or len(items) == 60


def load_some(folder):
    """Return all pictures of an index that somebody changed; None if it is refused in words."""
    try:
        items = load_index(folder, lambda file: SmallEncoder()).sides["images"].items
        list(items.batches(["labels", "captions"]))
        return [items[row] for row in range(len(items))]
    except wb.CorruptFile:
        return None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images.names.npy", lambda a: a[:, None]),
        ("images.names.npy", lambda a: a.astype(np.int64)),
        ("images.named.npy", lambda a: a[:-1]),
        ("images.named.npy", lambda a: a + np.uint32(60)),
        ("images.named.npy", lambda a: np.full_like(a, 3)),
    ],
)
def test_names_of_another_kind_are_refused(folder, name, change):
    array(folder, name, change)
    seal_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"images\.name"):
        everything(folder)


def test_items_or_names_that_are_not_in_order_are_found_when_all_is_verified(folder, small, tmp_path):
    items = items_of(folder, "captions")
    write_items(folder, "captions", [items[1], items[0], *items[2:]])
    with pytest.raises(wb.CorruptFile, match=r"captions\.items\.arrow: row 1: id: .* must come after"):
        load_index(folder, lambda file: SmallEncoder(), verify=True)
    other = shutil.copytree(small, tmp_path / "other")
    array(other, "images.names.npy", lambda a: a[::-1])
    seal_again(other)
    with pytest.raises(wb.CorruptFile, match=r"images\.names\.npy: the names are not in order"):
        load_index(other, lambda file: SmallEncoder(), verify=True)
