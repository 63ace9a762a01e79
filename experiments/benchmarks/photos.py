"""Photographs to measure with: pieces of scikit-learn's two sample photos, as JPEGs of about ImageNet's size."""

from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL
from PIL import Image

from gat.config import AutoencoderConfig
from gat.rng import seeded_init

SIDES_PX = (375, 500)
QUALITY = 90


def write_photos(root: Path, count: int) -> None:
    """``count`` JPEGs of 375 x 500 pixels, in two class folders."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    generator = np.random.default_rng(0)
    for i in range(count):
        photo = photos[i % 2]
        top, left = (generator.integers(0, size - side + 1) for size, side in zip(photo.shape, SIDES_PX, strict=False))
        folder = root / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        piece = photo[top : top + SIDES_PX[0], left : left + SIDES_PX[1]]
        Image.fromarray(piece).save(folder / f"{i}.jpg", quality=QUALITY)


def write_narrow_autoencoder(folder: Path) -> AutoencoderConfig:
    """An autoencoder with SD-VAE's latents (factor 8, 4 channels) and random weights, narrow: its cost is not measured."""
    with seeded_init(0):
        model = AutoencoderKL(
            block_out_channels=(8,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            mid_block_add_attention=False,
        )
    model.save_pretrained(folder)
    return AutoencoderConfig(
        kind="pretrained",
        path=str(folder),
        scale=None,
        encode_precision="fp32",
        channels=[],
        latent_channels=4,
        train_images=0,
        batch_size=32,
        lr=0.0,
        kl_weight=0.0,
    )
