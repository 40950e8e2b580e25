"""Pictures with side-car texts in many languages: from a folder and from a package's file."""

import io
import lzma
import tarfile

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import stamps
from adapters.vlm_quantization.data.sources import check_source, open_collection
from adapters.vlm_quantization.data.stamps import captions_of, check_stamps, is_photograph
from tests.adapters.vlm_quantization.data.listings import png

TEXT = (
    "A red kangaroo.\nko.utf8=빨간 캥거루\nen_GB.utf8=A kangaroo.\nzh_CN.utf8=红袋鼠。\nde.utf8= \nnonsense\n"
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><rect width="4" height="4" fill="#00f"/></svg>'
)


def photograph(size=64):
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A folder of stamps: a photograph, drawings, and files that cannot be used."""
    files = {
        "animals/kangaroo.png": photograph(),
        "animals/kangaroo.txt": TEXT.encode(),
        "animals/kangaroo_mirror.png": png("red"),
        "animals/cartoon/bee.svg": SVG.encode(),
        "animals/cartoon/bee.txt": b"A bee.\nko.utf8=\xeb\xb2\x8c",
        "animals/cartoon/bee.ogg": b"sound",
        "symbols/star.png": png("yellow"),
        "symbols/star.txt": b"A star.",
        "symbols/untold.png": png("green"),
        "symbols/broken.svg": b"<svg",
        "symbols/broken.txt": b"Broken.",
    }
    for name, data in files.items():
        (tmp_path / "stamps" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stamps" / name).write_bytes(data)
    return tmp_path / "stamps"


def test_a_folder_of_stamps_is_read(folder):
    collection = open_collection(f"stamps:{folder}")

    assert [(item.id, dict(item.captions)) for item in collection.items] == [
        ("animals/kangaroo.png", {"en": ("A red kangaroo",), "ko": ("빨간 캥거루",)}),
        ("animals/cartoon/bee.svg", {"en": ("A bee",), "ko": ("벌",)}),
        ("symbols/star.png", {"en": ("A star",)}),
    ]
    assert [item.labels for item in collection.items] == [("animals",), ("cartoon",), ("symbols",)]
    assert collection.open(1).getpixel((5, 5)) == (0, 0, 255)
    assert collection.items[1].path.endswith("bee.svg")
    reasons = sorted(problem.message for problem in collection.problems)
    assert [reason.partition(":")[0] for reason in reasons] == ["symbols/broken.svg", "symbols/untold.png"]


def test_photographs_and_languages_can_be_chosen(folder):
    only = open_collection(f"stamps:{folder}?photographs=yes&languages=en,zh-CN")
    assert [(item.id, dict(item.captions)) for item in only.items] == [
        ("animals/kangaroo.png", {"en": ("A red kangaroo",), "zh-CN": ("红袋鼠",)})
    ]
    for options in ("photographs=maybe", "languages=English", "languages="):
        with pytest.raises(wb.BadInput):
            open_collection(f"stamps:{folder}?{options}")


def test_a_photograph_has_many_colours_and_few_equal_neighbours():
    assert is_photograph(Image.open(io.BytesIO(photograph())))
    assert not is_photograph(Image.new("RGB", (64, 64), "red"))
    assert not is_photograph(Image.new("RGB", (64, 64), "white"))


def test_the_first_line_is_english_and_variants_of_countries_are_left_out():
    assert captions_of(TEXT) == {"en": ["A red kangaroo"], "ko": ["빨간 캥거루"], "zh-CN": ["红袋鼠"]}
    assert captions_of("") == {}


def deb(path, folder, extra=()):
    """A Debian package with the files of a folder below usr/share/tuxpaint/stamps."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                out.add(file, f"./usr/share/tuxpaint/stamps/{file.relative_to(folder).as_posix()}")
        for name in extra:
            member = tarfile.TarInfo(name)
            member.size = 4
            out.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("./usr/share/tuxpaint/stamps/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    members = [("debian-binary", b"2.0\n"), ("data.tar.xz", lzma.compress(data.getvalue()))]
    body = b"!<arch>\n"
    for name, part in members:
        body += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(part):<10}`\n".encode() + part
        body += b"\n" * (len(part) % 2)
    path.write_bytes(body)
    return path


def test_a_package_file_is_unpacked_into_the_cache_once(folder, tmp_path):
    evil = ["usr/share/tuxpaint/stamps/../../../../evil.png", "/usr/share/tuxpaint/stamps/../evil.txt"]
    source = f"stamps:{deb(tmp_path / 'x.deb', folder, evil)}"
    check_source(source)

    cache = tmp_path / "cache"
    collection = open_collection(source, cache_dir=cache)

    assert len(collection) == 3
    assert "GPL-2" in collection.credits[0]
    assert list(tmp_path.rglob("evil*")) == []
    assert list(cache.rglob("link*")) == []
    (unpacked,) = cache.glob("stamps-*")
    before = unpacked.stat().st_mtime_ns
    assert open_collection(source, cache_dir=cache).fingerprint == collection.fingerprint
    assert unpacked.stat().st_mtime_ns == before


def test_a_file_that_is_no_package_is_refused(tmp_path, folder):
    good = deb(tmp_path / "x.deb", folder).read_bytes()
    for number, data in enumerate(
        (b"hello", b"!<arch>\n", good[:200], good[:-400], good.replace(b"data", b"dada"))
    ):
        path = tmp_path / f"{number}.deb"
        path.write_bytes(data)
        with pytest.raises(wb.BadInput, match="not a Debian package"):
            open_collection(f"stamps:{path}", cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_without_the_package_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "INSTALLED", tmp_path / "none")
    with pytest.raises(wb.BadInput) as refused:
        check_source("stamps")
    assert "apt-get install tuxpaint-stamps-default" in refused.value.hint
    with pytest.raises(wb.BadInput, match="neither a folder nor a"):
        check_stamps(f"stamps:{tmp_path}/nothing.deb")
