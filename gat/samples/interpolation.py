"""Paths in w (project page: moving in w between classes and seeds morphs the image smoothly), and how smooth they are.

Shapes: F frames, d width, P image side in pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.errors import UserError
from gat.models import Generator
from gat.rng import make_generator
from gat.truncation import check_truncation


class Anchor(NamedTuple):
    """A sample that a path goes through: ``seed`` draws its z, ``label`` is its class."""

    seed: int
    label: int


@torch.no_grad()
def anchor_w(generator: Generator, anchor: Anchor, truncation: float) -> Tensor:
    """Style vector (d,) of an anchor, whatever other anchors there are."""
    device = generator.mean_w.device
    z = torch.randn(1, generator.dims.z_dim, generator=make_generator(anchor.seed, "interpolation"))
    return generator.style(z.to(device), torch.tensor([anchor.label], device=device), truncation)[0]


@torch.no_grad()
def w_path(generator: Generator, anchors: Sequence[Anchor], frames: int, truncation: float, closed: bool) -> Tensor:
    """Style vectors (F, d) on straight lines in w from anchor to anchor, ``frames`` from each to the next; the last included.

    F = frames * lines + 1. ``closed``: back to the first anchor, which is then the last frame too (leave that out in a loop).
    ``truncation``: psi; each anchor is pulled to the mean of its own class. :class:`UserError` for fewer than two anchors, a
    class that there is not, a negative seed, frames below 1, psi outside 0 to 1.
    """
    check_path(anchors, generator.dims.num_classes, frames, truncation)
    stops = [anchor_w(generator, anchor, truncation) for anchor in anchors]
    if closed:
        stops.append(stops[0])
    steps = torch.arange(frames, dtype=stops[0].dtype, device=stops[0].device)[:, None] / frames
    lines = [torch.lerp(start, end, steps) for start, end in pairwise(stops)]
    return torch.cat([*lines, stops[-1][None]])


def check_path(anchors: Sequence[Anchor], num_classes: int, frames: int, truncation: float) -> None:
    """:class:`UserError` for a path that cannot be."""
    if len(anchors) < 2:
        raise UserError(f"a path needs at least 2 anchors (seed, class), not {len(anchors)}: name more")
    for anchor in anchors:
        if not 0 <= anchor.label < num_classes:
            raise UserError(f"anchor {tuple(anchor)}: class {anchor.label} must lie between 0 and {num_classes - 1}")
        if anchor.seed < 0:
            raise UserError(f"anchor {tuple(anchor)}: seed {anchor.seed} must be at least 0")
    if frames < 1:
        raise UserError(f"frames={frames} must be at least 1")
    check_truncation(truncation)


@torch.no_grad()
def synthesize_path(
    generator: Generator,
    autoencoder: AutoencoderKL,
    scale: float,
    w: Tensor,
    *,
    conversion: str,
    batch_size: int,
) -> Tensor:
    """Decoded images (F, 3, P, P), uint8 on the CPU, of style vectors w (F, d).

    ``scale``: of the latents; ``conversion``: see :func:`gat.data.images.to_uint8`.
    """
    device = generator.mean_w.device
    batches = (generator.synthesize(some.to(device))[-1] for some in w.split(batch_size))
    return torch.cat([to_uint8(decode(autoencoder, latents, scale), conversion).cpu() for latents in batches])


def step_sizes(images: Tensor) -> Tensor:
    """Change from frame to frame: root mean square over pixels and colours, in grey levels; (F - 1,), of images (F, 3, P, P).

    A smooth path has steps of about equal size; a jump stands out.
    """
    steps = [(after.double() - before.double()).square().mean().sqrt() for before, after in pairwise(images)]
    return torch.stack(steps) if steps else torch.zeros(0, dtype=torch.float64)
