import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import threading
import unicodedata

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded
from adapters.vlm_quantization.index import build as building
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index import shards, thresholds
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.format import read_manifest
from adapters.vlm_quantization.index.opened import load_index
from tests.adapters.vlm_quantization import small_index
from tests.adapters.vlm_quantization.resealing import make_old
from tests.adapters.vlm_quantization.small_index import (
    N_CONCEPTS,
    SmallCollection,
    SmallEncoder,
    build,
    picture,
)
from tests.waiting import GUARD, until
from workbench.search.indexes import index_stamp

#: Pictures and captions: per concept two English names and one new Korean one ("thing 3" is in both).
N_IMAGES, N_CAPTIONS = 2 * N_CONCEPTS, 3 * N_CONCEPTS
N_SHARDS = -(-N_IMAGES // 16) + -(-N_CAPTIONS // 16)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ITEMS", 16)


def open_small(path):
    return load_index(path, lambda file: SmallEncoder())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(index_path):
    """Digest of every file except the manifest, which contains the time."""
    return {name: seal.sha256 for name, seal in read_manifest(index_path).files.items()}


def killed_build(folder, at, *arguments):
    """Build in a separate process that dies at a crash point."""
    done = subprocess.run(
        [sys.executable, small_index.__file__, folder, "small", *arguments],
        env={**os.environ, "WORKBENCH_CRASH_AT": at, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


# --- contents of an index -----------------------------------------------------------------------------------


def test_an_index_holds_both_sides_in_order_of_ids(tmp_path):
    report = build(tmp_path)
    assert (report.path, report.images, report.captions) == (tmp_path / "small", N_IMAGES, N_CAPTIONS)
    assert (report.skipped, report.resumed) == ((), 0)
    assert report.size == sum(path.stat().st_size for path in report.path.iterdir())
    assert names_in(tmp_path) == ["small"]  # and no other files

    encoder, collection = SmallEncoder(), SmallCollection()
    index = open_small(report.path)
    images = sorted(range(N_IMAGES), key=lambda i: collection.items[i].id)
    expected = encoder.encode_images([collection.open(i) for i in images])
    assert np.array_equal(index.sides["images"].codes, expected.codes)
    assert np.allclose(index.sides["images"].features, expected.features, atol=1e-6)
    items = [index.sides["images"].items[row] for row in range(N_IMAGES)]
    assert [item["id"] for item in items] == [collection.items[i].id for i in images]
    assert items[0]["caption"] == "thing 0"
    assert items[0]["subtitle"] == "물건 0"

    texts = [index.sides["captions"].items[row]["caption"] for row in range(N_CAPTIONS)]
    assert np.array_equal(index.sides["captions"].codes, encoder.encode_texts(texts).codes)


def test_a_text_is_indexed_once_per_concept_for_all_drawings_and_languages(tmp_path):
    captions = open_small(build(tmp_path).path).sides["captions"].items
    items = {captions[row]["id"]: captions[row] for row in range(len(captions))}
    of_concept = {item_id: item["caption"] for item_id, item in items.items() if item_id.startswith("007:")}
    assert of_concept == {"007:en:0": "thing 7", "007:en:1": "object no. 7", "007:ko:0": "물건 7"}
    assert items["007:en:0"]["subtitle"] == "물건 7"
    assert items["007:ko:0"]["subtitle"] == "thing 7"


def test_thumbnails_are_small_pictures_of_their_items(tmp_path):
    index = open_small(build(tmp_path).path)
    for row in (0, 17, N_IMAGES - 1):
        with Image.open(io.BytesIO(index.thumbnail(row))) as thumbnail:
            assert (thumbnail.format, thumbnail.size) == ("WEBP", (128, 102))
            item = index.sides["images"].items[row]
            original = picture(int(item["concept"]), framed=item["style"] == "framed")
            difference = np.asarray(thumbnail.resize((8, 8)), float) - np.asarray(
                original.resize((8, 8)), float
            )
            assert np.abs(difference).mean() < 20


def test_the_manifest_describes_contents_and_origin(tmp_path):
    model = tmp_path / "trained.bin"
    model.write_bytes(b"weights" * 100)
    path = build(tmp_path / "indexes", title="Little things", model_file=model, provenance={"job": 3}).path
    manifest = read_manifest(path)
    assert (manifest.format, manifest.adapter, manifest.name) == (3, "vlm_quantization", "small")
    assert manifest.title == "Little things"
    assert manifest.counts == {"images": N_IMAGES, "captions": N_CAPTIONS, "skipped": 0}
    assert manifest.model == {
        "name": "random projection",
        "fingerprint": SmallEncoder.fingerprint,
        "file": "model.bin",
    }
    assert manifest.data == {"name": "small things", "fingerprint": SmallCollection.fingerprint}
    assert manifest.credits == ["Drawn by a random generator."]
    assert manifest.provenance == {"job": 3, "made": manifest.provenance["made"]}
    assert set(manifest.files) == set(names_in(path)) - {"manifest.json"}
    assert (path / "model.bin").read_bytes() == model.read_bytes()
    loaded = []
    load_index(path, lambda file: loaded.append(file) or SmallEncoder())
    assert loaded == [path / "model.bin"]


def test_an_index_of_another_family_with_a_code_of_its_own(tmp_path):
    class Short(SmallEncoder):
        bits = (16, 40)

        def _encode(self, x):
            codes, features, _ = super()._encode(x)
            return Encoded(np.ascontiguousarray(codes[:, :5]), features)

    path = build(tmp_path, adapter="mine", encoder=Short()).path
    with pytest.raises(wb.CorruptFile, match=r"adapter 'mine'.*of 'vlm_quantization'"):
        read_manifest(path)
    manifest = read_manifest(path, "mine")
    assert (manifest.code_bits, manifest.code_cuts) == (40, [16, 40])
    assert set(manifest.thresholds["captions-images"]) == {"16", "40", "cosine"}
    index = load_index(path, lambda file: Short(), adapter="mine")
    side = index.sides["images"]
    for bits in (16, 40):
        rows, distances = index.search(side.codes[7], side.features[7], bits=bits, k=3)
        assert (rows[0], distances[0]) == (7, 0)
    with pytest.raises(wb.BadInput, match=r"unsupported code length 128\. Allowed: 16, 40"):
        index.search(side.codes[7], side.features[7], bits=128, k=3)
    with pytest.raises(wb.CorruptFile, match=r"code_cuts: must be \[8, 16, 32, 64, 128\] as in the model"):
        load_index(path, lambda file: SmallEncoder(), adapter="mine")


@pytest.mark.parametrize("bits", [(), (8, 8), (16, 8), (8, 12), (0, 8), (8, 8192), (8.0,)])
def test_code_lengths_that_no_index_can_have_are_refused(tmp_path, bits):
    encoder = SmallEncoder()
    encoder.bits = bits
    with pytest.raises(wb.BadInput, match="ascending multiples of 8 up to 4,096"):
        build(tmp_path, encoder=encoder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", [1, 2])
def test_an_index_of_an_earlier_format_is_still_read(tmp_path, version):
    path = build(tmp_path).path
    new = open_small(path)
    answers = {}
    for side in files.SIDES:
        one = new.sides[side]
        answers[side] = np.array(one.codes), [one.items[row] for row in range(len(one))], one.items.table
    pictures = [new.thumbnail(row) for row in range(N_IMAGES)]
    index = open_small(make_old(path, version))
    for side, (codes, items, table) in answers.items():
        old = index.sides[side]
        assert np.array_equal(old.codes, codes)
        assert [old.items[row] for row in range(len(old))] == items
        assert old.items.table.equals(table)
        assert [batch.num_rows for batch in old.items.batches(["caption"])] == [len(items)]
        rows, distances = index.search(codes[7], old.features[7], side=side, bits=16, k=3)
        assert (rows[0], distances[0]) == (7, 0)
        assert old.items.find(items[11]["id"]) == 11
        assert old.names.rows("Thing 3!").tolist() == new.sides[side].names.rows("Thing 3!").tolist() != []
    assert [index.thumbnail(row) for row in range(N_IMAGES)] == pictures
    assert index.manifest.code_cuts == [8, 16, 32, 64, 128]
    assert len(index) == N_IMAGES
    (path / "captions.features.npy").write_bytes(bytes((path / "captions.features.npy").stat().st_size))
    with pytest.raises(wb.CorruptFile, match="SHA-256"):  # at once: its blocks have no checksums
        open_small(path)


def test_thresholds_are_where_one_unrelated_pair_in_a_thousand_lies(tmp_path, monkeypatch):
    assert set(read_manifest(build(tmp_path).path).thresholds["captions-images"].values()) == {None}
    monkeypatch.setattr(thresholds, "UNRELATED_PAIRS_MIN", 1_000)
    monkeypatch.setattr(thresholds, "UNRELATED_TAIL", 0.05)
    index = open_small(build(tmp_path, "again").path)
    images, captions = index.sides["images"], index.sides["captions"]
    pairs = [
        (row, other)
        for row in range(N_CAPTIONS)
        for other in range(N_IMAGES)
        if captions.items[row]["concept"] != images.items[other]["concept"]
    ]
    one, other = (list(rows) for rows in zip(*pairs, strict=True))
    differing = np.unpackbits(captions.codes[one] ^ images.codes[other], axis=1)
    limits = index.manifest.thresholds["captions-images"]
    for bits in CODE_LENGTHS:
        distances = differing[:, :bits].sum(axis=1)
        limit = limits[str(bits)]
        assert (distances <= limit).mean() <= 0.05 < (distances <= limit + 1).mean()
    scores = (captions.features[one] * images.features[other]).sum(axis=1)
    assert (scores > limits["cosine"]).mean() == pytest.approx(0.05, abs=0.001)


def test_progress_goes_from_zero_to_the_total(tmp_path):
    seen = []
    build(tmp_path, progress=lambda done, total, message: seen.append((done, total, message)))
    total = N_IMAGES + N_CAPTIONS
    assert seen[0] == (0, total, "encoding images")
    assert (total, total, "encoding captions") in seen
    assert seen[-1] == (total, total, "writing the index")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


# --- pictures that cannot be read ---------------------------------------------------------------------------


def test_bad_pictures_are_skipped_and_listed(tmp_path):
    report = build(tmp_path, collection=SmallCollection(broken=["plain:003", "framed:028"]))
    assert [(s.id, s.reason) for s in report.skipped] == [
        ("framed:028", "OSError: image file is truncated: framed:028"),
        ("plain:003", "OSError: image file is truncated: plain:003"),
    ]
    assert (report.images, report.captions) == (N_IMAGES - 2, N_CAPTIONS)
    index = open_small(report.path)
    ids = [index.sides["images"].items[row]["id"] for row in range(len(index))]
    assert "plain:003" not in ids
    # rows and codes stay aligned after the gap
    row = ids.index("plain:004")
    assert np.array_equal(
        index.sides["images"].codes[row], SmallEncoder().encode_images([picture(4)]).codes[0]
    )
    assert read_manifest(report.path).counts["skipped"] == 2


def test_a_shard_with_only_bad_pictures_is_skipped(tmp_path):
    report = build(tmp_path, collection=SmallCollection(broken=[f"framed:{i:03d}" for i in range(20)]))
    assert report.images == N_IMAGES - 20
    assert len(open_small(report.path)) == N_IMAGES - 20


def test_no_readable_picture_at_all_is_an_error(tmp_path):
    collection = SmallCollection()
    collection.broken = {item.id for item in collection.items}
    with pytest.raises(wb.BadInput, match=r"60 pictures.*framed:000: OSError"):
        build(tmp_path, collection=collection)
    assert not (tmp_path / "small").exists()


# --- atomicity ----------------------------------------------------------------------------------------------


def test_a_killed_build_leaves_no_index_and_is_resumed(tmp_path):
    killed_build(tmp_path, "index:shard:3")
    assert not (tmp_path / "small").exists()
    with pytest.raises(wb.UnknownIndex):
        open_small(tmp_path / "small")

    encoder = SmallEncoder()
    report = build(tmp_path, encoder=encoder)
    assert report.resumed == 3
    assert sum(n for _, n in encoder.calls) == N_IMAGES + N_CAPTIONS - 3 * 16
    assert names_in(tmp_path) == ["small"]
    assert contents(report.path) == contents(build(tmp_path / "fresh").path)


#: Where a build may be killed, and whether there is an index afterwards.
CRASH_POINTS = {
    "index:listed": False,
    "index:shard-written": False,
    "index:shard:1": False,
    "index:shard:5": False,
    "index:merged": False,
    "index:before-publish": False,
    "index:after-publish": True,
}


def test_wherever_a_build_is_killed_the_next_one_has_the_same_bytes(tmp_path):
    done = subprocess.run(
        [sys.executable, small_index.__file__, tmp_path, "small", "--each", *CRASH_POINTS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    fresh = contents(build(tmp_path / "fresh").path)
    for point, there in CRASH_POINTS.items():
        folder = tmp_path / point
        assert (folder / "small").exists() == there, point
        if there:
            load_index(folder / "small", lambda file: SmallEncoder()).check()
            assert contents(folder / "small") == fresh
        report = build(folder)
        assert contents(report.path) == fresh, point
        assert names_in(folder) == ["small"], point


def test_a_build_with_another_model_starts_over(tmp_path):
    killed_build(tmp_path, "index:shard:2")
    other = SmallEncoder()
    other.fingerprint = "beef" * 16
    report = build(tmp_path, encoder=other)
    assert report.resumed == 0
    assert names_in(tmp_path) == ["small"]  # the dead build's folder is deleted, too


def test_a_damaged_shard_is_rebuilt(tmp_path):
    killed_build(tmp_path, "index:shard:3")
    first, second, third = sorted(tmp_path.glob(".small.building-*/shards/*"))
    first.write_bytes(first.read_bytes()[:-100])
    altered = bytearray(second.read_bytes())
    altered[len(altered) // 2] ^= 1
    second.write_bytes(altered)
    third.write_bytes(b"")
    report = build(tmp_path)
    assert report.resumed == 0
    assert contents(report.path) == contents(build(tmp_path / "fresh").path)


def test_skipped_pictures_are_still_listed_after_resuming(tmp_path):
    collection = SmallCollection(broken=["framed:001"])

    def stop(done, total, message):
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, collection=collection, progress=stop)
    assert not (tmp_path / "small").exists()
    report = build(tmp_path, collection=collection)
    assert report.resumed == 2
    assert [s.id for s in report.skipped] == ["framed:001"]


def test_an_index_is_replaced_only_by_a_complete_one(tmp_path):
    old = contents(build(tmp_path, collection=SmallCollection(broken=["plain:000"])).path)
    killed_build(tmp_path, "index:before-publish")
    assert contents(tmp_path / "small") == old
    opened = open_small(tmp_path / "small")

    report = build(tmp_path)
    assert report.resumed == N_SHARDS
    assert report.images == N_IMAGES
    assert names_in(tmp_path) == ["small"]
    # a reader of the old index can still use it
    assert len(opened.thumbnail(len(opened) - 1)) > 0
    assert opened.sides["images"].items[0]["id"] == "framed:000"


def test_a_reader_of_the_old_index_is_not_disturbed(tmp_path):
    """What it opened stays: every file, also those it has not read yet; a new reader gets the new index."""
    build(tmp_path, collection=SmallCollection(broken=["framed:000"]))
    reader, checker = open_small(tmp_path / "small"), open_small(tmp_path / "small")
    before = index_stamp(tmp_path, "small")
    build(tmp_path)
    assert index_stamp(tmp_path, "small") != before  # this tells the search service to reopen it
    assert (len(reader), len(open_small(tmp_path / "small"))) == (N_IMAGES - 1, N_IMAGES)
    side = reader.sides["images"]
    for method in ("hamming", "cosine"):
        for bits in CODE_LENGTHS:
            rows, _ = reader.search(side.codes[5], side.features[5], bits=bits, method=method, k=N_IMAGES)
            assert len(rows) == N_IMAGES - 1
    assert [side.items[row]["id"] for row in range(2)] == ["framed:001", "framed:002"]
    assert all(reader.thumbnail(row) for row in range(len(reader)))
    assert reader.sides["captions"].items.find("007:en:0") is not None
    checker.sides["captions"].items.check()


def test_an_index_that_is_replaced_while_it_is_opened_is_opened_again(tmp_path):
    build(tmp_path, collection=SmallCollection(broken=["framed:000"]))
    opened = []

    def encoder(file):  # between the reading of the manifest and the opening of the files
        if not opened:
            build(tmp_path)
        opened.append(file)
        return SmallEncoder()

    index = load_index(tmp_path / "small", encoder)
    assert (len(index), len(opened)) == (N_IMAGES, 2)
    index.check()


def test_a_kill_after_the_rename_leaves_the_new_index(tmp_path):
    build(tmp_path, collection=SmallCollection(broken=["plain:000"]))
    killed_build(tmp_path, "index:after-publish")
    assert len(open_small(tmp_path / "small")) == N_IMAGES
    build(tmp_path)
    assert names_in(tmp_path) == ["small"]


@pytest.mark.parametrize("message", ["encoding images", "encoding captions", "writing the index"])
def test_a_build_that_is_cancelled_leaves_the_old_index_and_no_half_one(tmp_path, message):
    old = contents(build(tmp_path, collection=SmallCollection(broken=["plain:000"])).path)

    class Cancelled(Exception):
        pass

    def cancel(done, total, now):
        if now == message:
            raise Cancelled

    with pytest.raises(Cancelled):
        build(tmp_path, progress=cancel)
    assert contents(tmp_path / "small") == old
    assert [name for name in names_in(tmp_path) if not name.startswith(".")] == ["small"]
    build(tmp_path)
    assert names_in(tmp_path) == ["small"]


def test_without_an_atomic_exchange_a_kill_between_the_renames_is_repaired(tmp_path):
    build(tmp_path, collection=SmallCollection(broken=["plain:000"]))
    killed_build(tmp_path, "index:between-renames", "--no-exchange")
    assert not (tmp_path / "small").exists()
    assert len(open_small(tmp_path / "small")) == N_IMAGES - 1  # the old one, from its temporary name

    with pytest.raises(KeyboardInterrupt):  # the next build restores it, even if it fails
        build(tmp_path, batch_size=4, progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert len(open_small(tmp_path / "small")) == N_IMAGES - 1
    assert (tmp_path / "small").is_dir()

    build(tmp_path)
    assert names_in(tmp_path) == ["small"]
    assert len(open_small(tmp_path / "small")) == N_IMAGES


def test_without_an_atomic_exchange_an_index_is_replaced_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    build(tmp_path, collection=SmallCollection(broken=["plain:000"]))
    build(tmp_path)
    assert names_in(tmp_path) == ["small"]
    assert len(open_small(tmp_path / "small")) == N_IMAGES


def test_one_build_of_an_index_at_a_time(tmp_path):
    caught = []

    def build_too(done, total, message):
        if not caught:
            with pytest.raises(wb.Busy, match=r"small.*another process") as error:
                build(tmp_path)
            caught.append(error)

    build(tmp_path, progress=build_too)
    assert caught
    assert names_in(tmp_path) == ["small"]


def test_the_same_build_a_second_time_waits_for_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_WAIT_SECONDS", 0.01)
    waited, second = [], []

    def build_again():
        second.append(build(tmp_path, progress=lambda done, total, message: waited.append(message)))

    thread = threading.Thread(target=build_again)

    def started_meanwhile(done, total, message):
        if not thread.ident:
            thread.start()
            until(lambda: waited)

    first = build(tmp_path, progress=started_meanwhile)
    thread.join(GUARD)
    assert waited[0] == "waiting for another build of this index"
    assert [report.images for report in (first, *second)] == [N_IMAGES, N_IMAGES]
    assert names_in(tmp_path) == ["small"]
    assert len(open_small(tmp_path / "small")) == N_IMAGES


def test_another_index_under_construction_is_left_alone(tmp_path):
    other = tmp_path / ".small.building-1.building-0123456789ab"  # a name with our prefix
    other.mkdir()
    build(tmp_path)
    assert names_in(tmp_path) == [other.name, "small"]


def test_a_folder_that_is_not_an_index_is_not_replaced(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("years of work")
    with pytest.raises(wb.WrongState, match=r"small.*is not an index"):
        build(tmp_path)
    assert (tmp_path / "small" / "thesis.txt").read_text() == "years of work"


# --- invalid input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-rf",
        "a/b",
        "a\\b",
        "../up",
        "a b",
        "a\n",
        "a\0b",
        "é" * 101,
        "x" * 201,
        None,
    ],
)
def test_names_that_cannot_name_a_folder_are_refused(tmp_path, name):
    with pytest.raises(wb.BadName):
        build(tmp_path, name)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["emoji", "그림-색인_2", "v1.0-test", "0"])
def test_plain_names_in_any_script_are_accepted(tmp_path, name):
    assert open_small(build(tmp_path, name).path).manifest.name == name


class Breaking(SmallEncoder):
    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def encode_images(self, images):
        return self.spoil(super().encode_images(images))


def with_nan(encoded):
    encoded.features[3, 5] = np.nan
    return encoded


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_nan, "not finite or not of unit norm for 1 items.*'framed:003'"),
        (lambda e: Encoded(e.codes, e.features * 2), "not finite or not of unit norm for 8 items"),
        (lambda e: Encoded(e.codes.astype(int), e.features), r"codes int64 \(8, 16\) for 8 items"),
        (lambda e: Encoded(e.codes[:, :4], e.features), r"must be uint8 \(8, 16\)"),
        (lambda e: Encoded(e.codes[1:], e.features), r"codes uint8 \(7, 16\)"),
        (lambda e: Encoded(e.codes, e.features[:, 1:]), r"must be float \(8, 24\)"),
    ],
)
def test_an_encoder_with_invalid_output_is_refused(tmp_path, spoil, message):
    with pytest.raises(wb.BadInput, match=message):
        build(tmp_path, encoder=Breaking(spoil))
    assert not (tmp_path / "small").exists()


def test_two_items_with_the_same_id_are_refused(tmp_path):
    collection = SmallCollection()
    collection.items[4] = dataclasses.replace(collection.items[4], id="plain:000")
    with pytest.raises(wb.BadInput, match="id 'plain:000'"):
        build(tmp_path, collection=collection)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_a_batch_size_must_be_a_whole_number(tmp_path, batch_size):
    with pytest.raises(wb.BadInput, match="batch_size"):
        build_index(tmp_path, SmallCollection(), SmallEncoder(), name="small", batch_size=batch_size)


def test_a_collection_without_captions_can_be_indexed(tmp_path):
    collection = SmallCollection()
    collection.items = [dataclasses.replace(item, captions={}) for item in collection.items]
    index = open_small(build(tmp_path, collection=collection).path)
    assert len(index.sides["captions"]) == 0
    assert json.loads((index.path / "manifest.json").read_text())["counts"]["captions"] == 0


# --- one name -----------------------------------------------------------------------------------------------


def test_two_collections_are_not_built_under_one_name_at_once(tmp_path):
    other = SmallCollection()
    other.fingerprint = "other" * 10
    refused = []

    def meanwhile(done, total, message):
        if not refused:
            with pytest.raises(wb.Busy, match="index 'small' is being built by another process") as busy:
                build(tmp_path, collection=other)
            refused.append(busy.value)
            assert ".building" not in str(busy.value)
            build(tmp_path, "another", collection=other)

    report = build(tmp_path, progress=meanwhile)
    assert refused
    assert refused[0].hint
    assert read_manifest(report.path).data["fingerprint"] == SmallCollection.fingerprint
    build(tmp_path, collection=other)
    assert read_manifest(report.path).data["fingerprint"] == other.fingerprint
    assert names_in(tmp_path) == ["another", "small"]


def test_a_name_in_another_unicode_form_replaces_the_same_index(tmp_path):
    composed, apart = (unicodedata.normalize(form, "강아지") for form in ("NFC", "NFD"))
    assert build(tmp_path, apart).path.name == composed
    assert build(tmp_path, composed).path == tmp_path / composed
    (tmp_path / composed).rename(tmp_path / apart)
    assert build(tmp_path, composed).path == tmp_path / apart
    assert names_in(tmp_path) == [apart]
