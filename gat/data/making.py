"""How the parts of a prepared set are made: any number of processes take missing ones, crop, encode and write them.

What a part holds depends on the source and the autoencoder alone, so the result does not depend on who made it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.config import DataConfig
from gat.data.autoencoder import encode_moments
from gat.data.claims import Claims, missing_parts, part_rows
from gat.data.crops import Batch, RowsToBatch
from gat.data.images import to_signed
from gat.data.parts import PartInfo, PartWriter, writing_part
from gat.data.sources import ImageSource
from gat.data.workers import read_ahead
from gat.errors import UserError
from gat.progress import Progress

FOREIGN = 0.1  # relative difference of given moments from encoded ones beyond which another autoencoder made them


class CorruptPart(NamedTuple):
    """A part that was not written: its unreadable images, each with the reason."""

    number: int
    errors: list[str]


@dataclass
class Tally:
    """What is counted while a part is made."""

    errors: list[str] = field(default_factory=list)
    upscaled: int = 0
    squared_error: float = 0.0
    squares: float = 0.0

    def compare(self, kept: Tensor, exact: Tensor) -> None:
        """Count the error of the ``kept`` moments."""
        self.squared_error = float((kept.double() - exact.double()).square().sum())
        self.squares = float(exact.double().square().sum())


class _RefusedError(Exception):
    """Leaves a part unwritten."""


@dataclass(frozen=True)
class Maker:
    """Makes parts of the set in ``folder``. ``moments_shape``: (2C, H, H)."""

    folder: Path
    source: ImageSource
    data: DataConfig
    model: AutoencoderKL
    moments_shape: tuple[int, int, int]
    batch_size: int
    bf16: bool
    workers: int

    def make(self) -> list[CorruptPart]:
        """Make every missing part that no other process is making; returns those that corrupt images held back.

        Raises :class:`UserError` if a latent is not finite, or a worker was killed; the parts made before stay.
        """
        missing = missing_parts(self.folder, len(self.source))
        claims = Claims(self.folder, missing, len(self.source), self.batch_size)
        batches = read_ahead(RowsToBatch(self.source, self.data), claims, self.workers)
        total = sum(len(part_rows(part, len(self.source))) for part in missing)
        refused = []
        try:
            with Progress(total=total, desc="preparing", unit="image") as progress:
                for part, some in groupby(batches, key=lambda batch: batch.part):
                    tally = self._write(part, shown(some, progress))
                    if tally.errors and self.strict:
                        refused.append(CorruptPart(part, tally.errors))
                    claims.release(part)
        finally:
            batches.close()
            claims.close()
        return refused

    @property
    def strict(self) -> bool:
        """Whether corrupt images hold their part back."""
        return self.data.on_corrupt == "error"

    def _write(self, part: int, batches: Iterable[Batch]) -> Tally:
        tally = Tally()
        try:
            with writing_part(self.folder, part, self.moments_shape) as writer:
                self._fill(writer, batches, tally)
        except _RefusedError:
            return tally
        PartInfo(
            number=part,
            rows=writer.rows,
            bytes=writer.sink.bytes,
            sha256=writer.sink.hash.hexdigest(),
            skipped=tally.errors,
            upscaled=tally.upscaled,
            squared_error=tally.squared_error,
            squares=tally.squares,
        ).write(self.folder)
        return tally

    def _fill(self, writer: PartWriter, batches: Iterable[Batch], tally: Tally) -> None:
        for batch in batches:
            tally.errors += batch.errors
            tally.upscaled += batch.upscaled
            if batch.rows and not (tally.errors and self.strict):
                self._add(writer, batch, tally)
        if tally.errors and self.strict:
            raise _RefusedError

    def _add(self, writer: PartWriter, batch: Batch, tally: Tally) -> None:
        moments, exact = self._moments(batch, tally.squares == 0)
        kept = moments.half()
        if exact is not None:
            tally.compare(kept, exact)
        bad = ~torch.isfinite(kept).flatten(1).all(dim=1)
        if bad.any():
            row = batch.rows[int(bad.nonzero()[0])]
            raise UserError(
                f"the autoencoder gives NaN or infinite latents, first for image {row}: check its weights and precision"
            )
        writer.add(kept.cpu().numpy(), batch.encoded, self.source.labels[batch.rows].tolist(), batch.rows)

    def _moments(self, batch: Batch, compared: bool) -> tuple[Tensor, Tensor | None]:
        """Moments of the batch, encoded or given; and, if they are to be ``compared``, fp32 ones of the autoencoder."""
        images = to_signed(batch.pixels.to(self.model.device))
        if batch.moments is None:
            moments = encode_moments(self.model, images, bf16=self.bf16)
            return moments, (encode_moments(self.model, images) if self.bf16 else moments) if compared else None
        given = batch.moments.to(images.device)
        if tuple(given.shape[1:]) != self.moments_shape:
            raise UserError(
                f"moments of {self.source.name} are {tuple(given.shape[1:])}, but the autoencoder's of these images are "
                f"{self.moments_shape}: choose the autoencoder and data.resolution_px that they were made with"
            )
        own = encode_moments(self.model, images) if compared else None
        if own is not None and foreign(given, own):
            raise UserError(
                f"moments of {self.source.name} are not what the autoencoder makes of its images: choose the one that they "
                "were made with"
            )
        return given, own


def foreign(given: Tensor, own: Tensor) -> bool:
    """Whether the means of moments (n, 2C, H, H) differ by more than a tenth of what they are."""
    mean, expected = (moments.chunk(2, dim=1)[0].double() for moments in (given, own))
    return bool((mean - expected).square().mean() > FOREIGN**2 * expected.square().mean())


def shown(batches: Iterable[Batch], progress: Progress) -> Iterator[Batch]:
    """The same batches, counted on the progress bar."""
    for batch in batches:
        yield batch
        progress.update(len(batch.rows) + len(batch.errors))
