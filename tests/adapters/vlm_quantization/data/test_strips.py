"""Large PNG and TIFF pictures, shrunk in strips: the same pixels as of the whole, and never held whole."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import decoder, strips
from adapters.vlm_quantization.data.heads import fault_in_head
from adapters.vlm_quantization.data.pictures import decode_picture

SIZE = (203, 157)  # no multiple of a scale


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    """A picture of a few rows is large here."""
    monkeypatch.setattr(strips, "STRIP_BYTES", 4_000)
    monkeypatch.setattr(decoder, "DRAFT_ABOVE", 10_000)


def picture(mode: str) -> Image.Image:
    rng = np.random.default_rng(3)
    across, down = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    planes = [(across * (k + 1) + down * 2 + rng.integers(0, 30, across.shape)) % 256 for k in range(4)]
    rgba = Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8), "RGBA")
    if mode == "I;16":
        return Image.fromarray((planes[0] * 251).astype(np.uint16))
    if mode == "P":
        return rgba.convert("RGB").quantize(64)
    return rgba if mode == "RGBA" else rgba.convert(mode)


def encoded(image: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def in_strips(data: bytes, scale: int = 4) -> Image.Image | None:
    with Image.open(io.BytesIO(data)) as opened:
        return strips.shrunk(data, opened, scale, decoder._on_white)


def whole(data: bytes, scale: int = 4) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        return decoder._on_white(opened).reduce(scale)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_has_the_pixels_of_the_whole(mode):
    data = encoded(picture(mode), "PNG")
    assert in_strips(data).tobytes() == whole(data).tobytes()


def test_a_png_with_a_transparent_colour_is_on_white_in_each_strip():
    data = encoded(picture("P"), "PNG", transparency=3)
    assert in_strips(data).tobytes() == whole(data).tobytes()
    data = encoded(picture("RGB"), "PNG", transparency=(9, 9, 9))
    assert in_strips(data).tobytes() == whole(data).tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_has_the_pixels_of_the_whole(mode, compression):
    how = {"compression": compression} if compression else {}
    data = encoded(picture(mode), "TIFF", tiffinfo={278: 10}, **how)
    assert in_strips(data).tobytes() == whole(data).tobytes()


@pytest.mark.parametrize("big_endian", [False, True])
def test_tiles_of_a_tiff_are_put_in_their_place(big_endian):
    data = tiled(picture("RGB"), 48, ">" if big_endian else "<")
    assert whole(data).size == (51, 40)
    assert in_strips(data).tobytes() == whole(data).tobytes()


def tiled(image: Image.Image, side: int, order: str) -> bytes:
    """Return a TIFF of deflated tiles, which Pillow does not write."""
    pixels = np.asarray(image)
    height, width, _ = pixels.shape
    parts = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            tile = np.zeros((side, side, 3), np.uint8)
            part = pixels[top : top + side, left : left + side]
            tile[: part.shape[0], : part.shape[1]] = part
            parts.append(zlib.compress(tile.tobytes()))
    head = 8
    places = [head + sum(map(len, parts[:k])) for k in range(len(parts))]
    body = b"".join(parts)
    bits = head + len(body)
    arrays = struct.pack(f"{order}3H", 8, 8, 8) + b"\0\0"
    arrays += struct.pack(f"{order}{2 * len(parts)}I", *places, *map(len, parts))
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 8), (262, 3, 1, 2)),
        *((277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, side), (323, 4, 1, side)),
        *((324, 4, len(parts), bits + 8), (325, 4, len(parts), bits + 8 + 4 * len(parts))),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (
            struct.pack(f"{order}HH", value, 0)
            if kind == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        for tag, kind, count, value in tags
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(f"{order}I", bits + len(arrays))
    return mark + first + body + arrays + struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0"


def test_what_has_no_parts_is_decoded_whole():
    for data in (
        encoded(picture("RGB"), "WEBP"),
        encoded(picture("RGB"), "BMP"),
        encoded(picture("RGB").convert("F"), "TIFF"),
    ):
        assert in_strips(data) is None
    interlaced = bytearray(encoded(picture("L"), "PNG"))
    interlaced[28] = 1
    assert not strips.can_shrink_png(bytes(interlaced))
    assert not strips.can_shrink_png(b"\x89PNG")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_broken_large_picture_is_refused(kind):
    data = encoded(picture("RGB"), kind)
    for broken in (data[: len(data) // 2], data[:3_000] + b"\xff" * 2_000 + data[5_000:]):
        if kind == "TIFF" and len(broken) == len(data):
            continue  # uncompressed: other pixels, and no way to tell
        with pytest.raises(decoder.Refused, match=r"broken picture|not a picture"):
            decoder.decode(broken, 20_000)


def test_large_pictures_are_upright_and_within_four_times_the_limit():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture("RGB"), "PNG", exif=exif)
    assert decoder.decode(data, 10_000).size == (79, 102)
    with pytest.raises(decoder.Refused, match=r"at most 0\.03 million"):
        decoder.decode(data, 7_500)
    webp = encoded(picture("RGB"), "WEBP")
    with pytest.raises(decoder.Refused, match=r"at most 0\.01 million"):
        decoder.decode(webp, 10_000)
    floats = encoded(picture("RGB").convert("F"), "TIFF")
    with pytest.raises(decoder.Refused, match=r"TIFF file that cannot be decoded in parts; at most 0\.01"):
        decoder.decode(floats, 10_000)


def test_a_large_png_passes_through_the_decoding_process(tmp_path, monkeypatch):
    """As a user has it: a file of more pixels than the limit is shrunk, and a check does not refuse it."""
    monkeypatch.setenv("WORKBENCH_MAX_MEGAPIXELS", "1")
    path = tmp_path / "large.png"
    Image.new("RGB", (1800, 1500), (200, 30, 90)).save(path)
    opened = decode_picture(path)
    assert (opened.size, opened.getpixel((5, 5))) == ((900, 750), (200, 30, 90))
    assert fault_in_head(path) == ""
    Image.new("RGB", (2300, 2000)).save(path)
    assert "at most 4 million are allowed" in fault_in_head(path)
    with pytest.raises(wb.BadInput, match="at most 4 million are allowed"):
        decode_picture(path)
