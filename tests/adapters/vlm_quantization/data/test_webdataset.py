"""Tars of samples: read in place, whatever their members are named, and reported where unusable."""

import gzip
import io
import json
import tarfile

import pytest

import workbench as wb
from adapters.vlm_quantization.data import webdataset
from adapters.vlm_quantization.data.decoder import Refused
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.stored import ArchiveMember, SvgDrawing
from adapters.vlm_quantization.data.webdataset import tar_files
from tests.adapters.vlm_quantization.data import listings
from tests.adapters.vlm_quantization.data.listings import declared_png, png


def tar(path, files, links=()):
    with tarfile.open(path, "w") as out:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            out.addfile(member)
    return path


def test_samples_with_every_kind_of_text(tmp_path):
    meta = {"caption": "from json", "labels": ["x"], "split": "val", "key": "1", "width": 3}
    path = tar(
        tmp_path / "shard.tar",
        [
            ("a/0001.png", png("red")),
            ("a/0001.txt", b"one\ntwo\n"),
            ("a/0001.cls", b"7"),
            ("./b/0001.jpg.png", png("blue")),
            ("./b/0001.json", json.dumps(meta).encode()),
            ("a/._0001.png", b"of a Mac"),
        ],
    )
    first, second = open_collection(path).items
    assert (first.id, dict(first.captions), first.labels) == ("a/0001", {"en": ("one", "two")}, ("7",))
    assert (second.id, dict(second.captions), second.labels, second.split) == (
        "b/0001", {"en": ("from json",)}, ("x",), "val",
    )  # fmt: skip
    assert first.path == f"{path}/a/0001.png"


def test_samples_that_cannot_be_used_are_reported(tmp_path):
    huge = declared_png(60_000, 60_000)
    path = tar(
        tmp_path / "shard.tar",
        [
            ("good.png", png("red")), ("good.txt", b"good"),
            ("../../evil.png", png("blue")), ("../../evil.txt", b"evil"),
            ("/etc/abs.png", png("blue")), ("/etc/abs.txt", b"evil"),
            ("two.png", png("red")), ("two.alt.png", png("blue")), ("two.txt", b"two"),
            ("none.txt", b"no picture"),
            ("json.png", png("green")), ("json.json", b"{"),
            ("text.png", b"hello"), ("text.txt", b"text"),
            ("huge.png", huge), ("huge.txt", b"huge"),
            ("bare.png", png("white")),
        ],
        links=["link.png"],
    )  # fmt: skip
    before = sorted(tmp_path.parent.rglob("*"))
    collection = open_collection(path)
    assert [item.id for item in collection.items] == ["good"]
    reasons = " ".join(str(problem) for problem in collection.problems)
    for word in (
        "leads outside", "2 pictures", "no picture", "not JSON", "not a picture", "at most 100 million",
        "no captions", "link.png is not a plain file",
    ):  # fmt: skip
        assert word in reasons, word
    assert sorted(tmp_path.parent.rglob("*")) == before  # nothing was unpacked


def test_keys_of_two_tars_may_be_equal(tmp_path):
    for number, colour in enumerate(("red", "blue")):
        tar(tmp_path / f"{number}.tar", [("0.png", png(colour)), ("0.txt", colour.encode())])
    assert [item.id for item in open_collection(tmp_path).items] == ["0", "1.tar/0"]


def test_damaged_and_compressed_tars_are_refused(tmp_path):
    good = tar(tmp_path / "good.tar", [("0.png", png("red")), ("0.txt", b"red")]).read_bytes()
    (tmp_path / "x.tar").write_bytes(b"hello" * 200)
    with pytest.raises(wb.BadInput, match="damaged, or not a tar"):
        open_collection(tmp_path / "x.tar")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(good))
    with pytest.raises(wb.BadInput, match="compressed") as refused:
        open_collection(tmp_path / "x.tar.gz")
    assert "gunzip" in refused.value.hint


def test_a_pattern_stands_for_tars(tmp_path, monkeypatch):
    for name in ("a-08", "a-09", "a-10", "b-08"):
        tar(tmp_path / f"{name}.tar", [])
    pattern = tmp_path / "{a,b}-{08..08}.tar"
    assert [path.name for path in tar_files(pattern)] == ["a-08.tar", "b-08.tar"]
    assert [path.name for path in tar_files(tmp_path / "a-{08..10}.tar")] == [
        "a-08.tar",
        "a-09.tar",
        "a-10.tar",
    ]
    with pytest.raises(wb.BadInput, match=r"not found: .*a-11.tar"):
        tar_files(tmp_path / "a-{10..11}.tar")
    monkeypatch.setattr(webdataset, "MOST_TARS", 3)
    for text in ("a-{0..9}.tar", "a-{0..1}{0..1}.tar"):
        with pytest.raises(wb.BadInput, match="more than 3 files"):
            tar_files(tmp_path / text)
    with pytest.raises(wb.BadInput, match=r"no \.tar file"):
        tar_files(listings.pictures(tmp_path / "pictures"))


# --- pictures that are not files of their own ---------------------------------------------------------------


def test_a_member_is_read_from_its_place(tmp_path):
    (tmp_path / "x").write_bytes(b"abcdef")
    assert ArchiveMember(tmp_path / "x", "m", 2, 3).read(100) == b"cde"
    for member, words in (
        (ArchiveMember(tmp_path / "x", "m", 4, 9), "ends in the middle"),
        (ArchiveMember(tmp_path / "x", "m", 0, 500), "at most"),
        (ArchiveMember(tmp_path / "gone", "m", 0, 5), "cannot be read"),
    ):
        with pytest.raises(Refused, match=words):
            member.read(100)


def test_a_drawing_that_cannot_be_drawn_is_refused(tmp_path):
    (tmp_path / "x.svg").write_text("<svg")
    with pytest.raises(Refused, match="broken drawing"):
        SvgDrawing(tmp_path / "x.svg", 20).read(1000)
    with pytest.raises(Refused, match="at most"):
        SvgDrawing(tmp_path / "x.svg", 20).read(2)
