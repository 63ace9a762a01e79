"""How much each block of the generator contributes to the image (paper section 3, Fig. 4b). No source defines it; ours:

    d(i, S) = distance( image(G(z_i, y_i)), image(G(z_i, y_i) without the blocks S) )

A block is taken out by zeroing both its residual branches (attention and SwiGLU); since h <- h + branch, this is the same as
replacing the block by its input, and there is no third way to write it. Everything else stays: the style w, the truncation,
the heads. Which S:

    zeroed       S = {b}: column b of the matrix is block b alone. (The default; Fig. 4b's bars are per block.)
    cumulative   S = {0, ..., b}: column b is the first b + 1 blocks together. Not a sum of the former.

How numbers are made of the matrix d (n, L), over samples with balanced classes and z drawn anew for each:

    raw          mean over samples, in the distance's unit
    share        zeroed: mean of column b over the sum of all columns' means (sums to 1)
                 cumulative: mean of column b over that of the last column, in which no block is left (ends at 1)
    of_largest   mean of column b over the largest column's mean. (Fig. 4b gives 0.2 and 0.6 for several early blocks of
                 twelve: these can be raw values or parts of the largest, not shares.)

Means are divided, not samples: a sample that no block changes counts as it should. 95% intervals by a bootstrap over samples
(gat.evaluation.intervals): of one training run; the spread over training seeds is not in them. Images are uint8, so that a
change too small to alter any grey level is none.
Shapes: n samples, B batch, L depth, K stages, C latent channels, H latent side, P image side in pixels.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.perceptual import PerceptualDistance
from gat.errors import UserError, require_choice
from gat.evaluation.intervals import by_bootstrap
from gat.evaluation.sampling import draw_inputs
from gat.models import Generator
from gat.models.generator import GeneratorDims
from gat.progress import Progress

REMOVALS = ("zeroed", "cumulative")
BATCH = 64

Decode = Callable[[Tensor], Tensor]
"""Latents (B, C, H, H) -> uint8 images (B, 3, P, P)."""


@dataclass(frozen=True)
class Contribution:
    """Of one block (from 0), or of the first blocks up to it: numbers as above, each with its 95% interval.

    ``share`` and ``of_largest`` are NaN if no block changes any sample.
    """

    block: int
    stage: int
    """The first stage (from 1) that it feeds."""
    raw: float
    raw_low: float
    raw_high: float
    share: float
    share_low: float
    share_high: float
    of_largest: float
    of_largest_low: float
    of_largest_high: float


def inputs_of(samples: int, dims: GeneratorDims, classes: Sequence[int] | None, seed: int) -> tuple[Tensor, Tensor]:
    """Draw z (n, z_dim), and labels (n,) that take ``classes`` (None: all) in turn; evenly spaced ones if too many.

    Raises :class:`UserError` for a class that the generator does not know, or no samples.
    """
    if samples < 1:
        raise UserError(f"samples={samples} must be at least 1")
    num_classes = dims.num_classes
    chosen = list(range(num_classes)) if classes is None else list(classes)
    for label in chosen:
        if not 0 <= label < num_classes:
            raise UserError(f"classes={label}: there are classes 0 to {num_classes - 1}: choose among these")
    if len(chosen) > samples:
        chosen = [chosen[i * len(chosen) // samples] for i in range(samples)]
    z, _ = draw_inputs(samples, dims, seed, "balanced")
    return z, torch.tensor(chosen)[torch.arange(samples) % len(chosen)]


def removed_sets(depth: int, removal: str) -> list[range]:
    """The L sets of blocks that are taken out, by column."""
    require_choice("removal", removal, REMOVALS)
    return [range(b if removal == "zeroed" else 0, b + 1) for b in range(depth)]


def block_contributions(
    generator: Generator,
    decode: Decode,
    distance: PerceptualDistance,
    z: Tensor,
    labels: Tensor,
    *,
    removal: str = REMOVALS[0],
    truncation: float = 0.0,
    batch_size: int = BATCH,
) -> NDArray[np.float64]:
    """Return distances (n, L) of z (n, z_dim) and labels (n,). Raises :class:`UserError` for an unknown ``removal``."""
    sets = removed_sets(generator.dims.depth, removal)
    return distances_without(generator, decode, distance, z, labels, sets, truncation=truncation, batch_size=batch_size)


@torch.no_grad()
def distances_without(
    generator: Generator,
    decode: Decode,
    distance: PerceptualDistance,
    z: Tensor,
    labels: Tensor,
    sets: Sequence[Collection[int]],
    *,
    truncation: float,
    batch_size: int,
) -> NDArray[np.float64]:
    """Distances (n, len(sets)) between each sample and the same without each of ``sets`` of blocks.

    Raises :class:`UserError` for samples that are not finite.
    """
    device = next(generator.parameters()).device
    batches = list(zip(z.split(batch_size), labels.split(batch_size), strict=True))
    rows = []
    for some_z, some_labels in Progress(batches, desc="blocks", unit="batch", leave=False):
        w = generator.style(some_z.to(device), some_labels.to(device), truncation)
        latents = generator.synthesize(w)[-1]
        if not bool(latents.isfinite().all()):
            raise UserError(
                "the generator's samples are not finite: the run has diverged, choose an earlier checkpoint"
            )
        whole = decode(latents)
        columns = [distance(whole, decode(generator.synthesize(w, skip_blocks=skip)[-1])) for skip in sets]
        rows.append(torch.stack(columns, dim=1).double().cpu().numpy())
    return np.concatenate(rows)


def summary(distances: NDArray[np.float64], num_stages: int, removal: str = REMOVALS[0]) -> list[Contribution]:
    """The numbers of distances (n, L), block by block; of a generator of K = ``num_stages`` stages."""
    require_choice("removal", removal, REMOVALS)
    depth = distances.shape[1]
    whole = distances.sum(axis=1) if removal == "zeroed" else distances[:, -1]
    largest = distances[:, distances.mean(axis=0).argmax()]
    ones = np.ones(len(distances))
    return [
        Contribution(
            b,
            b * num_stages // depth + 1,
            *_ratio(distances[:, b], ones),
            *_ratio(distances[:, b], whole),
            *_ratio(distances[:, b], largest),
        )
        for b in range(depth)
    ]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of ``part`` (n,) over mean of ``whole`` (n,), with its interval; NaN where ``whole`` is 0."""
    if not whole.any():
        return (float("nan"),) * 3
    value = float(part.mean() / whole.mean())
    estimate = by_bootstrap(value, (part - value * whole) / whole.mean())
    return (value, *estimate.interval)
