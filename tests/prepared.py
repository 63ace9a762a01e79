"""Prepared sets made by tests: random images and latents, no autoencoder behind them."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gat.data.claims import PART_ROWS
from gat.data.codec import encode_image
from gat.data.identity import FORMAT_VERSION
from gat.data.parts import PartInfo, writing_part
from gat.data.prepared import LABELS, Manifest, PreparedSet


def random_arrays(count: int, latent_side: int, image_px: int = 16) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Moments (count, 8, H, H) and images (count, P, P, 3)."""
    generator = np.random.default_rng(0)
    moments = generator.normal(size=(count, 8, latent_side, latent_side)).astype(np.float16)
    return moments, generator.integers(0, 256, (count, image_px, image_px, 3), dtype=np.uint8)


def write_prepared(
    folder: Path,
    moments: NDArray[np.float16],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    part_rows: int = PART_ROWS,
    autoencoder: str = "none",
    autoencoder_sha256: str = "none",
) -> PreparedSet:
    """A prepared set of these arrays: ``moments`` (n, 2C, H, H), ``images`` (n, P, P, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, start in enumerate(range(0, len(labels), part_rows)):
        rows = range(start, min(start + part_rows, len(labels)))
        with writing_part(folder, number, moments.shape[1:]) as writer:
            encoded = [encode_image(images[row], "webp", None) for row in rows]
            writer.add(moments[rows.start : rows.stop], encoded, labels[rows.start : rows.stop].tolist(), rows)
        info = PartInfo(number, writer.rows, writer.sink.bytes, writer.sink.hash.hexdigest())
        info.write(folder)
        parts.append(info)
    np.save(folder / LABELS, labels)
    Manifest(
        format_version=FORMAT_VERSION,
        source="test",
        class_names=[f"class {i}" for i in range(labels.max() + 1)],
        count=len(labels),
        skipped=0,
        ignored_files=0,
        upscaled=0,
        latent_channels=moments.shape[1] // 2,
        latent_side=moments.shape[2],
        image_px=images.shape[1],
        autoencoder=autoencoder,
        autoencoder_sha256=autoencoder_sha256,
        scale=0.5,
        moments_error=0.0,
        settings={"data": {"image_format": "webp", "image_quality": None}},
        versions={},
        labels_sha256=hashlib.sha256(labels.tobytes()).hexdigest(),
        parts=parts,
    ).write(folder)
    return PreparedSet(folder)


def fake_prepared(*, classes: int, latent_side: int, count: int = 24, folder: Path | None = None) -> PreparedSet:
    """A prepared set of ``count`` random 16-pixel images in ``classes`` classes, labels in turn."""
    moments, images = random_arrays(count, latent_side)
    labels = np.arange(count, dtype=np.int64) % classes
    return write_prepared(folder or Path(tempfile.mkdtemp()), moments, images, labels)
