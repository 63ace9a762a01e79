"""A prepared data set: posterior moments, labels and images of one source under one autoencoder, in one folder.

    manifest.json   source, classes, autoencoder, sizes, counts
    moments.npy     (count, 2C, H, H) float16: posterior mean and log-variance, unscaled
    labels.npy      (count,) int64
    images.npy      (count, P, P, 3) uint8, for the teacher and the reference statistics
    autoencoder/    the tiny autoencoder in diffusers' layout, if it was trained here

The arrays are memory-mapped: opening a set costs no memory whatever its size.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from gat.data.autoencoder import load_autoencoder
from gat.errors import UserError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ARRAYS = ("moments", "labels", "images")


@dataclass(frozen=True)
class Manifest:
    """What a prepared set was made from and its sizes; ``settings`` are the data's and autoencoder's settings."""

    format_version: int
    source: str
    class_names: list[str]
    count: int
    skipped: int
    latent_channels: int
    latent_side: int
    image_px: int
    autoencoder: str
    scale: float
    settings: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


class PreparedSet:
    """Random access to a prepared folder; :class:`UserError` if it does not hold what its manifest says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.moments = self._open("moments")
        self.labels = self._open("labels")
        self.images = self._open("images")

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def num_classes(self) -> int:
        """Classes of the source."""
        return len(self.manifest.class_names)

    def latents(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Moments (B, 2C, H, H) float16 and labels (B,) of the given rows."""
        return torch.from_numpy(self.moments[rows]), torch.from_numpy(self.labels[rows])

    def autoencoder(self) -> AutoencoderKL:
        """The autoencoder that decodes this set's latents."""
        own = self.folder / "autoencoder"
        return load_autoencoder(str(own) if own.exists() else self.manifest.autoencoder)

    def _open(self, name: str) -> NDArray[Any]:
        file, m = self.folder / f"{name}.npy", self.manifest
        shapes = {
            "moments": ((m.count, 2 * m.latent_channels, m.latent_side, m.latent_side), np.float16),
            "labels": ((m.count,), np.int64),
            "images": ((m.count, m.image_px, m.image_px, 3), np.uint8),
        }
        try:
            array = np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{file}: cannot be read ({error}): delete {self.folder} to prepare it again") from error
        if (array.shape, array.dtype) != shapes[name]:
            raise UserError(
                f"{file}: {array.dtype} {array.shape}, but the manifest says {shapes[name]}: "
                f"delete {self.folder} to prepare it again"
            )
        return array


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder; :class:`UserError` if it is missing or of another format."""
    file = folder / MANIFEST
    try:
        manifest = Manifest(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{file}: not a manifest of a prepared set ({error}): delete {folder} to prepare it again"
        ) from error
    if manifest.format_version != FORMAT_VERSION:
        raise UserError(
            f"{file}: format {manifest.format_version}, but this version reads {FORMAT_VERSION}: "
            f"delete {folder} to prepare it again"
        )
    return manifest
