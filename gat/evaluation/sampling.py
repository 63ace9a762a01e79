"""Samples as a function of (seed, count), whatever the batch size.

Shapes: B batch, C latent channels, H latent side, P image side in pixels.
"""

from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.errors import UserError, require_choice
from gat.evaluation.protocol import LABELS
from gat.models import Generator
from gat.models.generator import GeneratorDims
from gat.progress import Progress
from gat.rng import make_generator


def draw_inputs(count: int, dims: GeneratorDims, seed: int, labels: str) -> tuple[Tensor, Tensor]:
    """Draw a generator's z (count, z_dim) and labels (count,) on the CPU; the first of a larger count are the same.

    ``labels``: ``uniform`` (drawn) or ``balanced`` (in turn).
    """
    require_choice("evaluation.labels", labels, LABELS)
    z = torch.randn(count, dims.z_dim, generator=make_generator(seed, "samples"))
    if labels == "balanced":
        return z, torch.arange(count) % dims.num_classes
    return z, torch.randint(dims.num_classes, (count,), generator=make_generator(seed, "sample labels"))


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
    """Yield decoded samples of z (count, z_dim), labels (count,): uint8 batches (B, 3, P, P) on the generator's device.

    ``conversion``: see :func:`gat.data.images.to_uint8`. :class:`UserError`, after the last, for a generator that draws no
    numbers.
    """
    device = next(generator.parameters()).device
    inputs = list(zip(z.split(batch_size), labels.split(batch_size), strict=True))
    finite = torch.ones((), dtype=torch.bool, device=device)
    for some_z, some_labels in Progress(inputs, desc="samples", unit="batch", leave=False):
        stages = generator(some_z.to(device), some_labels.to(device), truncation=truncation)
        finite &= stages[-1].isfinite().all()
        yield to_uint8(decode(autoencoder, stages[-1], scale), conversion)
    if not finite:  # one wait for the device, after the last batch
        raise UserError(
            "the generator draws numbers that are not finite: its training diverged, or its file is damaged"
        )
