"""Bytes or a file to an RGB picture, or an ImageError that says what to do.

The content decides the format, never the file's name. Pillow does the decoding; what can be
refused from the header (too many pixels, not a picture) is refused before a pixel is decoded.
"""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

# Importing a plugin registers its format with Pillow; asking for a format that is not registered
# would make Pillow import every plugin it has.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from rekindle import _config, _log
from rekindle._errors import ImageError, NotFoundError

Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""(H, W, 3) uint8, RGB."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is tried, in this order. Formats that start other programs (EPS) are left out."""

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""File names that are taken for pictures when a folder is listed."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, tag 0x0112: what makes a stored picture upright; 1 (or absent) is upright."""


def decode(source: Path | str | bytes) -> Picture:
    """The picture in a file or in bytes: (H, W, 3) uint8, RGB, upright.

    EXIF orientation is applied; transparency is laid on white; 16-bit gray becomes 8-bit by
    value/257; an animation gives its first frame; colour profiles are ignored. More than
    REKINDLE_MAX_PIXELS pixels are refused from the header alone.

    Raises NotFoundError for a missing file and ImageError for everything that is no usable
    picture: another format, a truncated or damaged file, a single pixel, a folder.
    """
    label = "the picture" if isinstance(source, bytes) else str(source)
    with ExitStack() as stack:
        stream = _stream(source, label, stack)
        image = stack.enter_context(_open(stream, label))
        _check_size(image.width, image.height, label)
        try:
            image.load()
            return _rgb(_upright(image), label)
        except ImageError:
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything
            raise ImageError(
                f"{label}: the {image.format} picture is damaged or cut off ({error})",
                hint="copy or export it again; other programs may show the part that is there",
            ) from error


def _stream(source: Path | str | bytes, label: str, stack: ExitStack) -> IO[bytes]:
    if isinstance(source, bytes):
        stream: IO[bytes] = io.BytesIO(source)
    else:
        path = Path(source)
        if path.is_dir():
            raise ImageError(f"{label} is a folder, not a picture", hint="name a picture file")
        try:
            stream = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            raise NotFoundError(f"{label}: no such file", hint="check the path") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(
                f"{label} cannot be read: {reason}", hint="check the file's permissions"
            ) from error
    return stream


def _open(stream: IO[bytes], label: str) -> ImageFile.ImageFile:
    """The picture's header. Pillow's own pixel limit is not used: it is a global of the process."""
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"{label} is empty (0 bytes)", hint="copy or download it again")
    problem: Exception | None = None
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is not True:
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except Exception as error:  # a damaged header raises nearly anything
            problem = error
    if problem is not None:
        raise ImageError(
            f"{label}: the picture's header is damaged ({problem})", hint="copy or export it again"
        ) from problem
    raise ImageError(
        f"{label} is not a picture Rekindle reads; it begins with {prefix[:8]!r}",
        hint=f"export it as JPEG or PNG; formats: {', '.join(FORMATS)}",
    )


def _check_size(width: int, height: int, label: str) -> None:
    limit = _config.max_pixels()
    if width * height > limit:
        raise ImageError(
            f"{label} has {width}x{height} = {width * height:,} pixels; the limit is {limit:,}",
            hint="shrink it, or set REKINDLE_MAX_PIXELS higher if you trust the file",
        )
    if width * height <= 1:
        raise ImageError(
            f"{label} is {width}x{height}: there is nothing to see in one pixel",
            hint="use a picture at least a few pixels wide",
        )


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says. Unreadable EXIF counts as none: the pixels are still good."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:  # EXIF is a TIFF inside the file: anything may be broken in it
        _log.debug(1, "EXIF could not be read, picture taken as upright: %s", error)
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image, label: str) -> Picture:
    if image.mode.startswith("I"):
        return _gray16(np.asarray(image), label)
    if image.mode == "F":
        raise ImageError(
            f"{label} holds floating point pixels, which have no agreed range",
            hint="save it with 8 or 16 bits per channel",
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba)
    return np.array(image.convert("RGB"))


def _gray16(values: np.ndarray[Any, np.dtype[Any]], label: str) -> Picture:
    """16-bit gray (H, W) to RGB: 65535 / 257 is exactly 255."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"{label} holds 32-bit pixels from {low} to {high}, which have no agreed range",
            hint="save it with 8 or 16 bits per channel",
        )
    gray = (values.astype(np.uint32) + 128) // 257
    return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
