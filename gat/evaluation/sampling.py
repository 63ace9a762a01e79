"""Samples as a function of (seed, count), whatever the batch size.

Shapes: B batch, C latent channels, H latent side, P image side in pixels.
"""

from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.errors import require_choice
from gat.evaluation.protocol import LABELS
from gat.models import Generator
from gat.models.generator import Z_DIM
from gat.rng import make_generator


def draw_inputs(count: int, num_classes: int, seed: int, labels: str) -> tuple[Tensor, Tensor]:
    """z (count, 64) and labels (count,), drawn on the CPU. ``labels``: ``uniform`` (drawn) or ``balanced`` (in turn)."""
    require_choice("evaluation.labels", labels, LABELS)
    generator = make_generator(seed, "samples")
    z = torch.randn(count, Z_DIM, generator=generator)
    if labels == "balanced":
        return z, torch.arange(count) % num_classes
    return z, torch.randint(num_classes, (count,), generator=generator)


@torch.no_grad()
def sample_images(
    generator: Generator,
    autoencoder: AutoencoderKL,
    scale: float,
    z: Tensor,
    labels: Tensor,
    *,
    truncation: float,
    conversion: str,
    batch_size: int,
) -> Iterator[Tensor]:
    """Decoded samples of z (count, 64) and labels (count,), as uint8 batches (B, 3, P, P) on the generator's device.

    ``conversion``: see :func:`gat.data.images.to_uint8`.
    """
    device = next(generator.parameters()).device
    inputs = list(zip(z.split(batch_size), labels.split(batch_size), strict=True))
    for some_z, some_labels in tqdm(inputs, desc="samples", unit="batch", leave=False, disable=None):
        stages = generator(some_z.to(device), some_labels.to(device), truncation=truncation)
        yield to_uint8(decode(autoencoder, stages[-1], scale), conversion)
