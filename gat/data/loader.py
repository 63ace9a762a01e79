"""Prepared data on the way to training: small sets from memory (the GPU's where they fit), large ones by worker processes.

What a step gets is a function of the step alone (:class:`gat.data.order.TrainingOrder`), whoever reads it.
Shapes: B rows of this process, C latent channels, H latent side, P image side in pixels.
"""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gat.config import LoaderConfig
from gat.data.order import TrainingOrder
from gat.data.prepared import PreparedSet
from gat.data.workers import read_ahead, workers_for

GB = 1e9
READ_ROWS = 256


class Rows(NamedTuple):
    """The numbers of the rows (B,), on the CPU; their moments (B, 2C, H, H) float16 and labels (B,); if needed, images.

    Images: (B, P, P, 3) uint8.
    """

    rows: Tensor
    moments: Tensor
    labels: Tensor
    images: Tensor | None


class Loader(Protocol):
    """Whatever gives the rows of a step."""

    def batch(self, step: int) -> Rows:
        """The part of the batch of ``step`` (from 0) that is this process's, on its device."""
        ...


class ResidentLoader:
    """The whole set in memory, at ``place``; rows go from there to ``device``."""

    def __init__(
        self,
        data: PreparedSet,
        order: TrainingOrder,
        mine: slice,
        device: torch.device,
        place: torch.device,
        workers: int,
        *,
        images: bool,
    ) -> None:
        self.order, self.mine, self.device, self.place = order, mine, device, place
        self.moments = torch.from_numpy(data.all_moments()).to(place)
        self.labels = torch.from_numpy(data.labels).to(place)
        self.images: Tensor | None = None
        if images:
            batches = image_batches(data, np.arange(len(data)), READ_ROWS, workers)
            side = data.manifest.image_px
            self.images = torch.empty(len(data), side, side, 3, dtype=torch.uint8, device=place)
            for start, batch in zip(range(0, len(data), READ_ROWS), batches, strict=True):
                self.images[start : start + READ_ROWS] = batch.to(place)

    def batch(self, step: int) -> Rows:
        """See :class:`Loader`."""
        rows = torch.from_numpy(self.order.rows(step)[self.mine].copy())
        picked = rows.to(self.place, non_blocking=True)
        images = None if self.images is None else self.images[picked].to(self.device)
        return Rows(rows, self.moments[picked].to(self.device), self.labels[picked].to(self.device), images)


class StepReader(Dataset[Rows]):
    """Rows of a step from disk, on the CPU."""

    def __init__(self, data: PreparedSet, order: TrainingOrder, mine: slice, *, images: bool) -> None:
        self.data, self.order, self.mine, self.images = data, order, mine, images

    def __getitem__(self, step: int) -> Rows:
        rows = self.order.rows(step)[self.mine].copy()
        images = torch.from_numpy(self.data.images(rows)) if self.images else None
        return Rows(torch.from_numpy(rows), *self.data.latents(rows), images)


class StreamingLoader:
    """The set on disk, read ahead by ``workers`` processes into pinned memory (if ``device`` is a GPU)."""

    def __init__(self, reader: StepReader, device: torch.device, workers: int, prefetch: int) -> None:
        self.reader, self.device, self.workers, self.prefetch = reader, device, workers, prefetch
        self.next_step = -1
        self.batches: Iterator[Rows] = iter(())

    def batch(self, step: int) -> Rows:
        """See :class:`Loader`. After another step than the last one reading begins anew from there."""
        if step != self.next_step:
            pin = self.device.type == "cuda"
            self.batches = read_ahead(self.reader, count(step), self.workers, self.prefetch, pin=pin)
        self.next_step = step + 1
        rows = next(self.batches)
        moments, labels = (value.to(self.device, non_blocking=True) for value in (rows.moments, rows.labels))
        images = None if rows.images is None else rows.images.to(self.device, non_blocking=True)
        return Rows(rows.rows, moments, labels, images)


def open_loader(
    data: PreparedSet, order: TrainingOrder, mine: slice, device: torch.device, config: LoaderConfig, *, images: bool
) -> Loader:
    """The loader that suits the set's size. ``mine``: rows of a batch that this process gets; ``images``: whether too."""
    size = len(data) * (data.moment_bytes + images * data.image_bytes)
    if size > config.memory_gb * GB:
        workers = workers_for(len(data), config.workers)
        return StreamingLoader(StepReader(data, order, mine, images=images), device, workers, config.prefetch)
    place = device if size <= config.device_gb * GB else torch.device("cpu")
    return ResidentLoader(data, order, mine, device, place, workers_for(len(data), config.workers), images=images)


class ImageReader(Dataset[Tensor]):
    """Images of arrays of rows."""

    def __init__(self, data: PreparedSet) -> None:
        self.data = data

    def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.data.images(rows))


def image_batches(
    data: PreparedSet, rows: NDArray[np.int64], batch_size: int, workers: int | None = None
) -> Iterator[Tensor]:
    """Images (B, P, P, 3) uint8 of ``rows`` (n,) in their order. ``workers``: as ``loader.workers``."""
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return read_ahead(ImageReader(data), batches, workers_for(len(rows), workers))
