"""An index that somebody changed and sealed again: a wrong field is one error, which names file and field."""

import copy
import json
import shutil

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.items import ItemLines
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.search.options import SearchOptions
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build(tmp_path_factory.mktemp("indexes")).path


@pytest.fixture
def folder(small, tmp_path):
    return shutil.copytree(small, tmp_path / "small")


def sealed_again(folder, change=lambda body: None):
    """Change the manifest, and seal it and every file again, as an attacker would."""
    body = json.loads((folder / "manifest.json").read_text())
    del body["checksum"]
    for name, seal in body["files"].items():
        seal.update(size=(folder / name).stat().st_size, sha256=files.sha256_of(folder / name))
    change(body)
    (folder / "manifest.json").write_text(json.dumps({**body, "checksum": files._checksum(body)}))


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
    "languages", "model", "data", "credits", "thresholds", "provenance", "files",
]  # fmt: skip
INSIDE = [
    ("counts", "images"), ("counts", "captions"), ("model", "name"), ("model", "fingerprint"),
    ("model", "file"), ("data", "name"), ("thresholds", "captions-images"), ("files", "images.jsonl"),
    ("files", "thumbnails.bin"),
]  # fmt: skip
#: Fields that may have some of those values.
HARMLESS = {
    *("format", "name", "title", "created", "credits", "thresholds", "provenance"),
    *("languages", "counts", "data", "model"),
}


def refusals(folder, change):
    """Yield each wrong value, and the error it gave; None where it did no harm."""
    original = (folder / "manifest.json").read_text()
    for value in [*WRONG, ...]:
        (folder / "manifest.json").write_text(original)
        sealed_again(folder, lambda body, value=value: change(body, value))
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
def test_a_wrong_field_of_an_item_is_named_with_its_line(folder, side, field):
    path = folder / f"{side}.jsonl"
    lines = path.read_text().splitlines()
    item = json.loads(lines[2])
    for value in [None, 3, True, ["a"], [3], {"en": 3}, {"en": [3]}, [None], "\ud800", ...]:
        if (field, value) == ("labels", ["a"]) or (
            field in ("captions", "labels", "concept") and value is ...
        ):
            continue
        wrong = {name: one for name, one in {**item, field: value}.items() if one is not ...}
        path.write_text("\n".join([*lines[:2], json.dumps(wrong), *lines[3:], ""]))
        sealed_again(folder)
        with pytest.raises(wb.CorruptFile, match="line 3: ") as refused:
            everything(folder)
        assert refused.value.path == path
        # A text that is not Unicode is found before its field.
        assert field in refused.value.reason or value == "\ud800"


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "null", '"x"', "[" * 5_000, "\xff", "{}"])
def test_a_line_that_is_no_item_is_named(folder, line):
    path = folder / "images.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line.encode("latin-1"), *lines[2:], b""]))
    sealed_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"images\.jsonl: line 2: "):
        everything(folder)


@pytest.mark.parametrize("verify", [True, False])
def test_items_out_of_order_or_twice_are_refused(folder, verify):
    path = folder / "captions.jsonl"
    lines = path.read_text().splitlines()
    for wrong in ([lines[1], lines[0], *lines[2:]], [lines[0], lines[0], *lines[2:]]):
        path.write_text("\n".join([*wrong, ""]))
        sealed_again(folder)
        if verify:
            with pytest.raises(wb.CorruptFile, match=r"captions\.jsonl: line 2: id: .* must come after"):
                load_index(folder, lambda file: SmallEncoder())
        else:
            load_index(folder, lambda file: SmallEncoder(), verify=False)


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
          for side in ("images", "captions") for x in (np.nan, np.inf, 0, 5)),
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
    sealed_again(folder)
    with pytest.raises(wb.CorruptFile) as refused:
        everything(folder)
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
    sealed_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"not a plain array|must be|do not match") as refused:
        everything(folder)
    assert refused.value.path == folder / name


def test_an_archive_in_place_of_an_array_is_named(folder):
    with (folder / "images.codes.17-32.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    sealed_again(folder)
    with pytest.raises(wb.CorruptFile, match="not a plain array but an archive"):
        everything(folder)


def test_an_empty_file_of_thumbnails_is_named(folder):
    (folder / "thumbnails.bin").write_bytes(b"")
    sealed_again(folder)
    with pytest.raises(wb.CorruptFile, match=r"thumbnails\.offsets\.npy: the offsets do not match"):
        everything(folder)


def test_what_may_not_be_read_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "sha256_of", refuse)
    with pytest.raises(wb.CorruptFile, match=r"cannot be read \(Permission denied\)"):
        load_index(folder, lambda file: SmallEncoder())


def test_an_index_that_was_only_sealed_again_is_whole(folder):
    sealed_again(folder)
    everything(folder)
    items = ItemLines(folder / "images.jsonl", "images")
    assert items[0]["group"] == "things"  # fields that are not checked are kept
