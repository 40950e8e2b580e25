"""Decode untrusted pictures safely and reproducibly."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

import workbench as wb

#: Supported file formats. Naming them keeps Pillow from trying its other decoders on hostile bytes.
FORMATS = ("JPEG", "PNG", "WEBP")


#: A picture with more pixels than this is refused before decoding (a 20 KB file can expand to 483 MB).
MAX_PIXELS = 25_000_000


def decode_picture(data: bytes | Path, *, name: str = "") -> Image.Image:
    """Decode a JPEG, PNG or WebP picture to RGB.

    Only the first frame is decoded. It is rotated by its EXIF orientation, composited on white, and stripped
    of metadata.

    Parameters
    ----------
    data : bytes or Path
        The encoded picture, or the file that holds it.
    name : str, optional
        Name of the picture in error messages. Default: the path.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, with an empty ``info``.

    Raises
    ------
    BadInput
        The file is missing, not a picture, broken, or over :data:`MAX_PIXELS`.
    """
    if isinstance(data, Path):
        name = name or str(data)
        try:
            data = data.read_bytes()
        except OSError as error:
            raise wb.BadInput(f"{name}: cannot be read ({error.strerror or type(error).__name__})") from error
    name = name or "the picture"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            # Nothing is decoded yet. Pillow's own warning comes later than this limit, and cannot be turned
            # into an error for a single thread.
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise wb.BadInput(
                    f"{name}: {width} × {height} is {width * height / 1e6:.0f} million pixels; "
                    f"at most {MAX_PIXELS // 10**6} million are allowed",
                    hint="Resize it and try again.",
                )
            upright = ImageOps.exif_transpose(opened)
            return _on_white(upright)
    except wb.BadInput:
        raise
    except UnidentifiedImageError as error:
        raise wb.BadInput(f"{name}: not a picture; supported formats: JPEG, PNG, WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise wb.BadInput(
            f"{name}: too many pixels; at most {MAX_PIXELS // 10**6} million are allowed",
            hint="Resize it and try again.",
        ) from error
    except Exception as error:
        # Broken files make Pillow raise OSError, SyntaxError, ValueError, struct.error, IndexError, ...
        raise wb.BadInput(f"{name}: broken picture ({type(error).__name__}: {error})") from error


def _on_white(picture: Image.Image) -> Image.Image:
    """Return an RGB copy without metadata, transparent parts white."""
    if picture.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255, which makes nearly everything white.
        picture = picture.point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        overlay = picture.convert("RGBA")
        flat = Image.new("RGBA", overlay.size, "white")
        flat.alpha_composite(overlay)
        picture = flat
    rgb = picture.convert("RGB")
    out = rgb.copy() if rgb is picture else rgb
    out.info.clear()
    return out
