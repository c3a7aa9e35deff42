"""Pictures of every kind decode to what an independent reading says; the rest is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rekindle._errors import ImageError, NotFoundError, RekindleError
from rekindle.images import decode

RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
SMOOTH = np.stack(np.meshgrid(np.arange(48) * 5, np.arange(64) * 3), -1).astype(np.uint8)
SMOOTH = np.concatenate([SMOOTH, np.full((64, 48, 1), 90, np.uint8)], 2)


def png(
    rows: bytes, width: int, height: int, *, depth: int, kind: int, extra: bytes = b""
) -> bytes:
    """A PNG written from the specification (W3C PNG, 3rd edition), without Pillow."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    stride = len(rows) // height if height else 0
    filtered = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    if len(rows) < height:  # a bomb: the pixels are not there
        filtered = b""
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(filtered))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_same_pixels(kind: str) -> None:
    decoded = decode(saved(Image.fromarray(PICTURE), kind))
    assert decoded.dtype == np.uint8
    assert decoded.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(decoded, PICTURE)


def test_lossless_webp_gives_the_same_pixels() -> None:
    np.testing.assert_array_equal(
        decode(saved(Image.fromarray(PICTURE), "WEBP", lossless=True, exact=True)), PICTURE
    )


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(kind: str) -> None:
    decoded = decode(saved(Image.fromarray(SMOOTH), kind, quality=95))
    assert decoded.shape == SMOOTH.shape
    assert np.abs(decoded.astype(int) - SMOOTH).mean() < 3


def test_a_png_written_by_the_specification() -> None:
    np.testing.assert_array_equal(decode(png(PICTURE.tobytes(), 7, 5, depth=8, kind=2)), PICTURE)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really.jpg"
    path.write_bytes(saved(Image.fromarray(PICTURE), "PNG"))
    np.testing.assert_array_equal(decode(path), PICTURE)
    np.testing.assert_array_equal(decode(str(path)), PICTURE)


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF 2.32: which side of the stored picture row 0 and column 0 of the scene are."""
    turned = stored.transpose(1, 0, 2) if orientation >= 5 else stored
    rows = orientation in (3, 4, 7, 8)
    columns = orientation in (2, 3, 6, 7)
    return turned[:: -1 if rows else 1, :: -1 if columns else 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(saved(Image.fromarray(PICTURE), "PNG", exif=exif))
    np.testing.assert_array_equal(decoded, upright(PICTURE, orientation))


def test_a_jpeg_turned_by_its_camera_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(saved(Image.fromarray(SMOOTH), "JPEG", exif=exif, quality=95))
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded.astype(int) - np.rot90(SMOOTH, -1)).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_leaves_the_picture_as_it_is() -> None:
    data = saved(Image.fromarray(SMOOTH), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode(data).shape == SMOOTH.shape


def test_gray_and_bilevel() -> None:
    gray = PICTURE[:, :, 0]
    decoded = decode(saved(Image.fromarray(gray), "PNG"))
    np.testing.assert_array_equal(decoded, np.repeat(gray[:, :, None], 3, 2))
    decoded = decode(saved(Image.fromarray(gray > 127), "PNG"))
    np.testing.assert_array_equal(
        decoded, np.repeat((gray > 127)[:, :, None] * np.uint8(255), 3, 2)
    )


def test_sixteen_bit_gray_is_scaled_not_cut() -> None:
    values = np.array([[0, 1, 128, 129, 257, 32767], [32768, 65278, 65406, 65407, 65534, 65535]])
    data = png(values.astype(">u2").tobytes(), 6, 2, depth=16, kind=0)
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(data), np.repeat(expected[:, :, None], 3, 2))


def test_sixteen_bit_tiff_and_pgm() -> None:
    values = np.arange(0, 65536, 2731, dtype=np.uint16).reshape(4, 6)
    expected = np.repeat(np.round(values / 257).astype(np.uint8)[:, :, None], 3, 2)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(values), "TIFF")), expected)
    pgm = b"P5 6 4 65535\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(pgm), expected)


def test_sixteen_bit_colour() -> None:
    values = RNG.integers(0, 65536, (3, 4, 3))
    decoded = decode(png(values.astype(">u2").tobytes(), 4, 3, depth=16, kind=2))
    assert np.abs(decoded - values / 257).max() <= 1


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return color * share + 255 * (1 - share)


def test_alpha_is_laid_on_white() -> None:
    alpha = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    alpha[0, :2] = 0, 255
    data = png(np.dstack([PICTURE, alpha]).tobytes(), 7, 5, depth=8, kind=6)
    decoded = decode(data)
    assert np.abs(decoded - over_white(PICTURE, alpha)).max() <= 1
    np.testing.assert_array_equal(decoded[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(decoded[0, 1], PICTURE[0, 1])


def test_gray_with_alpha() -> None:
    gray, alpha = PICTURE[:, :, 0], PICTURE[:, :, 1]
    decoded = decode(png(np.dstack([gray, alpha]).tobytes(), 7, 5, depth=8, kind=4))
    assert np.abs(decoded - over_white(np.repeat(gray[..., None], 3, 2), alpha)).max() <= 1


def test_palette_with_and_without_a_transparent_entry() -> None:
    indices = RNG.integers(0, 4, (6, 6), dtype=np.uint8)
    palette = RNG.integers(0, 256, (4, 3), dtype=np.uint8)
    image = Image.fromarray(indices).convert("L")
    image = Image.frombytes("P", (6, 6), indices.tobytes())
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decode(saved(image, "PNG")), palette[indices])
    palette[2] = 255
    np.testing.assert_array_equal(decode(saved(image, "PNG", transparency=2)), palette[indices])


def test_cmyk_jpeg() -> None:
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    decoded = decode(saved(cmyk, "JPEG", quality=95))
    assert np.abs(decoded.astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data), np.full((8, 8, 3), [255, 0, 0]))


def test_a_bomb_is_refused_from_its_header() -> None:
    with pytest.raises(ImageError, match=r"20000x20000 = 400,000,000 pixels; the limit is 100,0"):
        decode(png(b"", 20_000, 20_000, depth=8, kind=2))


def test_the_limit_can_be_set_and_even_above_the_one_of_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REKINDLE_MAX_PIXELS", "34")
    with pytest.raises(ImageError, match="set REKINDLE_MAX_PIXELS higher"):
        decode(saved(Image.fromarray(PICTURE), "PNG"))
    monkeypatch.setenv("REKINDLE_MAX_PIXELS", "35")
    assert decode(saved(Image.fromarray(PICTURE), "PNG")).shape == PICTURE.shape
    monkeypatch.setenv("REKINDLE_MAX_PIXELS", "1000000000")
    with pytest.raises(ImageError, match="damaged or cut off"):  # past the limit: pixels missing
        decode(png(b"", 15_000, 15_000, depth=1, kind=0))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.97, 0.5])
def test_a_cut_off_picture_is_an_error_and_not_a_gray_one(kind: str, share: float) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(ImageError, match=r"damaged|cut off"):
        decode(data[: int(len(data) * share)])


def test_a_cut_off_progressive_jpeg() -> None:
    data = saved(Image.fromarray(SMOOTH), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="cut off"):
        decode(data[: len(data) * 3 // 4])


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("I am a cat")
    with pytest.raises(ImageError, match=r"empty\.png is empty \(0 bytes\)"):
        decode(tmp_path / "empty.png")
    with pytest.raises(ImageError, match=r"begins with b'I am a c' \(export it as JPEG or"):
        decode(tmp_path / "text.png")
    with pytest.raises(ImageError, match="is a folder, not a picture"):
        decode(tmp_path)
    with pytest.raises(NotFoundError, match="no such file"):
        decode(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="cannot be read"):
        decode("nul\0byte.png")
    with pytest.raises(ImageError, match="1x1: there is nothing to see"):
        decode(saved(Image.new("RGB", (1, 1)), "PNG"))
    with pytest.raises(ImageError, match="header is damaged"):
        decode(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)


def test_pixels_without_a_range_are_refused() -> None:
    with pytest.raises(ImageError, match="floating point"):
        decode(saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    with pytest.raises(ImageError, match=r"32-bit pixels from -5 to 70000"):
        decode(saved(Image.fromarray(np.array([[-5, 70000]], np.int32)), "TIFF"))


SEEDS = [
    saved(Image.fromarray(SMOOTH), "JPEG"),
    saved(Image.fromarray(PICTURE), "PNG"),
    saved(Image.fromarray(SMOOTH), "WEBP"),
    saved(Image.fromarray(PICTURE), "GIF"),
    saved(Image.fromarray(PICTURE), "TIFF", compression="tiff_lzw"),
    saved(Image.fromarray(PICTURE), "BMP"),
]


@pytest.mark.filterwarnings("ignore")  # what Pillow has to say about damaged files
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0.02, 1),
)
def test_mutated_files_raise_nothing_but_our_errors(
    seed: bytes, edits: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(seed)
    for place, value in edits:
        data[min(int(place * len(data)), len(data) - 1)] = value
    try:
        decoded = decode(bytes(data[: max(1, int(keep * len(data)))]))
    except RekindleError:
        return
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3
