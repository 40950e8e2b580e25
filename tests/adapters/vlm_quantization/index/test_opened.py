"""What is read of an index when it is opened and searched, and what becomes of altered bytes."""

import shutil

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization import family
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.index import blocks, item_table, names, thumbnails
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.items import ItemFile
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.search.options import SearchOptions
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build

BLOCK = 512


def build_small(folder, **options):
    """Build an index of many small parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", BLOCK)
        patch.setattr(item_table, "ROWS", 8)
        patch.setattr(thumbnails, "SHARD_BYTES", 40_000)
        model = folder / "model.bin"
        model.write_bytes(bytes(range(256)) * 10)
        return build(folder / "indexes", model_file=model, **options).path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("opened"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("int8"), features="int8")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return build_small(tmp_path_factory.mktemp("bare"), features="none")


@pytest.fixture
def opened_copy(small, int8, tmp_path):
    """Return a function that copies an index, lets one change a file, and opens it."""

    def opened(name, change):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        folder = shutil.copytree(int8 if "scales" in name else small, tmp_path / "copy")
        change(folder / name)
        return opened_index(folder)

    return opened


def opened_index(folder, **options):
    return load_index(folder, lambda file: SmallEncoder(), **options)


def search(index, bits=128, method="hamming", target="pictures", k=200):
    options = SearchOptions(bits=bits, method=method, target=target)
    return VlmQuantization().search_by_text(index, "thing 3", k, options)


def use_all(index):
    """Use everything that an index holds."""
    for target in ("pictures", "captions"):
        search(index, target=target)
        search(index, method="cosine", target=target)
    for side in index.sides.values():
        for row in range(len(side)):
            side.names.rows(side.items[row]["caption"])


def flip(where):
    def change(path):
        data = bytearray(path.read_bytes())
        data[int(where * (len(data) - 1))] ^= 0x10
        path.write_bytes(data)

    return change


CUTS = ("1-8", "9-16", "17-32", "33-64", "65-128")
NAMES = [
    *(f"{side}.{what}" for side in files.SIDES for what in ("items.arrow", "names.npy", "named.npy")),
    *(f"{side}.codes.{cut}.npy" for side in files.SIDES for cut in CUTS),
    *(f"{side}.{what}.npy" for side in files.SIDES for what in ("features", "scales")),
    "thumbnails.00000.bin", "thumbnails.00002.bin", "thumbnails.offsets.npy", "checksums.bin", "model.bin",
    "manifest.json",
]  # fmt: skip


@pytest.mark.parametrize("where", [0, 0.5, 1])
@pytest.mark.parametrize("name", NAMES)
def test_an_altered_byte_is_an_error_when_it_is_used(opened_copy, name, where):
    with pytest.raises(wb.CorruptFile) as refused:
        use_all(opened_copy(name, flip(where)))
    assert refused.value.path.name == name
    assert refused.value.hint


def test_an_untouched_index_is_used_without_an_error(small, int8):
    for folder in (small, int8):
        use_all(opened_index(folder))
        opened_index(folder, verify=True)


def test_what_was_not_touched_still_answers(opened_copy, small):
    expected = {bits: search(opened_index(small), bits).hits for bits in (64, 128)}
    index = opened_copy("images.codes.65-128.npy", flip(0.9))
    assert search(index, 64).hits == expected[64]
    with pytest.raises(wb.CorruptFile, match=r"images\.codes\.65-128\.npy: checksum mismatch"):
        search(index, 128)
    with pytest.raises(wb.CorruptFile):  # again, not only the first time
        search(index, 128)
    assert search(index, 128, target="captions").hits
    assert search(index, method="cosine").hits
    index = opened_copy("thumbnails.00000.bin", flip(0.5))
    readable = 0
    for row in range(len(index)):
        try:
            assert index.thumbnail(row) == opened_index(small).thumbnail(row)
            readable += 1
        except wb.CorruptFile:
            pass
    assert len(index) - 3 <= readable < len(index)
    index = opened_copy("images.items.arrow", flip(0.5))
    rows = [row for row in range(len(index)) if readable_item(index, row)]
    assert len(rows) in (44, 52)  # one or two record batches of 8


def readable_item(index, row):
    try:
        return index.sides["images"].items[row]
    except wb.CorruptFile:
        return None


def test_only_the_columns_that_are_read_are_checked(opened_copy, small):
    items = opened_index(small).sides["images"].items
    labels = items.table.column("labels").combine_chunks()
    data = labels.values.buffers()[2].to_pybytes()[: len("thing") * 8]
    path = small / "images.items.arrow"
    at = path.read_bytes().index(data)

    def change(path):
        spoilt = bytearray(path.read_bytes())
        spoilt[at] ^= 1
        path.write_bytes(spoilt)

    items = opened_copy("images.items.arrow", change).sides["images"].items
    assert sum(batch.num_rows for batch in items.batches(["id"])) == 60
    with pytest.raises(wb.CorruptFile, match=r"images\.items\.arrow"):
        list(items.batches(["labels"]))


def test_opening_reads_the_ends_of_files_only(small, monkeypatch):
    compared = []
    monkeypatch.setattr(
        blocks, "checksum", lambda data, real=blocks.checksum: compared.append(len(data)) or real(data)
    )
    index = opened_index(small)
    size = sum(path.stat().st_size for path in small.iterdir())
    whole = (small / "model.bin").stat().st_size
    assert sum(compared) - whole < 20 * BLOCK < size / 5
    before = len(compared)
    search(index, bits=8, k=1)
    search(index, bits=8, k=1)
    assert len(compared) - before < 40


def test_names_are_found_in_an_index_of_any_size(small, monkeypatch):
    monkeypatch.setattr(names, "MOST_NAMED", 3)
    result = search(opened_index(small), k=3)
    assert [hit.caption for hit in result.hits][:2] == ["thing 3", "thing 3"]
    assert "named exactly" in result.note


def test_sample_queries_do_not_read_a_whole_index(small, monkeypatch):
    index, read = opened_index(small), []
    index.manifest = index.manifest.model_copy(update={"languages": ["en", "fr"]})  # none is French
    monkeypatch.setattr(family, "_SAMPLED_ROWS", 5)
    real = ItemFile.__getitem__
    monkeypatch.setattr(ItemFile, "__getitem__", lambda self, row: read.append(row) or real(self, row))
    samples = VlmQuantization().sample_queries(index)
    assert {sample.language for sample in samples} == {"en"}
    assert len(read) <= 8 * (5 + 1)


# --- features -----------------------------------------------------------------------------------------------


def test_an_index_without_features_is_searched_by_its_codes(bare, small):
    index = opened_index(bare, verify=True)
    assert not any("features" in path.name for path in bare.iterdir())
    assert index.describe()["choices"] == {"method": ["hamming"]}
    assert "choices" not in opened_index(small).describe()
    assert [hit.id for hit in search(index).hits] == [hit.id for hit in search(opened_index(small)).hits]
    assert index.manifest.thresholds["captions-images"]["cosine"] is None
    searcher = wb.Searcher(VlmQuantization(), index, "bare")
    assert searcher.by_item("plain:003", k=2)[0].id == "framed:003"
    for ask in (
        lambda: searcher.by_item("plain:003", method="cosine"),
        lambda: searcher.by_text("thing 3", method="cosine"),
    ):
        with pytest.raises(wb.BadInput, match="index 'small' was built without features") as refused:
            ask()
        assert "build it again with features=" in refused.value.hint
    explained = searcher.explain(wb.Term("item", "plain:003"), wb.Term("item", "framed:003"))
    assert explained.summary.endswith("the index has no float features")
    assert [row["way"] for row in explained.views[0].data["rows"]][-1] == "128 bits"


def test_an_index_with_small_features_finds_nearly_the_same(int8, small):
    one, other = opened_index(small), opened_index(int8)
    assert other.manifest.features == "int8"
    for side in files.SIDES:
        exact, stored = one.sides[side].features, other.sides[side].features
        assert np.abs(np.asarray(exact) - np.asarray(stored)).max() < 5e-3
    near, found = (search(index, method="cosine", k=10).hits for index in (one, other))
    assert len({hit.id for hit in near} & {hit.id for hit in found}) >= 9


def test_unknown_features_are_refused_before_anything_is_built(tmp_path):
    with pytest.raises(wb.BadInput, match="unknown features 'int4'"):
        build(tmp_path, features="int4")
    assert not list(tmp_path.glob("*"))
