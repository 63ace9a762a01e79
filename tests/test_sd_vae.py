"""An autoencoder of SD-VAE's size (random weights, on disk), loaded as a user's own: it prepares images of 256 pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from sklearn.datasets import load_sample_images

from gat.data.images import center_crop, to_signed
from gat.data.prepare import prepare
from gat.rng import seeded_init
from tests.data_helpers import CPU, autoencoder_config, folder_config

SD_VAE_PARAMETERS = 83_653_863


@pytest.mark.slow
def test_preparation_with_an_autoencoder_of_full_size(tmp_path: Path) -> None:
    with seeded_init(0):
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=256,
        ).eval()
    assert sum(p.numel() for p in model.parameters()) == SD_VAE_PARAMETERS
    model.save_pretrained(tmp_path / "vae")
    photos = load_sample_images().images
    for name, photo in zip("ab", photos, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(photo).save(tmp_path / "photos" / name / "0.png")
    config = autoencoder_config(kind="pretrained", path=str(tmp_path / "vae"))
    data = folder_config(tmp_path / "photos", resolution_px=256)
    prepared = prepare(data, config, tmp_path / "prepared", CPU)
    crops = np.stack([center_crop(Image.fromarray(photo), 256) for photo in photos])
    assert np.array_equal(prepared.images([0, 1]), crops)
    with torch.no_grad():
        direct = model.encode(to_signed(crops)).latent_dist.parameters
    kept = torch.from_numpy(prepared.moments([0, 1])).float()
    assert kept.shape == (2, 8, 32, 32)
    torch.testing.assert_close(kept, direct, rtol=2**-11, atol=1e-5)
