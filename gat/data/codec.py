"""Cropped images as bytes, through Pillow.

Crops of photographs at 256 pixels take 90 KiB as lossless WebP (its quickest method), 115 KiB as PNG, 37 KiB as JPEG of
quality 95; ``experiments/benchmark.py data`` measures it, with the rates. torchvision decodes 1.1 to 1.3 times as fast, but
its decoders are deprecated.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gat.errors import UserError, require_choice

FORMATS = ("webp", "png", "jpeg")
NO_SUBSAMPLING = 0


def check_format(image_format: str, quality: int | None) -> None:
    """Raise :class:`UserError` for an unknown format, or a quality that the format cannot have."""
    require_choice("data.image_format", image_format, FORMATS)
    if image_format == "jpeg" and quality is None:
        raise UserError("data.image_format=jpeg is never lossless: set data.image_quality (95, say), or take webp")
    if image_format == "png" and quality is not None:
        raise UserError(f"data.image_format=png is always lossless: set data.image_quality=null, not {quality}")


def encode_image(pixels: NDArray[np.uint8], image_format: str, quality: int | None) -> bytes:
    """(P, P, 3) uint8 -> the bytes of an image file; lossless where ``quality`` is None."""
    settings: dict[str, Any] = {"quality": quality}
    if image_format == "jpeg":
        settings["subsampling"] = NO_SUBSAMPLING
    elif quality is None:
        settings = {"lossless": True, "method": 0, "quality": 0} if image_format == "webp" else {"compress_level": 1}
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, image_format, **settings)
    return stream.getvalue()


def decode_image(encoded: bytes | memoryview, side_px: int) -> NDArray[np.uint8]:
    """The bytes of an image file -> (P, P, 3) uint8. ValueError for bytes that are no colour image of that side."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError("no readable image file") from error
    if pixels.shape != (side_px, side_px, 3):
        raise ValueError(f"{pixels.shape}, not {(side_px, side_px, 3)}")
    return pixels
