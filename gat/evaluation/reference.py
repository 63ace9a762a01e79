"""The real images that samples are compared with: their feature statistics, and features of some of them.

Either those of a prepared set (computed once and kept beside it) or a file: ADM's ``VIRTUAL_imagenet256_labeled.npz`` holds
Inception's statistics of all of ImageNet and 10,000 images, of which KID, precision, recall and other extractors' distances
are taken. Shapes: n images, d features, P image side in pixels.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.data.loader import image_batches
from gat.data.prepared import PreparedSet
from gat.errors import UserError, first_line
from gat.evaluation.extractors import extractor_tag
from gat.evaluation.frechet import Statistics, feature_statistics
from gat.evaluation.statistics_file import UNREADABLE, images_in, images_side, load_statistics, save_statistics
from gat.files import one_at_a_time, sha256
from gat.progress import Progress

DIGESTED_IMAGES = 64  # of a prepared set: enough to tell it from others


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """``wanted`` rows of ``count``, evenly spread and in order; all of them if there are fewer."""
    used = min(count, wanted)
    return np.arange(used) * count // used


class Reference(Protocol):
    """Real images to compare with."""

    name: str
    """What they are, for the protocol: no path, the same for the same images anywhere."""
    image_px: int | None
    """P; None if unknown."""

    def statistics(self, extractor: FeatureExtractorBase) -> Statistics:
        """Of all images."""
        ...

    def images(self, count: int) -> Iterator[Tensor]:
        """At most ``count`` images, evenly spread, as uint8 batches (B, 3, P, P) on the CPU."""
        ...

    def basis(self, extractor: FeatureExtractorBase) -> str:
        """What :meth:`statistics` are of, for the protocol."""
        ...


class PreparedReference:
    """The images of a prepared set."""

    def __init__(self, data: PreparedSet, batch_size: int, device: torch.device, workers: int | None = 0) -> None:
        self.data, self.batch_size, self.device, self.workers = data, batch_size, device, workers
        manifest = data.manifest
        some = data.images(spread(len(data), DIGESTED_IMAGES)).tobytes()
        digest = hashlib.sha256(some + manifest.labels_sha256.encode()).hexdigest()[:12]
        self.name = f"{manifest.source.partition(':')[0]} {manifest.count} images@{digest}"
        self.image_px: int | None = manifest.image_px

    def statistics(self, extractor: FeatureExtractorBase) -> Statistics:
        """Of all prepared images, computed now where they are missing, kept in a file per extractor and weights."""
        tag = extractor_tag(extractor)
        file = self.data.folder / f"reference-{tag}.npz"
        if not file.exists():
            with one_at_a_time(file.with_name(f".{file.name}.lock"), "computing reference statistics"):
                if not file.exists():  # another process may have computed them meanwhile
                    images = (batch.to(self.device) for batch in self.images(len(self.data)))
                    origin = {"extractor": tag, "image_px": self.image_px, "images": self.name}
                    save_statistics(file, feature_statistics(images, extractor), origin)
        return load_statistics(file, tag, self.image_px)

    def basis(self, extractor: FeatureExtractorBase) -> str:  # noqa: ARG002
        """All images."""
        return self.name

    def images(self, count: int) -> Iterator[Tensor]:
        """Evenly spread over the set."""
        rows = spread(len(self.data), count)
        batches = image_batches(self.data, rows, self.batch_size, self.workers)
        total = -(-len(rows) // self.batch_size)
        for batch in Progress(batches, desc="reference", total=total, unit="batch", leave=False):
            yield batch.permute(0, 3, 1, 2)


class FileReference:
    """Statistics, and maybe images, in a file."""

    def __init__(self, file: Path, extractor: str, batch_size: int) -> None:
        """``extractor``: whose statistics a file without a word about it holds."""
        load_statistics(file)
        self.file, self.extractor, self.batch_size = file, extractor, batch_size
        self.name = f"file@{sha256(file)[:12]}"
        try:
            self.image_px = images_side(file)
        except UNREADABLE as error:
            raise UserError(f"{file}: its images cannot be used ({first_line(error)}): fetch it again") from error

    def statistics(self, extractor: FeatureExtractorBase) -> Statistics:
        """The file's, or for another extractor those of the images in it; :class:`UserError` if there are none."""
        if extractor.get_name() == self.extractor:
            return load_statistics(self.file, extractor_tag(extractor), self.image_px)
        device = next(extractor.parameters()).device
        return feature_statistics((batch.to(device) for batch in self.images(2**62)), extractor)

    def basis(self, extractor: FeatureExtractorBase) -> str:
        """The file's own statistics, or its images."""
        return self.name if extractor.get_name() == self.extractor else f"{self.name} arr_0"

    def images(self, count: int) -> Iterator[Tensor]:
        """Of ``arr_0``, evenly spread; :class:`UserError` if there are none."""
        if self.image_px is None:
            raise UserError(
                f"{self.file}: holds {self.extractor}'s statistics but no images (arr_0), which KID, precision, recall and "
                "other extractors need: leave these out, or set evaluation.reference=null to use prepared images"
            )
        try:
            images = images_in(self.file)
        except UNREADABLE as error:
            raise UserError(f"{self.file}: its images cannot be read ({first_line(error)}): fetch it again") from error
        rows = spread(len(images), count)
        for start in range(0, len(rows), self.batch_size):
            yield torch.from_numpy(images[rows[start : start + self.batch_size]]).permute(0, 3, 1, 2)


def open_reference(
    data: PreparedSet | None,
    file: str | None,
    extractor: str,
    batch_size: int,
    device: torch.device,
    workers: int | None = 0,
) -> Reference:
    """``file``'s if given, else the prepared set's. Raises :class:`UserError` for neither, or a file without statistics."""
    if file is not None:
        return FileReference(Path(file), extractor, batch_size)
    if data is None:
        raise UserError(
            "evaluation.reference=null: nothing to compare with: give evaluation.reference=FILE.npz (mu and sigma; ADM's "
            "VIRTUAL_imagenet256_labeled.npz), or data=... data.root=... for images of your own"
        )
    return PreparedReference(data, batch_size, device, workers)
