"""A prepared data set: posterior moments, labels and images of one source under one autoencoder, in one folder.

    manifest.json      source, classes, autoencoder, sizes, counts, versions, and size and SHA-256 of each part; written last
    part-NNNNN.arrow   the samples (gat.data.parts)
    labels.npy         (count,) int64
    skipped.txt        images left out, with the reason, if there are any
    files.feather      the list of image files as it was when preparation began, if the source is a folder
    autoencoder/       the tiny autoencoder in diffusers' layout, if it was trained here

Parts are memory-mapped when they are first read: opening a set costs little whatever its size.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from gat.data.autoencoder import OWN, load_autoencoder, load_own_autoencoder, weights_digest
from gat.data.identity import FORMAT_VERSION
from gat.data.parts import REMEDY, Part, PartInfo, part_file
from gat.errors import UserError
from gat.files import sha256, write_json

MANIFEST = "manifest.json"
LABELS = "labels.npy"
SKIPPED = "skipped.txt"
CHECKED_BYTES = 256 * 2**20  # up to this, checksums are compared whenever a set is opened


@dataclass(frozen=True)
class Manifest:
    """What a prepared set was made from and holds; ``settings`` are the data's and autoencoder's settings.

    ``moments_error``: root mean square of (kept moments - fp32 moments), relative to that of the fp32 moments.
    """

    format_version: int
    source: str
    class_names: list[str]
    count: int
    skipped: int
    ignored_files: int
    upscaled: int
    latent_channels: int
    latent_side: int
    image_px: int
    autoencoder: str
    autoencoder_sha256: str
    scale: float
    moments_error: float
    settings: dict[str, Any]
    versions: dict[str, str]
    labels_sha256: str
    parts: list[PartInfo]

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``, whole or not at all."""
        write_json(folder / MANIFEST, asdict(self))


class PreparedSet:
    """Random access to a prepared folder; :class:`UserError` if it does not hold what its manifest says.

    Every part must be there in its size; of small sets, and of the labels, the checksums are compared too
    (:meth:`verify` does it for any).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._starts = np.cumsum([0] + [part.rows for part in self.manifest.parts])
        self._parts: dict[int, Part] = {}
        self.labels = self._read_labels()
        self._check_sizes()
        if self.bytes <= CHECKED_BYTES:
            self.verify()

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def num_classes(self) -> int:
        """Classes of the source."""
        return len(self.manifest.class_names)

    @property
    def moments_shape(self) -> tuple[int, int, int]:
        """(2C, H, H)."""
        m = self.manifest
        return 2 * m.latent_channels, m.latent_side, m.latent_side

    @property
    def moment_bytes(self) -> int:
        """Of one sample in memory."""
        return int(np.prod(self.moments_shape)) * np.dtype(np.float16).itemsize

    @property
    def image_bytes(self) -> int:
        """Of one image in memory."""
        return 3 * self.manifest.image_px**2

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.manifest.parts)

    def moments(self, rows: Iterable[int]) -> NDArray[np.float16]:
        """Posterior mean and log-variance (n, 2C, H, H) of ``rows`` (n,), unscaled."""
        places = self._places(rows)
        out = np.empty((len(places), *self.moments_shape), np.float16)
        for i, (part, row) in enumerate(places):
            out[i] = self._part(part).moment(row)
        return out

    def all_moments(self) -> NDArray[np.float16]:
        """Those of the whole set, in memory."""
        return np.concatenate([chunk for i in range(len(self.manifest.parts)) for chunk in self._part(i).moments])

    def images(self, rows: Iterable[int]) -> NDArray[np.uint8]:
        """Images (n, P, P, 3) of ``rows`` (n,)."""
        side, places = self.manifest.image_px, self._places(rows)
        out = np.empty((len(places), side, side, 3), np.uint8)
        for i, (part, row) in enumerate(places):
            out[i] = self._part(part).image(row, side)
        return out

    def latents(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Moments (B, 2C, H, H) float16 and labels (B,) of the given rows."""
        return torch.from_numpy(self.moments(rows)), torch.from_numpy(self.labels[rows])

    def autoencoder(self) -> AutoencoderKL:
        """Load the autoencoder of this set's latents; raise :class:`UserError` if its weights have changed since encoding."""
        own = self.folder / OWN
        model = load_own_autoencoder(self.folder) if own.exists() else load_autoencoder(self.manifest.autoencoder)
        if weights_digest(model) != self.manifest.autoencoder_sha256:
            raise UserError(
                f"autoencoder {str(own) if own.exists() else self.manifest.autoencoder!r} has other weights than the one "
                f"that {self.folder} was encoded with: put those back, or delete that folder to prepare it again"
            )
        return model

    def verify(self) -> None:
        """Compare the checksums of all parts; :class:`UserError` names the first that differs, and how many do."""
        parts = self.manifest.parts
        bad = [part for part in parts if sha256(part_file(self.folder, part.number)) != part.sha256]
        if bad:
            raise UserError(
                f"{part_file(self.folder, bad[0].number)}: its checksum is not the manifest's ({len(bad)} of {len(parts)} "
                f"parts are damaged): {REMEDY}"
            )

    def _check_sizes(self) -> None:
        if self._starts[-1] != len(self) or len(self.labels) != len(self):
            raise UserError(
                f"{self.folder / MANIFEST}: count {len(self)}, but its parts hold {self._starts[-1]} and {LABELS} "
                f"{len(self.labels)}: delete {self.folder} to prepare it again"
            )
        for part in self.manifest.parts:
            file = part_file(self.folder, part.number)
            found = file.stat().st_size if file.exists() else None
            if found != part.bytes:
                what = "is missing" if found is None else f"has {found} bytes, not {part.bytes} as its manifest says"
                raise UserError(f"{file}: {what}: {REMEDY}")

    def _read_labels(self) -> NDArray[np.int64]:
        file = self.folder / LABELS
        try:
            labels = np.load(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{file}: cannot be read ({error}): delete it and {MANIFEST}, and prepare again (the parts are kept)"
            ) from error
        if hashlib.sha256(labels.tobytes()).hexdigest() != self.manifest.labels_sha256:
            raise UserError(
                f"{file}: its checksum is not the manifest's: delete it and {MANIFEST}, and prepare again (parts are kept)"
            )
        return labels

    def _places(self, rows: Iterable[int]) -> list[tuple[int, int]]:
        """Part and row in it of every row."""
        wanted = np.asarray(rows, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        parts = np.searchsorted(self._starts, wanted, side="right") - 1
        return list(zip(parts.tolist(), (wanted - self._starts[parts]).tolist(), strict=True))

    def _part(self, index: int) -> Part:
        if index not in self._parts:
            info = self.manifest.parts[index]
            self._parts[index] = Part(part_file(self.folder, info.number), info.rows, self.moments_shape)
        return self._parts[index]


def read_manifest(folder: Path) -> Manifest:
    """Read a prepared folder's manifest; raise :class:`UserError` if it is missing, damaged or of another format."""
    file = folder / MANIFEST
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version == FORMAT_VERSION:
            return Manifest(**values | {"parts": [PartInfo(**part) for part in values["parts"]]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{file}: not a manifest of a prepared set ({error}): delete it, and prepare again (the parts are kept)"
        ) from error
    raise UserError(
        f"{file}: format {version}, but this version reads {FORMAT_VERSION}: delete {folder} to prepare it again"
    )
