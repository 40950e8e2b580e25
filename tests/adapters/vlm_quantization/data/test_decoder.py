"""What the decoding process refuses, and the files with a harmless fault that it reads."""

import zlib
from pathlib import Path

import pytest
from PIL import Image

from adapters.vlm_quantization.data import decoder
from tests.adapters.vlm_quantization.data.hostile import (
    HOSTILE,
    app_segments,
    chunk,
    encoded,
    exif_bomb,
    large_text,
    noise,
    png_with,
    progressive_scans,
    text_bombs,
)

LIMIT = 25_000_000


@pytest.mark.parametrize("name", [name for name in HOSTILE if "pixels" not in name])
def test_absurdly_many_parts_are_refused_before_anything_is_decoded(monkeypatch, name):
    make, reason = HOSTILE[name]
    monkeypatch.setattr(decoder, "_decoded", lambda *_: pytest.fail("decoded"))
    with pytest.raises(decoder.Refused, match=reason) as refused:
        decoder.decode(make(), LIMIT)
    assert refused.value.hint


@pytest.mark.filterwarnings("ignore")  # Pillow says what is wrong with the Exif data
@pytest.mark.parametrize(
    "data",
    [
        encoded(noise(300, 200), "JPEG", progressive=True),
        encoded(noise(300, 200), "JPEG", exif=Image.Exif(), icc_profile=b"profile" * 60_000),
        app_segments(1_900),
        progressive_scans(80, side=200),
        encoded(noise(300, 200), "PNG"),
        png_with(chunk(b"IDAT") * 5_000),
        encoded(noise(300, 200), "WEBP", lossless=True),
        exif_bomb(),
    ],
    ids=["progressive", "profile", "segments", "scans", "PNG", "data chunks", "WebP", "Exif that lies"],
)
def test_many_parts_within_reason_are_decoded(data):
    assert decoder.decode(data, LIMIT).mode == "RGB"


def test_a_jpeg_that_lacks_only_its_end_marker_is_read():
    whole = encoded(noise(64, 48), "JPEG", quality=90)
    expected = decoder.decode(whole, LIMIT).tobytes()
    for data in (whole[:-2], whole[:-1]):
        assert decoder.decode(data, LIMIT).tobytes() == expected
    progressive = encoded(noise(64, 48), "JPEG", quality=90, progressive=True)
    assert decoder.decode(progressive[:-2], LIMIT).size == (64, 48)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}, {"subsampling": 2}])
def test_a_jpeg_that_lacks_pixels_is_refused(options):
    data = encoded(noise(64, 48), "JPEG", **options)
    for missing in (10, 20, 100, len(data) // 2):
        with pytest.raises(decoder.Refused, match="broken picture"):
            decoder.decode(data[:-missing], LIMIT)


def test_texts_that_are_too_large_do_not_matter():
    plain = decoder.decode(png_with(b""), LIMIT).tobytes()
    assert len(plain) == 16 * 16 * 3
    for data in (large_text(), text_bombs(80)):
        assert decoder.decode(data, LIMIT).size == (16, 16)
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3_000_000)))
    assert decoder.decode(png_with(profile, before=b"IDAT"), LIMIT).size == (16, 16)


def test_a_jpeg_up_to_the_old_limit_is_never_decoded_smaller(monkeypatch):
    data = encoded(noise(640, 480), "JPEG")
    assert decoder.decode(data, 10**9).size == (640, 480)
    monkeypatch.setattr(decoder, "DRAFT_ABOVE", 640 * 480 - 1)
    assert decoder.decode(data, 10**9).size == (320, 240)
    monkeypatch.setattr(decoder, "DRAFT_ABOVE", 640 * 480 // 40)
    assert decoder.decode(data, 10**9).size == (80, 60)
    assert decoder.decode(encoded(noise(640, 480), "BMP"), 10**9).size == (640, 480)


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in (("pipe.png", "not a file"), ("", "not a file|directory"), ("none.png", "No such")):
        with pytest.raises(decoder.Refused, match=reason):
            decoder.read_file(str(tmp_path / name), 100)
    (tmp_path / "large.png").write_bytes(bytes(3_000_000))
    with pytest.raises(decoder.Refused, match="a file of 3 MB; at most 2 MB"):
        decoder.read_file(str(tmp_path / "large.png"), 2_000_000)
