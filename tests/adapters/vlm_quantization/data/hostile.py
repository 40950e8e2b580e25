"""Pictures made to keep a decoder busy, to eat memory, or to crash it; and files that only look broken."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


# --- JPEG ---------------------------------------------------------------------------------------------------


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2) + data


def with_segments(extra: bytes) -> bytes:
    """A small picture with segments after its first marker."""
    data = encoded(noise(16, 16), "JPEG")
    return data[:2] + extra + data[2:]


def exif_segments(count: int = 1_500_000) -> bytes:
    """19 MB of tiny Exif segments, which Pillow joins one by one."""
    return with_segments(segment(0xE1, b"Exif\0\0II*\0") * min(count, 19 * 2**20 // 14))


def app_segments(count: int = 1_500_000) -> bytes:
    return with_segments(segment(0xEB, b"x") * count)


def comment_segments(count: int = 200_000) -> bytes:
    return with_segments(segment(0xFE, b"hello") * count)


def progressive_scans(count: int = 12_000, side: int = 5_000) -> bytes:
    """A progressive picture of 25 million pixels, with empty scans that refine nothing."""
    data = encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True, quality=20)
    # Runs of empty blocks, of 2**n to 2**(n + 1) - 1 blocks each: fifteen codes of four bits.
    table = segment(0xC4, bytes([0x10, 0, 0, 0, 15, *([0] * 12), *(n << 4 for n in range(15))]))
    left, bits = ((side + 7) // 8) ** 2, ""
    while left:
        n = min(left.bit_length() - 1, 14)
        run = min(left, (2 << n) - 1)
        bits += format(n, "04b") + (format(run - (1 << n), f"0{n}b") if n else "")
        left -= run
    scan = segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0x00]))
    body = int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8))
    empty = scan + body.replace(b"\xff", b"\xff\0")
    return data[:-2] + table + empty * count + b"\xff\xd9"


def exif_bomb() -> bytes:
    """One Exif segment whose directories say that they have thousands of entries."""
    entries = b"".join(struct.pack("<HHII", tag, 7, 0xFFFFFFF0, 8) for tag in range(1, 5_000))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 4_999) + entries + b"\0\0\0\0"
    return with_segments(segment(0xE1, b"Exif\0\0" + tiff[:65_000]))


# --- PNG and WebP -------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(extra: bytes, before: bytes = b"IDAT") -> bytes:
    data = encoded(noise(16, 16))
    at = data.index(before) - 4
    return data[:at] + extra + data[at:]


def png_chunks() -> bytes:
    """19 MB of empty chunks."""
    return png_with(chunk(b"prVt") * (19 * 2**20 // 12))


def png_data_chunks() -> bytes:
    return png_with(chunk(b"IDAT") * (19 * 2**20 // 12))


def text_bombs(count: int = 1_500) -> bytes:
    """Compressed texts of nearly 1 MB each."""
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 1_000_000, 9))
    return png_with(bomb * count)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG that says that it is large, and nearly is: its rows are zeros, compressed."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes(width * 3 + 1) * min(height, 200))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND")


def webp_frames() -> bytes:
    """A WebP file of two million empty chunks."""
    body = b"WEBP" + encoded(noise(16, 16), "WEBP")[12:] + b"JUNK\0\0\0\0" * 2_000_000
    return b"RIFF" + struct.pack("<I", len(body)) + body


#: What is refused, and a word of the reason.
HOSTILE: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "12,000 progressive scans": (progressive_scans, "scans"),
    "1.5 million Exif segments": (exif_segments, "segments"),
    "1.5 million application segments": (app_segments, "segments"),
    "200,000 comments": (comment_segments, "segments"),
    "19 MB of chunks": (png_chunks, "chunks"),
    "19 MB of empty data chunks": (png_data_chunks, "chunks"),
    "two million WebP chunks": (webp_frames, "chunks"),
    "900 million pixels": (lambda: png_bomb(30_000, 30_000), "at most 100 million"),
    "4 billion pixels": (lambda: png_bomb(65_500, 65_500), "at most 100 million"),
}


# --- files that look broken and are not ---------------------------------------------------------------------


def without_end() -> bytes:
    """A JPEG without its end marker."""
    return encoded(noise(64, 48), "JPEG", quality=90)[:-2]


def large_text() -> bytes:
    """A PNG with a text of 3 MB."""
    return png_with(chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"prompt " * 450_000)))
