"""Prepared sets made by tests: random images and latents, no autoencoder behind them."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gat.data.prepared import FORMAT_VERSION, Manifest, PreparedSet


def fake_prepared(*, classes: int, latent_side: int, count: int = 24, folder: Path | None = None) -> PreparedSet:
    """A prepared set of ``count`` random 16-pixel images in ``classes`` classes, labels in turn."""
    folder = folder or Path(tempfile.mkdtemp())
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "moments": generator.normal(size=(count, 8, latent_side, latent_side)).astype(np.float16),
        "labels": np.arange(count, dtype=np.int64) % classes,
        "images": generator.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        source="test",
        class_names=[f"class {i}" for i in range(classes)],
        count=count,
        skipped=0,
        latent_channels=4,
        latent_side=latent_side,
        image_px=16,
        autoencoder="none",
        scale=0.5,
        settings={},
    )
    manifest.write(folder)
    return PreparedSet(folder)
