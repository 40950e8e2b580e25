import io
import struct
import sys
import zlib

import pillow_heif
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import decoder
from adapters.vlm_quantization.data.collection import picture_digest
from adapters.vlm_quantization.data.pictures import (
    MAX_PIXELS,
    MEGAPIXELS,
    decode_picture,
    max_pixels,
    opened_ahead,
    picture_file_digest,
)


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG that declares a size but contains almost no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    body = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return b"\x89PNG\r\n\x1a\n" + head + body


RED = Image.new("RGB", (8, 6), (200, 10, 10))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
NOISE = encoded(Image.effect_noise((64, 64), 90).convert("RGB"))
GIF, TIFF = (encoded(Image.effect_noise((64, 64), 90).convert("RGB"), kind) for kind in ("GIF", "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_every_format_becomes_rgb_without_metadata(kind):
    pillow_heif.register_heif_opener()
    picture = decode_picture(encoded(RED.resize((64, 48)), kind, quality=95)).resize((8, 6))
    assert (picture.mode, picture.size, picture.info) == ("RGB", (8, 6), {})
    assert all(abs(a - b) < 12 for a, b in zip(picture.getpixel((4, 3)), (200, 10, 10), strict=True))


def transparent_palette():
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((1, 1), 1)
    return encoded(picture, transparency=0)


@pytest.mark.parametrize(
    ("data", "corner"),
    [
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128))), (127, 127, 127)),
        (encoded(Image.new("LA", (4, 4), (0, 0))), (255, 255, 255)),
        (transparent_palette(), (255, 255, 255)),
        (encoded(Image.new("RGB", (4, 4), (0, 0, 0)), transparency=(0, 0, 0)), (255, 255, 255)),
        (encoded(Image.new("1", (4, 4), 1)), (255, 255, 255)),
        (encoded(Image.new("L", (4, 4), 77)), (77, 77, 77)),
        (encoded(Image.new("I;16", (4, 4), 0x4D00)), (0x4D, 0x4D, 0x4D)),
        (encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
    ],
    ids=["RGBA", "half", "LA", "palette", "colour key", "bilevel", "grey", "16-bit grey", "CMYK"],
)
def test_every_mode_is_composited_on_white(data, corner):
    assert decode_picture(data).getpixel((0, 0)) == corner


def test_exif_turns_the_picture_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was rotated by 90 degrees
    assert decode_picture(encoded(RED, "JPEG", exif=exif)).size == (6, 8)


def test_only_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("WEBP", "PNG", "GIF", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert decode_picture(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a picture"),
        (b"hello", "not a picture"),
        (EPS, "not a picture"),
        (encoded(RED, "PPM"), "not a picture"),
        (encoded(RED, "ICNS"), "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not a picture|broken picture"),
        (GIF[:10], "not a picture|broken picture"),
        (TIFF[:-40], "broken picture"),
        (NOISE[: len(NOISE) // 2], "broken picture"),
        (NOISE[:33], "not a picture"),
        (encoded(RED, "JPEG")[:-60], "broken picture"),
        (NOISE[:900] + b"\xff" * 64 + NOISE[964:], "broken picture"),
        (encoded(Image.new("L", (6000, 5000)), "BMP"), "at most 25 million"),
        (png_header(6000, 5000), "broken picture"),
        (png_header(20_000, 20_000), "at most 100 million"),
        (png_header(2_000_000, 2_000_000), "at most 100 million"),
    ],
    ids=[
        "empty", "text", "EPS", "PPM", "ICNS", "HEIC's head", "GIF's head", "cut TIFF",
        "half a PNG", "a PNG's head", "cut JPEG", "altered PNG",
        "30 megapixels", "30 megapixels of nothing", "over Pillow's warning", "over Pillow's limit",
    ],
)  # fmt: skip
def test_an_invalid_picture_is_an_error_with_its_name(tmp_path, data, message):
    with pytest.raises(wb.BadInput, match=message):
        decode_picture(data)
    path = tmp_path / "사진.png"  # named PNG, regardless of its contents
    path.write_bytes(data)
    with pytest.raises(wb.BadInput, match=message) as caught:
        decode_picture(path)
    assert "사진.png" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(wb.BadInput, match=r"nothing\.png.*No such file"):
        decode_picture(tmp_path / "nothing.png")


def test_a_picture_at_the_pixel_limit_is_accepted():
    side = int(MAX_PIXELS**0.5)
    assert decode_picture(encoded(Image.new("L", (side, side)))).size == (side, side)


def test_the_limit_can_be_raised_and_the_error_says_how(monkeypatch):
    data = encoded(Image.new("L", (6_000, 5_000)), "BMP")
    with pytest.raises(wb.BadInput, match=r"6000 × 5000 is 30 million pixels; at most 25 million") as refused:
        decode_picture(data)
    assert refused.value.hint == "Resize it and try again."
    assert MEGAPIXELS in refused.value.advice
    monkeypatch.setenv(MEGAPIXELS, "30")
    assert max_pixels() == 30_000_000
    assert decode_picture(data).size == (6_000, 5_000)
    monkeypatch.setenv(MEGAPIXELS, "29.5")
    with pytest.raises(wb.BadInput, match=r"at most 29\.5 million"):
        picture_file_digest(data)


def test_a_large_photograph_is_decoded_small(monkeypatch):
    """A phone's 50 megapixels: a JPEG is decoded at a part of its size, so it may be four times as large."""
    data = encoded(Image.new("L", (8_000, 6_250)), "JPEG")
    assert decode_picture(data).size == (4_000, 3_125)
    monkeypatch.setenv(MEGAPIXELS, "10")
    with pytest.raises(wb.BadInput, match=r"at most 40 million"):
        decode_picture(data)
    monkeypatch.setenv(MEGAPIXELS, "12.5")
    assert decode_picture(data).size == (4_000, 3_125)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_scientific_tiff_is_scaled_to_what_it_holds(mode):
    picture = Image.new(mode, (4, 4), 1000)
    picture.putpixel((0, 0), 3000)
    decoded = decode_picture(encoded(picture, "TIFF"))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 1)) == (0, 0, 0)


def test_heic_without_its_package_says_what_to_install(monkeypatch):
    pillow_heif.register_heif_opener()
    data = encoded(RED.resize((64, 48)), "HEIF")
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(decoder.Refused, match="HEIC") as refused:
        decoder.decode(data, MAX_PIXELS)
    assert "[data]" in refused.value.advice


@pytest.mark.parametrize("text", ["many", "0", "-3", "nan", "inf", "1e9"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, text):
    monkeypatch.setenv(MEGAPIXELS, text)
    with pytest.raises(wb.BadInput, match=f"{MEGAPIXELS} must be a number of million pixels from 1 to 1,000"):
        decode_picture(NOISE)


def test_the_digest_of_a_file_is_that_of_its_pixels():
    for data in (NOISE, encoded(RED, "JPEG"), transparent_palette()):
        assert picture_file_digest(data) == picture_digest(decode_picture(data))


def test_pictures_are_opened_in_order_and_errors_take_their_place():
    def one(number):
        if number % 5 == 3:
            raise wb.BadInput(f"no {number}")
        return Image.new("L", (number + 1, 1))

    opened = list(opened_ahead(one, range(30), ahead=4))
    assert [getattr(one, "width", str(one)) for one in opened] == [
        f"no {number}" if number % 5 == 3 else number + 1 for number in range(30)
    ]


def test_what_is_no_longer_wanted_is_not_opened():
    seen = []
    opened = opened_ahead(lambda number: seen.append(number) or RED, range(1_000), ahead=4)
    next(opened)
    opened.close()
    assert len(seen) < 10
