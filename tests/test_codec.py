"""Images as bytes: lossless where that is said, close where it is not, and every setting that cannot be."""

import io
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin
from sklearn.datasets import load_sample_image

from gat.data.codec import check_format, decode_image, encode_image
from gat.data.images import center_crop
from gat.errors import UserError

PX = 64
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return center_crop(Image.fromarray(load_sample_image("china.jpg")), PX)


def round_trip(pixels: Pixels, image_format: str, quality: int | None) -> Pixels:
    return decode_image(encode_image(pixels, image_format, quality), len(pixels))


def rms_error(pixels: Pixels, image_format: str, quality: int | None) -> float:
    error = round_trip(pixels, image_format, quality).astype(float) - pixels
    return float(np.sqrt((error**2).mean()))


# lossless


@pytest.mark.parametrize("image_format", ["webp", "png"])
def test_lossless_bit_by_bit(image_format: str, photo: Pixels) -> None:
    """Also where encoders are tempted: noise, one colour, grey, and all 256 values of each channel side by side."""
    noise = np.random.default_rng(0).integers(0, 256, (PX, PX, 3), np.uint8)
    levels = np.arange(PX * PX).reshape(PX, PX, 1) + np.array([0, 85, 170])
    flat = np.full((PX, PX, 3), (1, 128, 254), np.uint8)
    grey = photo[:, :, :1].repeat(3, axis=2)
    for pixels in (photo, noise, (levels % 256).astype(np.uint8), flat, grey, np.zeros_like(flat)):
        assert np.array_equal(round_trip(pixels, image_format, None), pixels)


@pytest.mark.parametrize("image_format", ["webp", "png"])
def test_one_pixel_alone(image_format: str) -> None:
    pixels = np.array([[[255, 0, 7]]], np.uint8)
    assert np.array_equal(round_trip(pixels, image_format, None), pixels)


# lossy


@pytest.mark.parametrize(("image_format", "least"), [("jpeg", 4), ("webp", 7)])  # webp halves the colours' resolution
def test_quality_trades_size_for_error(image_format: str, least: float, photo: Pixels) -> None:
    qualities = (20, 60, 95)
    sizes = [len(encode_image(photo, image_format, quality)) for quality in qualities]
    errors = [rms_error(photo, image_format, quality) for quality in qualities]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert sizes[0] < sizes[2] / 2
    assert 0 < errors[2] < least < errors[0]  # of 255


def test_sizes_of_a_photograph(photo: Pixels) -> None:
    jpeg = len(encode_image(photo, "jpeg", 95))
    webp, png = (len(encode_image(photo, image_format, None)) for image_format in ("webp", "png"))
    assert jpeg < webp < png < photo.size


def test_jpeg_keeps_colours_at_full_resolution(photo: Pixels) -> None:
    image = Image.open(io.BytesIO(encode_image(photo, "jpeg", 95)))
    assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


# decoding


def test_bytes_from_memory(photo: Pixels) -> None:
    decoded = decode_image(memoryview(encode_image(photo, "webp", None)), PX)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, photo)


@pytest.mark.parametrize("image_format", ["webp", "png", "jpeg"])
def test_damaged_files(image_format: str, photo: Pixels) -> None:
    whole = encode_image(photo, image_format, 95 if image_format == "jpeg" else None)
    for damaged in (whole[:20], whole[: len(whole) // 2], b"no image" * 10, b""):
        with pytest.raises(ValueError, match="^no readable image file$"):
            decode_image(damaged, PX)


@pytest.mark.parametrize(("mode", "shape"), [("L", (PX, PX)), ("RGBA", (PX, PX, 4)), ("P", (PX, PX))])
def test_files_of_another_mode(mode: str, shape: tuple[int, ...], photo: Pixels) -> None:
    stream = io.BytesIO()
    Image.fromarray(photo).convert(mode).save(stream, "png")
    with pytest.raises(ValueError, match=re.escape(f"{shape}, not {(PX, PX, 3)}")):
        decode_image(stream.getvalue(), PX)


@pytest.mark.parametrize("side_px", [1, PX // 2, 2 * PX])
def test_image_of_another_side(side_px: int, photo: Pixels) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{(PX, PX, 3)}, not {(side_px, side_px, 3)}")):
        decode_image(encode_image(photo, "webp", None), side_px)


# settings


@pytest.mark.parametrize(
    ("image_format", "quality"),
    [("webp", None), ("png", None), ("webp", 1), ("webp", 100), ("jpeg", 1), ("jpeg", 95), ("jpeg", 100)],
)
def test_formats_that_can_be(image_format: str, quality: int | None) -> None:
    check_format(image_format, quality)
    assert decode_image(encode_image(np.zeros((8, 8, 3), np.uint8), image_format, quality), 8).max() <= 2


@pytest.mark.parametrize(
    ("image_format", "quality", "message"),
    [
        ("gif", None, r"data\.image_format='gif' is unknown: choose one of webp, png, jpeg"),
        ("jpeg", None, r"data\.image_format=jpeg is never lossless: set data\.image_quality \(95, say\), or take webp"),
        ("png", 95, r"data\.image_format=png is always lossless: set data\.image_quality=null, not 95"),
    ],
)
def test_formats_that_cannot_be(image_format: str, quality: int | None, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        check_format(image_format, quality)
