"""Shrink large PNG and TIFF pictures strip by strip, so that they are never held whole.

Pillow decodes a picture whole. The rows of a PNG are compressed as one stream, but can be decompressed a few
at a time: those rows, below the last row before them, are a small PNG of their own. The strips and tiles of a
TIFF are compressed one by one: each is a small TIFF of its own. So Pillow decodes small pictures, which are
shrunk and put in their place.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from PIL import Image

#: Decoded bytes of one strip, at least a few rows.
STRIP_BYTES = 2**23


#: A strip or tile of a TIFF with more decoded bytes than this cannot be cut, so it is not shrunk in parts.
MAX_PART_BYTES = 2**27


_SIGNATURE = b"\x89PNG\r\n\x1a\n"


#: Samples per pixel of each colour type of PNG.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


#: The colour type of 8 bits whose pixels have so many bytes.
_AS_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}


#: Compressions of TIFF whose parts stand alone: none, LZW, deflate (two numbers), PackBits, JPEG, Zstandard.
_ALONE = frozenset({1, 5, 8, 32946, 32773, 7, 50000})


#: A part of a picture: its left and upper edge, and the part.
Part = tuple[int, int, Image.Image]


def can_shrink_png(start: bytes) -> bool:
    """Return whether a PNG that starts so can be shrunk: not interlaced, pixels of at most four bytes."""
    if len(start) < 29 or not start.startswith(_SIGNATURE):
        return False
    depth, colour, _, _, interlace = start[24:29]
    return interlace == 0 and _SAMPLES.get(colour, 9) * depth <= 32 and (depth <= 8 or colour == 0)


def shrunk(
    data: bytes, opened: Image.Image, scale: int, flatten: Callable[[Image.Image], Image.Image]
) -> Image.Image | None:
    """Return a picture at a part of its size, decoded in strips; None if its file does not allow that.

    Parameters
    ----------
    data : bytes
        The file.
    opened : PIL.Image.Image
        The same, opened and not loaded.
    scale : int
        One pixel is the mean of ``scale`` × ``scale``.
    flatten : callable
        Makes a part RGB.

    Returns
    -------
    PIL.Image.Image or None
        RGB, of the size divided by ``scale`` and rounded up.

    Raises
    ------
    ValueError, OSError, zlib.error
        The file is broken.
    """
    parts: Iterator[Part] | None = None
    if opened.format == "PNG" and can_shrink_png(data[:32]):
        parts = _png_parts(data, scale)
    elif opened.format == "TIFF":
        parts = _tiff_parts(data, opened, scale)
    if parts is None:
        return None
    width, height = opened.size
    out = Image.new("RGB", (-(-width // scale), -(-height // scale)), "white")
    for left, top, part in parts:
        part = part.crop((0, 0, min(part.width, width - left), min(part.height, height - top)))
        out.paste(flatten(part).reduce(scale), (left // scale, top // scale))
    return out


def orientation(data: bytes, opened: Image.Image) -> int:
    """Return which way is up by EXIF, 1 to 8, without decoding the picture, which Pillow would for a PNG."""
    if opened.format == "PNG":
        exif = _small_chunks(data).get(b"eXIf")
        if exif is not None:
            opened.info.setdefault("exif", b"Exif\0\0" + exif)
        return int(Image.Image.getexif(opened).get(0x0112, 1))
    return int(opened.getexif().get(0x0112, 1))


# --- PNG ----------------------------------------------------------------------------------------------------


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, depth: int, colour: int, rows: bytes, more: bytes = b"") -> Image.Image:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = _chunk(b"IHDR", head) + more + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b"")
    picture = Image.open(io.BytesIO(_SIGNATURE + body), formats=("PNG",))
    picture.load()
    return picture


def _png_parts(data: bytes, scale: int) -> Iterator[Part]:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    bits = _SAMPLES[colour] * depth
    row_bytes, pixel_bytes = -(-width * bits // 8), max(bits // 8, 1)
    stride = row_bytes + 1
    small = _small_chunks(data)
    more = b"".join(_chunk(name, small[name]) for name in (b"PLTE", b"tRNS") if name in small)
    whole = depth == 8 and colour != 3 and b"tRNS" not in small
    count = max(STRIP_BYTES // stride // scale, 1) * scale
    stream = _pixels(data)
    before, buffer = bytes(row_bytes), bytearray()
    for top in range(0, height, count):
        rows = min(count, height - top)
        while len(buffer) < rows * stride:
            piece = next(stream, b"")
            if not piece:
                raise ValueError("image file is truncated")
            buffer += piece
        filtered = bytes(buffer[: rows * stride])
        del buffer[: rows * stride]
        # Undo the filters: bytes of pixels of this size, below the row before.
        strip = _png(
            row_bytes // pixel_bytes, rows + 1, 8, _AS_COLOUR[pixel_bytes], b"\0" + before + filtered
        ).crop((0, 1, row_bytes // pixel_bytes, rows + 1))
        if whole and top + rows == height:
            yield 0, top, strip
            return
        plain = strip.tobytes()
        before = plain[-row_bytes:]
        if not whole:
            lines = (plain[at : at + row_bytes] for at in range(0, len(plain), row_bytes))
            strip = _png(width, rows, depth, colour, b"".join(b"\0" + line for line in lines), more)
        yield 0, top, strip


def _small_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG that are needed beside its pixels, by name."""
    wanted = (b"PLTE", b"tRNS", b"eXIf")
    return dict(_chunks(data, wanted))


def _chunks(data: bytes, wanted: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield some chunks of a PNG, checked, up to its end."""
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name in wanted:
            body = data[at + 8 : at + 8 + size]
            (code,) = struct.unpack_from(">I", data, at + 8 + size)
            if zlib.crc32(body, zlib.crc32(name)) != code:
                raise ValueError(f"wrong checksum of a {name.decode()} chunk")
            yield name, body
        if name == b"IEND":
            return
        at += size + 12


def _pixels(data: bytes) -> Iterator[bytes]:
    """Yield the decompressed rows of a PNG in pieces of bounded size."""
    stream = zlib.decompressobj()
    for _, body in _chunks(data, (b"IDAT",)):
        rest = body
        while rest and not stream.eof:
            if piece := stream.decompress(rest, 2**20):
                yield piece
            rest = stream.unconsumed_tail


# --- TIFF ---------------------------------------------------------------------------------------------------

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES_PER_PIXEL = 256, 257, 258, 259, 273, 277
_ROWS_PER_STRIP, _COUNTS, _PLANES, _TILE_WIDTH, _TILE_LENGTH = 278, 279, 284, 322, 323
_TILE_OFFSETS, _TILE_COUNTS, _ORIENTATION, _SUBIFD, _EXIF, _GPS = 324, 325, 274, 330, 34665, 34853


#: Tags that say where the parts are.
_PLACES = (_OFFSETS, _COUNTS, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS)


def _tiff_parts(data: bytes, opened: Any, scale: int) -> Iterator[Part] | None:
    """Return the parts of a TIFF, or None if it is not made of parts that stand alone."""
    tags = opened.tag_v2
    bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES_PER_PIXEL, 1)
    compression = tags.get(_COMPRESSION, 1)
    if opened.mode in ("I", "F") or compression not in _ALONE or tags.get(_PLANES, 1) != 1:
        return None
    width, height = tags[_WIDTH], tags[_LENGTH]
    row_bits = sum(bits) if len(bits) == samples else bits[0] * samples
    if _TILE_OFFSETS in tags:
        across, down = tags[_TILE_WIDTH], tags[_TILE_LENGTH]
        offsets, counts = tags[_TILE_OFFSETS], tags[_TILE_COUNTS]
    else:
        across, down = width, min(tags.get(_ROWS_PER_STRIP, height), height)
        offsets, counts = tags[_OFFSETS], tags[_COUNTS]
    stride = -(-across * row_bits // 8)
    if compression == 1 and _TILE_OFFSETS not in tags and len(offsets) == 1:
        # Uncompressed rows follow each other: they may be cut anywhere.
        down = max(STRIP_BYTES // stride // scale, 1) * scale
        starts = range(0, height, down)
        offsets = [offsets[0] + top * stride for top in starts]
        counts = [min(down, height - top) * stride for top in starts]
    in_step = across % scale == 0 or across >= width
    if (down % scale and down < height) or not in_step or stride * down > MAX_PART_BYTES:
        return _joined_strips(data, opened, scale, offsets, counts, down, stride) if across >= width else None
    return _tiff_each(data, opened, offsets, counts, across, down)


def _tiff_each(data: bytes, opened: Any, offsets: Any, counts: Any, across: int, down: int) -> Iterator[Part]:
    columns = -(-opened.tag_v2[_WIDTH] // across)
    for place, (offset, size) in enumerate(zip(offsets, counts, strict=True)):
        left, top = place % columns * across, place // columns * down
        rows = down if _TILE_OFFSETS in opened.tag_v2 else min(down, opened.tag_v2[_LENGTH] - top)
        yield left, top, _tiff(data, opened, offset, size, across, rows)


def _joined_strips(
    data: bytes, opened: Any, scale: int, offsets: Any, counts: Any, down: int, stride: int
) -> Iterator[Part] | None:
    """Return parts of several strips each, where one has no whole number of shrunk rows."""
    if stride * down > MAX_PART_BYTES:
        return None

    def parts() -> Iterator[Part]:
        width, height = opened.tag_v2[_WIDTH], opened.tag_v2[_LENGTH]
        waiting: Image.Image | None = None
        top = done = 0
        for offset, size in zip(offsets, counts, strict=True):
            rows = min(down, height - done)
            strip = _tiff(data, opened, offset, size, width, rows)
            done += rows
            if waiting is not None:
                both = Image.new(strip.mode, (width, waiting.height + rows))
                both.paste(waiting, (0, 0))
                both.paste(strip, (0, waiting.height))
                if strip.mode == "P" and (palette := strip.getpalette()):
                    both.putpalette(palette)
                strip = both
            ready = strip.height if done >= height else strip.height // scale * scale
            waiting = strip.crop((0, ready, width, strip.height)) if ready < strip.height else None
            if ready:
                yield 0, top, strip.crop((0, 0, width, ready)) if waiting is not None else strip
                top += ready

    return parts()


def _tiff(data: bytes, opened: Any, offset: int, size: int, width: int, height: int) -> Image.Image:
    """Return one strip or tile as a picture, from a TIFF of its own."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    body = data[offset : offset + size]
    if len(body) < size:
        raise ValueError("image file is truncated")
    tags = opened.tag_v2
    own = ImageFileDirectory_v2(prefix=tags.prefix)
    left_out = (*_PLACES, _ORIENTATION, _SUBIFD, _EXIF, _GPS)
    for tag in tags:
        # Descriptions and profiles, which may be long, are not needed for pixels.
        if tag not in left_out and (tag < 700 or tag in (34675,)) and tag not in (270, 305, 306, 315):
            own.tagtype[tag] = tags.tagtype[tag]
            own[tag] = tags[tag]
    for tag, value in (
        (_WIDTH, width),
        (_LENGTH, height),
        (_ROWS_PER_STRIP, height),
        (_OFFSETS, (0,)),
        (_COUNTS, (size,)),
    ):
        own.tagtype[tag] = 4
        own[tag] = value
    file = io.BytesIO()
    own.save(file)
    file.write(body)
    file.seek(0)
    picture = Image.open(file, formats=("TIFF",))
    picture.load()
    return picture
