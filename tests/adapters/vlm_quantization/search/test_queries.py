import io
import json
import re
import shutil
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index import thresholds
from adapters.vlm_quantization.index.format import read_manifest
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.index.ranking import cosine_search, hamming_search
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.queries import search_image, search_item, search_text
from tests.adapters.vlm_quantization.oracle import hamming
from tests.adapters.vlm_quantization.resealing import make_old
from tests.adapters.vlm_quantization.small_index import (
    N_CONCEPTS,
    SmallCollection,
    SmallEncoder,
    build,
    picture,
)


@pytest.fixture(scope="module")
def index_path(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "UNRELATED_PAIRS_MIN", 1_000)
        patch.setattr(thresholds, "UNRELATED_TAIL", 0.01)
        folder = tmp_path_factory.mktemp("search")
        model = folder / "model.safetensors"
        model.write_bytes(bytes(range(256)) * 4)
        return build(folder / "indexes", model_file=model).path


@pytest.fixture(scope="module")
def index(index_path):
    return load_index(index_path, lambda file: SmallEncoder())


def encoded_picture(kind="PNG", concept=5):
    data = io.BytesIO()
    picture(concept).save(data, kind)
    return data.getvalue()


# --- ranking ------------------------------------------------------------------------------------------------


def brute(codes, query, bits, k):
    """Rank by (distance, row), one pair at a time."""
    distances = [hamming(row[: bits // 8], query[: bits // 8]) for row in codes]
    order = sorted(range(len(codes)), key=lambda row: (distances[row], row))[:k]
    return order, [distances[row] for row in order]


@pytest.mark.parametrize("bits", CODE_LENGTHS)
@pytest.mark.parametrize("k", [1, 2, 10, 299, 300, 5000])
def test_hamming_ranks_by_distance_and_then_by_row(bits, k):
    random = np.random.default_rng(bits)
    # forty distinct codes among three hundred: ties at every length and across most cuts
    codes = random.integers(0, 256, (40, 16), dtype=np.uint8)[random.integers(0, 40, 300)]
    for query in (codes[7], random.integers(0, 256, 16, dtype=np.uint8)):
        rows, distances = hamming_search(codes, query, bits=bits, k=k)
        assert (rows.tolist(), distances.tolist()) == brute(codes, query, bits, k)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), bits=st.sampled_from(CODE_LENGTHS), k=st.integers(1, 14))
def test_hamming_is_exact_for_any_codes(data, bits, k):
    values = st.lists(st.sampled_from([0, 2, 128, 254]), min_size=16, max_size=16)
    codes = np.array(data.draw(st.lists(values, min_size=1, max_size=12)), np.uint8)
    query = np.array(data.draw(values), np.uint8)
    rows, distances = hamming_search(codes, query, bits=bits, k=k)
    assert (rows.tolist(), distances.tolist()) == brute(codes, query, bits, k)


def test_equal_codes_are_ordered_by_row():
    codes = np.zeros((5000, 16), np.uint8)
    rows, distances = hamming_search(codes, codes[0], bits=128, k=20)
    assert rows.tolist() == list(range(20))
    assert not distances.any()


def test_codes_may_be_a_memory_map_and_more_threads_than_processors_are_no_error(tmp_path):
    np.save(tmp_path / "codes.npy", np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8))
    codes = np.load(tmp_path / "codes.npy", mmap_mode="r")
    rows, distances = hamming_search(codes, codes[3], bits=64, k=5, threads=64)
    assert (rows[0], distances[0]) == (3, 0)


def test_cosine_ranks_by_score_and_then_by_row():
    random = np.random.default_rng(0)
    features = random.standard_normal((7, 33)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    # Every row occurs many times: a matrix product may round equal rows differently by position.
    which = random.integers(0, 7, 1001)
    query = features[2] * np.float32(0.9) + features[4] * np.float32(0.1)
    scores = features.astype(np.float64) @ query.astype(np.float64)
    expected = sorted(range(1001), key=lambda row: (-scores[which[row]], row))
    for k in (1, 50, 200, 1001, 3000):
        rows, cosines = cosine_search(features[which], query, k=k)
        assert rows.tolist() == expected[:k]
        assert cosines == pytest.approx(scores[which[expected[:k]]])


CODES = np.zeros((3, 16), np.uint8)
ROWS = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: hamming_search(CODES, CODES[0], bits=24, k=1),
            "code length 24.* 8, 16, 32, 64, 128",
        ),
        (
            lambda: hamming_search(CODES[:, :4], CODES[0, :4], bits=64, k=1),
            "code length 64.* 8, 16, 32$",
        ),
        (lambda: hamming_search(CODES, CODES[0], bits=True, k=1), "code length True"),
        (lambda: hamming_search(CODES, CODES[0], bits=8, k=0), "k must be .* at least 1.* 0"),
        (lambda: hamming_search(CODES, CODES[0], bits=8, k=1.5), "k must be .* 1.5"),
        (lambda: hamming_search(CODES, CODES[0, :8], bits=8, k=1), r"uint8 \(16,\), not uint8 \(8,\)"),
        (lambda: hamming_search(CODES, CODES[0].astype(int), bits=8, k=1), r"not int64 \(16,\)"),
        (lambda: hamming_search(CODES.astype(bool), CODES[0], bits=8, k=1), r"packed.*not bool \(3, 16\)"),
        (lambda: hamming_search(CODES.tolist(), CODES[0], bits=8, k=1), "packed.*not int64"),
        (lambda: cosine_search(ROWS, ROWS[0, :2], k=1), r"shape \(3,\), not \(2,\)"),
        (lambda: cosine_search(ROWS, ROWS[0] * np.nan, k=1), "finite"),
        (lambda: cosine_search(ROWS, ROWS[0], k=0), "k must be .* at least 1"),
        (lambda: cosine_search(CODES, ROWS[0], k=1), "float array"),
    ],
)
def test_an_error_names_the_value_and_what_is_allowed(call, message):
    with pytest.raises(wb.BadInput, match=message):
        call()


def test_an_empty_gallery_has_no_hits():
    assert len(hamming_search(CODES[:0], CODES[0], bits=8, k=3)[0]) == 0
    assert len(cosine_search(ROWS[:0], ROWS[0], k=3)[0]) == 0


# --- queries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", CODE_LENGTHS)
def test_text_finds_pictures_at_every_length(index, bits):
    result = search_text(index, "some thing 3", 7, SearchOptions(bits=bits))
    query = SmallEncoder().encode_texts(["some thing 3"]).codes[0]
    rows, distances = brute(index.sides["images"].codes, query, bits, 7)
    assert [hit.id for hit in result] == [index.sides["images"].items[row]["id"] for row in rows]
    assert [hit.distance for hit in result] == distances
    assert [hit.label for hit in result] == [f"{d}/{bits}" for d in distances]
    assert [hit.meter for hit in result] == [1 - d / bits for d in distances]
    for hit in result:
        concept = int(hit.id.split(":")[1])
        assert (hit.caption, hit.subtitle) == (f"thing {concept}", f"물건 {concept}")
        with Image.open(io.BytesIO(hit.thumbnail)) as thumbnail:
            assert max(thumbnail.size) == 128
    assert {"encode", "search"} <= result.took_ms.keys()
    assert result.note == ""


def test_text_finds_its_own_caption_in_either_language(index):
    for text, item_id in (("물건 8", "008:ko:0"), ("object no. 8", "008:en:1")):
        for method in ("hamming", "cosine"):
            options = SearchOptions(target="captions", bits=128, method=method)
            first = search_text(index, text, 5, options)[0]
            assert (first.id, first.caption, first.thumbnail) == (item_id, text, None)
            assert first.meter == pytest.approx(1)
    assert first.label == "1.00"


@pytest.mark.parametrize("method", ["hamming", "cosine"])
@pytest.mark.parametrize("query", ["thing 3", "Ｔｈｉｎｇ  3!", "물건 3", "object no. 3"])
def test_items_that_are_named_exactly_so_come_first(index, method, query):
    options = SearchOptions(bits=8, method=method)
    result = search_text(index, query, 7, options)
    assert {hit.id for hit in result[:2]} == {"plain:003", "framed:003"}
    assert len(result) == 7 == len({hit.id for hit in result})
    values = [hit.score for hit in result]
    assert values[:2] == sorted(values[:2], reverse=True)
    assert values[2:] == sorted(values[2:], reverse=True)
    assert result.cutoff >= 2
    everything = search_text(index, query, 60, options)
    others = [(hit.id, hit.score) for hit in everything[2:]]
    encoded = SmallEncoder().encode_texts([query])
    rows, _ = index.search(encoded.codes[0], encoded.features[0], bits=8, method=method, k=60)
    ids = [index.sides["images"].items[row]["id"] for row in rows]
    assert [item for item, _ in others] == [item for item in ids if not item.endswith(":003")]
    if values[:2] != sorted(values, reverse=True)[:2]:
        assert result.note == "items that are named exactly so come first"
    captions = search_text(index, query, 3, SearchOptions(target="captions", bits=8, method=method))
    assert captions[0].caption.lower() in ("thing 3", "물건 3", "object no. 3")


@pytest.mark.parametrize("method", ["hamming", "cosine"])
@pytest.mark.parametrize("query", ["the", "of a", "그"])
def test_nothing_is_near_a_query_of_function_words(index, monkeypatch, query, method):
    everything = {"128": 128.0, "cosine": -2.0}
    monkeypatch.setitem(index.manifest.thresholds, "captions-images", everything)
    options = SearchOptions(method=method)
    assert search_text(index, "thing", 5, options).cutoff == 5
    result = search_text(index, query, 5, options)
    assert (len(result), result.cutoff) == (5, 0)
    assert result.verdict == "No good match. These are the closest."


def test_an_item_that_is_named_by_a_function_word_is_near_it(tmp_path):
    collection = SmallCollection()
    first, *others = collection.items
    collection.items = [replace(first, captions={"en": ("It",)}), *others]
    built = load_index(build(tmp_path, collection=collection).path, lambda file: SmallEncoder())
    result = search_text(built, "it", 5, SearchOptions())
    assert (result[0].id, result.cutoff) == (first.id, 1)


def test_an_emoji_beside_words_is_left_out_and_the_answer_says_so(index):
    result = search_text(index, "🐶 thing 3", 3, SearchOptions())
    plain = search_text(index, "thing 3", 3, SearchOptions())
    assert [(hit.id, hit.distance) for hit in result] == [(hit.id, hit.distance) for hit in plain]
    assert result.note.startswith("🐶 is left out: ")


@pytest.mark.parametrize("query", ["!!!", "…", "\u200b", "\u00ad", "🏻", "†", "*", "\u0e31"])
def test_a_query_without_a_letter_or_digit_is_refused_in_words(index, query):
    with pytest.raises(wb.BadInput, match="has no letter or digit") as refused:
        search_text(index, query, 5, SearchOptions())
    assert refused.value.hint == "Type a word or two."


def test_an_emoji_is_looked_up_by_its_name_and_the_answer_says_so(index):
    result = search_text(index, "🐶", 3, SearchOptions())
    assert result.note == "searched for “dog face”, the name of 🐶"
    named = search_text(index, "dog face", 3, SearchOptions())
    assert [(hit.id, hit.distance) for hit in result] == [(hit.id, hit.distance) for hit in named]


def test_an_item_is_found_by_its_id_in_either_unicode_form(tmp_path):
    collection = SmallCollection()
    first, *others = collection.items
    collection.items = [replace(first, id="사진/강아지.png"), *others]
    built = load_index(build(tmp_path, collection=collection).path, lambda file: SmallEncoder())
    for form in ("NFC", "NFD"):
        result = search_item(built, unicodedata.normalize(form, "사진/강아지.png"), 5, SearchOptions())
        assert "사진/강아지.png" not in {hit.id for hit in result}
        assert len(result) == 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_finds_itself_and_its_sibling(index, kind):
    result = search_image(index, encoded_picture(kind), 2, SearchOptions(bits=128))
    assert {hit.id for hit in result} == {"plain:005", "framed:005"}


def test_a_picture_finds_captions(index):
    options = SearchOptions(target="captions", method="cosine")
    result = search_image(index, encoded_picture(), 4, options)
    feature = SmallEncoder().encode_images([picture(5)]).features[0]
    scores = index.sides["captions"].features @ feature
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:4]
    assert [hit.id for hit in result] == [index.sides["captions"].items[row]["id"] for row in order]
    assert [hit.score for hit in result] == pytest.approx(scores[order])
    assert all(hit.distance is None and hit.thumbnail is None for hit in result)


def test_an_item_finds_others_like_it_and_not_itself(index):
    images = index.sides["images"]
    itself = images.items.find("plain:011")
    for bits in CODE_LENGTHS:  # at 8 bits it is not even the first item at its distance
        rows, distances = brute(images.codes, images.codes[itself], bits, len(images))
        expected = [
            (images.items[row]["id"], d) for row, d in zip(rows, distances, strict=True) if row != itself
        ]
        result = search_item(index, "plain:011", 10, SearchOptions(bits=bits))
        assert [(hit.id, hit.distance) for hit in result] == expected[:10]
    captions = search_item(index, "011:en:0", 100, SearchOptions(target="captions"))
    assert len(captions) == 3 * N_CONCEPTS - 1
    assert re.search("89 other captions.* 89 ", captions.note)
    # an item of the other side is not left out
    assert len(search_item(index, "011:en:0", 100, SearchOptions())) == 2 * N_CONCEPTS
    for unknown in ("plain:999", "", "zzz"):
        with pytest.raises(wb.NotFound, match=f"item '{unknown}'"):
            search_item(index, unknown, 3, SearchOptions())


def test_every_item_can_be_found_by_its_id(index):
    for item in SmallCollection().items:
        assert search_item(index, item.id, 1, SearchOptions())[0].id != item.id


def test_a_k_beyond_the_index_returns_all_items_with_a_note(index):
    result = search_text(index, "thing", 1000, SearchOptions())
    assert len({hit.id for hit in result}) == 2 * N_CONCEPTS
    assert re.search("60 pictures.* 60 ", result.note)
    assert search_text(index, "thing", 60, SearchOptions()).note == ""


@pytest.mark.parametrize("query", ["", "   ", "\n\t"])
def test_an_empty_query_is_refused(index, query):
    with pytest.raises(wb.BadInput, match="query is empty"):
        search_text(index, query, 5, SearchOptions())


def test_bytes_that_are_not_a_picture_are_refused(index):
    with pytest.raises(wb.BadInput):
        search_image(index, b"%!PS-Adobe-3.0 EPSF-3.0", 5, SearchOptions())
    with pytest.raises(wb.BadInput):
        search_image(index, encoded_picture()[:200], 5, SearchOptions())


@pytest.mark.parametrize("method", ["hamming", "cosine"])
def test_the_cutoff_counts_hits_nearer_than_unrelated_items_usually_are(index, method):
    near = search_image(index, encoded_picture(), 60, SearchOptions(bits=128, method=method))
    assert 2 <= near.cutoff < 20
    limit = index.manifest.thresholds["images-images"]["128" if method == "hamming" else "cosine"]
    if method == "hamming":
        assert all((hit.distance <= limit) == (at < near.cutoff) for at, hit in enumerate(near))
    else:
        assert all((hit.score > limit) == (at < near.cutoff) for at, hit in enumerate(near))


def test_the_low_level_search_refuses_unknown_values(index):
    code, feature = index.sides["images"].codes[0], index.sides["images"].features[0]
    with pytest.raises(wb.BadInput, match=r"method 'dot'.*hamming, cosine"):
        index.search(code, feature, method="dot")
    with pytest.raises(wb.BadInput, match=r"side 'pictures'.*images, captions"):
        index.search(code, feature, side="pictures")


class ToSearch(wb.BaseAdapter):
    """The minimal adapter for a Searcher."""

    name = "to-search"

    def options(self, task):
        return SearchOptions

    def search_by_text(self, index, query, k, options):
        return search_text(index, query, k, options)


def test_options_from_outside_are_checked(index):
    searcher = wb.Searcher(ToSearch(), index, "small")
    assert len(searcher.by_text("thing", k=3, bits="32", method="cosine")) == 3
    assert searcher.by_text("thing", k=3, bits="32")[0].label.endswith("/32")
    for options, message in (
        ({"bits": 63}, "bits: Input should be 8, 16, 32, 64 or 128 .*63"),
        ({"method": "dot"}, "method: Input should be 'hamming' or 'cosine'"),
        ({"target": "videos"}, "target"),
        ({"length": 64}, "unknown option; allowed: bits, method, target"),
    ):
        with pytest.raises(wb.BadOptions, match=message):
            searcher.by_text("thing", **options)


def test_the_schema_carries_titles_and_labels_for_forms():
    fields = SearchOptions.model_json_schema()["properties"]
    assert {name: field["title"] for name, field in fields.items()} == {
        "bits": "Code length",
        "method": "Method",
        "target": "Find",
    }
    for field in fields.values():
        assert field["x-labels"].keys() == {str(choice) for choice in field["enum"]}
    assert (fields["bits"]["default"], fields["method"]["default"]) == (128, "hamming")


# --- opening ------------------------------------------------------------------------------------------------

FILES = (
    "captions.codes.1-8.npy",
    "captions.codes.17-32.npy",
    "captions.codes.33-64.npy",
    "captions.codes.65-128.npy",
    "captions.codes.9-16.npy",
    "captions.features.npy",
    "captions.items.arrow",
    "captions.named.npy",
    "captions.names.npy",
    "checksums.bin",
    "images.codes.1-8.npy",
    "images.codes.17-32.npy",
    "images.codes.33-64.npy",
    "images.codes.65-128.npy",
    "images.codes.9-16.npy",
    "images.features.npy",
    "images.items.arrow",
    "images.named.npy",
    "images.names.npy",
    "manifest.json",
    "model.safetensors",
    "thumbnails.00000.bin",
    "thumbnails.offsets.npy",
)


@pytest.fixture
def copy(index_path, tmp_path):
    return shutil.copytree(index_path, tmp_path / "small")


def load(path, **options):
    return load_index(path, lambda file: SmallEncoder(), **options)


def test_the_list_of_files_is_complete(index_path):
    assert sorted(path.name for path in index_path.iterdir()) == list(FILES)


@pytest.mark.parametrize("where", [0, 0.37, 0.9, -1])
@pytest.mark.parametrize("name", FILES)
def test_an_altered_byte_in_any_file_is_detected(copy, name, where):
    data = bytearray((copy / name).read_bytes())
    at = int(where * len(data)) if where >= 0 else len(data) - 2
    data[at] ^= 0x10
    (copy / name).write_bytes(data)
    with pytest.raises(wb.CorruptFile) as error:
        load(copy, verify=True)
    assert error.value.path == copy / name
    assert error.value.reason


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (name, spoil)
        for name in FILES
        for spoil in ("truncate", "extend", "delete", "link")
        # a manifest may be a link: its contents are checked anyway
        if (name, spoil) != ("manifest.json", "link")
    ],
)
def test_a_file_of_another_size_or_kind_is_detected_even_without_checksums(
    copy, name, spoil, verify, tmp_path
):
    path = copy / name
    data = path.read_bytes()
    if spoil == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif spoil == "extend":
        path.write_bytes(data + b"x")
    else:
        path.unlink()
        if spoil == "link":
            (tmp_path / "elsewhere").write_bytes(data)
            path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(wb.CorruptFile) as error:
        load(copy, verify=verify)
    assert error.value.path == path


def test_checksums_of_an_old_index_can_be_skipped(copy):
    make_old(copy)
    data = bytearray((copy / "thumbnails.bin").read_bytes())
    data[100] ^= 1
    (copy / "thumbnails.bin").write_bytes(data)
    assert len(load(copy, verify=False)) == 2 * N_CONCEPTS
    with pytest.raises(wb.CorruptFile, match=r"thumbnails\.bin.*SHA-256"):
        load(copy)


def reseal(folder, change):
    """Change the manifest and seal it again, as an attacker would."""
    manifest = read_manifest(folder)
    changed = files.Manifest(**change(manifest.model_dump()))
    (folder / "manifest.json").write_text(files.manifest_text(changed))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", ".", ".hidden", "", "a\\b", "a\0b"]
)
def test_a_manifest_that_names_a_file_outside_is_refused(copy, name):
    (copy.parent / "secret").write_text("secret")
    seal = {"size": 6, "sha256": files.sha256_of(copy.parent / "secret")}
    reseal(copy, lambda body: {**body, "files": {**body["files"], name: seal}})
    with pytest.raises(wb.CorruptFile, match=f"outside.*{re.escape(repr(name))}"):
        load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda b: {**b, "files": {n: s for n, s in b["files"].items() if n != "images.items.arrow"}},
            r"missing.*images\.items\.arrow",
        ),
        (
            lambda b: {**b, "counts": {**b["counts"], "images": 59}},
            r"images\.codes\.1-8\.npy.*uint8 \(59, 1\).*uint8 \(60, 1\)",
        ),
        (
            lambda b: {**b, "feature_dim": 25},
            r"images\.features\.npy.*float32 \(60, 25\).*float32 \(60, 24\)",
        ),
        (lambda b: {**b, "model": {**b["model"], "file": "other"}}, "checkpoint 'other'"),
    ],
)
def test_a_manifest_that_does_not_match_its_files_is_refused(copy, change, message):
    reseal(copy, change)
    with pytest.raises(wb.CorruptFile, match=message):
        load(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"format": 4, "adapter": "vlm_quantization"}', "format 4 .*formats 1, 2 and 3"),
        ('{"format": 2, "adapter": "other"}', "adapter 'other'.*'vlm_quantization'"),
        ('{"format": 1, "adapter": "vlm_quantization"}', "checksum"),
        ("\xff\xfe", "not JSON"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(copy, text, message):
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(wb.CorruptFile, match=message):
        load(copy)


def test_a_sealed_manifest_with_missing_fields_is_refused(copy):
    body = json.loads((copy / "manifest.json").read_text())
    del body["checksum"], body["counts"]
    body["checksum"] = files._checksum(body)
    (copy / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(wb.CorruptFile, match=r"fields: .*counts"):
        load(copy)


def test_object_arrays_are_never_unpickled(copy):
    np.save(copy / "images.codes.1-8.npy", np.array([print], object), allow_pickle=True)
    path = copy / "images.codes.1-8.npy"
    seal = {"size": path.stat().st_size, "sha256": files.sha256_of(path)}
    reseal(copy, lambda body: {**body, "files": {**body["files"], path.name: seal}})
    with pytest.raises(wb.CorruptFile, match=r"images\.codes\.1-8\.npy.*not a plain array"):
        load(copy)


def test_the_encoder_must_be_the_one_that_made_the_index(index_path):
    other = SmallEncoder()
    other.fingerprint = "beef" * 16
    with pytest.raises(wb.BadInput, match=r"'small'.*'random projection' .*5eed.*beef"):
        load_index(index_path, lambda file: other)


def test_an_unknown_index_lists_the_known_ones(index_path):
    with pytest.raises(wb.UnknownIndex, match="no index 'smal'; did you mean 'small'"):
        load(index_path.parent / "smal")


def test_an_index_describes_itself(index):
    assert index.describe() == {
        "title": "Image search",
        "subtitle": "small things: 60 pictures · type in English or 한국어, or drop a picture",
        "count": 60,
        "credits": ["Drawn by a random generator."],
        "languages": ["en", "ko"],
        "lead": "text",
        "note": "",
    }
