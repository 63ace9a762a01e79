"""Pixels: ADM's centre crop, and the conversions between uint8 images and the range [-1, 1] of autoencoders."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def center_crop(image: Image.Image, side_px: int) -> NDArray[np.uint8]:
    """ADM's centre crop: halve by box filter while at least twice too large, then bicubic, then crop. (side, side, 3)."""
    while min(image.size) >= 2 * side_px:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side_px / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    top, left = (pixels.shape[0] - side_px) // 2, (pixels.shape[1] - side_px) // 2
    return pixels[top : top + side_px, left : left + side_px]


def to_signed(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """uint8 images (B, H, W, 3) -> float (B, 3, H, W) in [-1, 1]."""
    pixels = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: Tensor, conversion: str = "rounded") -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] -> uint8 (B, 3, H, W).

    ``rounded``: 127.5 x + 128, truncated (the release in training). ``truncated``: 255 (x + 1) / 2, truncated (its sampler),
    half a grey level darker on average.
    """
    if conversion == "truncated":
        return ((images.float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
    return (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
