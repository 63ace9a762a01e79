"""The source's images as centre crops: in batches for the parts, singly for the tiny autoencoder's training.

Shapes: n images, P image side in pixels, C latent channels, H latent side.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gat.config import DataConfig
from gat.data.claims import part_of
from gat.data.codec import encode_image
from gat.data.folder import CorruptImageError
from gat.data.images import center_crop
from gat.data.repa import RepaSource
from gat.data.sources import ImageSource
from gat.errors import UserError


class Batch(NamedTuple):
    """What the workers hand over: crops (n, P, P, 3), the same as files, their rows in the source, and reading errors.

    ``moments`` (n, 2C, H, H) where the source has them already.
    """

    part: int
    pixels: Tensor
    encoded: list[bytes]
    rows: list[int]
    errors: list[str]
    upscaled: int
    moments: Tensor | None


class RowsToBatch(Dataset[Batch]):
    """Batches of the source's crops, by lists of rows."""

    def __init__(self, source: ImageSource, data: DataConfig) -> None:
        self.source, self.data = source, data

    def __getitem__(self, rows: list[int]) -> Batch:
        crops: dict[int, NDArray[np.uint8]] = {}
        given: list[Tensor] = []
        errors, upscaled = [], 0
        for row in rows:
            try:
                crop, enlarged = crop_of(self.source, row, self.data.resolution_px)
                if isinstance(self.source, RepaSource):
                    given.append(torch.from_numpy(self.source.moments(row)))
            except CorruptImageError as error:
                errors.append(str(error))
                continue
            crops[row] = crop
            upscaled += enlarged
        encoded = [encode_image(crop, self.data.image_format, self.data.image_quality) for crop in crops.values()]
        pixels = torch.from_numpy(np.stack(list(crops.values()))) if crops else torch.empty(0)
        moments = torch.stack(given) if given else None
        return Batch(part_of(rows[0]), pixels, encoded, list(crops), errors, upscaled, moments)


class TrainingImages:
    """The source's crops for the tiny autoencoder.

    If corrupt images are to be skipped, the next one stands in for one that cannot be read. Raises :class:`UserError` if not.
    """

    def __init__(self, source: ImageSource, data: DataConfig) -> None:
        self.source, self.data = source, data

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Crops (n, P, P, 3) of ``rows`` (n,)."""
        return np.stack([self._readable(int(row)) for row in rows])

    def _all_errors(self) -> list[str]:
        errors = []
        for row in range(len(self)):
            try:
                crop_of(self.source, row, self.data.resolution_px)
            except CorruptImageError as error:
                errors.append(str(error))
        return errors

    def _readable(self, row: int) -> NDArray[np.uint8]:
        for other in range(len(self)):
            try:
                return crop_of(self.source, (row + other) % len(self), self.data.resolution_px)[0]
            except CorruptImageError as error:
                if self.data.on_corrupt == "error":
                    raise UserError(corrupt_message(self._all_errors(), len(self))) from error
        raise UserError(f"{self.source.name}: no image can be read: is this the right folder?")


def crop_of(source: ImageSource, row: int, side_px: int) -> tuple[NDArray[np.uint8], bool]:
    """Centre crop (P, P, 3) of an image, and whether it was enlarged for that.

    :class:`CorruptImageError` if it cannot be read, or is so narrow that enlarged it would pass Pillow's limit of pixels.
    """
    image = source.image(row)
    width, height = image.size
    scale = side_px / min(width, height)
    if scale > 1 and width * height * scale**2 > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise CorruptImageError(f"image {row} of {source.name}: {width} x {height} pixels, too narrow to be enlarged")
    return center_crop(image, side_px), scale > 1


def corrupt_message(errors: list[str], count: int) -> str:
    """What is told of ``errors`` among ``count`` images."""
    return (
        f"{len(errors)} of {count} images are corrupt, first: {errors[0]}. Mend them where they are, or set "
        "data.on_corrupt=skip"
    )
