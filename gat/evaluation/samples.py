"""The images to measure: a generator's samples, or images from the user (ADM's ``.npz``, a folder of PNGs).

Shapes: n samples, B batch, P image side in pixels.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gat.config import EvaluationConfig
from gat.data.autoencoder import frozen_digest
from gat.errors import UserError, first_line
from gat.evaluation import protocol
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.evaluation.statistics_file import UNREADABLE, images_in
from gat.evaluation.subject import Subject
from gat.files import sha256

PNG = ".png"


class Samples(Protocol):
    """Images to measure."""

    @property
    def labels(self) -> Tensor | None:
        """Requested class of each image (n,), on the CPU; None if classes are unknown."""
        ...

    @property
    def image_px(self) -> int:
        """Side of the images, in pixels."""
        ...

    def batches(self, rows: slice) -> Iterator[Tensor]:
        """Yield the images of ``rows`` as uint8 batches (B, 3, P, P)."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what identifies the images, for JSON."""
        ...

    def rules(self, of: protocol.Protocol) -> protocol.Protocol:
        """Return ``of``, a protocol of generated samples, changed to what is known of these images."""
        ...


class GeneratedSamples:
    """Samples of a generator under the rules of ``config``; ``facts`` identify its weights."""

    def __init__(self, subject: Subject, config: EvaluationConfig, facts: dict[str, Any]) -> None:
        self.subject, self.config, self.generator_facts = subject, config, facts
        self.image_px = subject.image_px
        self.z, self.labels = draw_inputs(config.samples, subject.generator.dims, config.seed, config.labels)

    def batches(self, rows: slice) -> Iterator[Tensor]:
        """Yield the images of ``rows`` as uint8 batches (B, 3, P, P) on the generator's device."""
        subject, config = self.subject, self.config
        return sample_images(
            subject.generator,
            subject.decoder,
            subject.scale,
            self.z[rows],
            self.labels[rows],
            truncation=config.truncation,
            conversion=config.to_uint8,
            batch_size=config.batch_size,
        )

    def facts(self) -> dict[str, Any]:
        """Return what identifies weights, decoder and rules."""
        rules = self.config
        return self.generator_facts | {
            "decoder": [frozen_digest(self.subject.decoder), self.subject.scale],
            "rules": [rules.truncation, rules.to_uint8, rules.labels, rules.samples, rules.seed],
        }

    def rules(self, of: protocol.Protocol) -> protocol.Protocol:
        """Return ``of`` unchanged."""
        return of


class GivenSamples:
    """The first ``count`` images, by file name, of a folder of PNGs, or of ``arr_0`` in ADM's ``.npz``.

    Raises :class:`UserError` if there are fewer, or one is not a square RGB image of the first one's size (PNGs: when read).
    """

    labels = None

    def __init__(self, place: Path, count: int, batch_size: int) -> None:
        if not place.exists():
            raise UserError(f"samples={place}: there is no such file or folder")
        self.place, self.batch_size = place, batch_size
        if place.is_dir():
            self.files = sorted(file for file in place.iterdir() if file.suffix.lower() == PNG)
            there = len(self.files)
            self.image_px = len(self._decoded(self.files[0])) if there else 0
        else:
            self.files = []
            there, self.image_px = self.array.shape[:2]
        if there < 2:
            raise UserError(
                f"samples={place}: holds {there} images, at least 2 are needed: give a folder of PNGs, or an .npz with "
                "images in arr_0"
            )
        if there < count:
            raise UserError(
                f"samples={place}: holds {there} images, fewer than evaluation.samples={count}: give more images, or set "
                f"evaluation.samples={there}"
            )
        self.count = count

    @cached_property
    def array(self) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Open the images (n, P, P, 3) of the ``.npz``."""
        try:
            return images_in(self.place)
        except UNREADABLE as error:
            raise UserError(
                f"samples={self.place}: holds no images ({first_line(error)}): give an .npz with uint8 images (n, P, P, 3) "
                "in arr_0, or a folder of PNGs"
            ) from error

    def _decoded(self, file: Path) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        try:
            with Image.open(file) as image:
                mode, pixels = image.mode, np.array(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{file}: cannot be read as a PNG ({first_line(error)}): remove or replace it") from error
        if mode != "RGB" or pixels.shape[0] != pixels.shape[1]:
            size = f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
            raise UserError(f"{file}: is {mode}, {size}, not a square RGB image: convert or remove it")
        return pixels

    def batches(self, rows: slice) -> Iterator[Tensor]:
        """Yield the images of ``rows`` as uint8 batches (B, 3, P, P) on the CPU."""
        for start in range(rows.start, min(rows.stop, self.count), self.batch_size):
            stop = min(start + self.batch_size, rows.stop, self.count)
            if self.files:
                images = [self._decoded(file) for file in self.files[start:stop]]
                odd = next((i for i, image in enumerate(images) if len(image) != self.image_px), None)
                if odd is not None:
                    raise UserError(
                        f"{self.files[start + odd]}: is {len(images[odd])} pixels wide, the first image {self.image_px}: "
                        "give images of one size"
                    )
                batch = np.stack(images)
            else:
                batch = np.array(self.array[start:stop])
            yield (
                torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
            )  # the memory layout of generated samples, so that sums run in the same order

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the file, or of the folder's images."""
        if not self.files:
            return sha256(self.place)
        return hashlib.sha256("".join(sha256(file) for file in self.files[: self.count]).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """Return what identifies the images: place and digest."""
        return {"samples": str(self.place), "kind": "images", "sha256": self.digest}

    def rules(self, of: protocol.Protocol) -> protocol.Protocol:
        """Return ``of`` with the rules of drawing replaced by ``given``; truncation, also unknown, is recorded as 0."""
        given = protocol.GIVEN
        return replace(of, decoder=given, truncation=0.0, to_uint8=given, labels=given)
