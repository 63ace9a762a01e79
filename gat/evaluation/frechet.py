"""Fréchet distance between feature statistics, in float64.

Shapes: n images, d features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.errors import UserError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Statistics:
    """Mean ``mu`` (d,) and covariance ``sigma`` (d, d), float64, of the features of a set of images."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]


@torch.no_grad()
def feature_statistics(
    batches: Iterable[Tensor], extractor: FeatureExtractorBase, *, covariance: str = "N-1"
) -> Statistics:
    """Return the :func:`statistics` of the features of uint8 images (B, 3, P, P)."""
    return statistics((extractor(batch)[0] for batch in batches), covariance=covariance)


def statistics(batches: Iterable[Tensor], *, covariance: str = "N-1") -> Statistics:
    """Return the statistics of features (B, d), in one pass and bounded memory; ``covariance``: divided by ``N-1`` or ``N``.

    Raises :class:`UserError` for fewer than two images.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features = batch.double()
        if count == 0:
            anchor = features.mean(dim=0)  # moments about a point near the mean: no cancellation
            total, products = torch.zeros_like(anchor), features.new_zeros(len(anchor), len(anchor))
        moved = features - anchor
        total += moved.sum(dim=0)
        products += moved.T @ moved
        count += len(batch)
    if count < 2:
        raise UserError(f"{count} images have no covariance: use at least 2 samples")
    mean = total / count
    sigma = (products - count * torch.outer(mean, mean)) / divisor(count, covariance)
    return Statistics((anchor + mean).cpu().numpy(), sigma.cpu().numpy())


def divisor(count: int, covariance: str) -> int:
    """What a covariance of ``count`` samples is divided by."""
    return count if covariance == "N" else count - 1


def frechet_distance(a: Statistics, b: Statistics, device: torch.device = CPU) -> float:
    """Return |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), computed on ``device``.

    Raises :class:`UserError` for statistics of different widths.
    """
    _, product = root_and_product(a, b, device)
    return distance_of(a, b, torch.linalg.eigvalsh(product))


def root_and_product(a: Statistics, b: Statistics, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return Q = S_b^(1/2) and Q S_a Q, both symmetric (d, d), float64, on ``device``.

    Q S_a Q has the eigenvalues of S_a S_b, but is symmetric: a symmetric solver finds them, stably and on a GPU too.
    """
    check_width(len(a.mu), len(b.mu))
    sigma_a, sigma_b = (torch.from_numpy(s.sigma).to(device) for s in (a, b))
    values, vectors = torch.linalg.eigh(sigma_b)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root, root @ sigma_a @ root


def distance_of(a: Statistics, b: Statistics, eigenvalues: Tensor) -> float:
    """Return the distance from the ``eigenvalues`` (d,) of Q S_a Q; negative ones, which are rounding, count as 0."""
    shift = float(((a.mu - b.mu) ** 2).sum())
    return shift + float(np.trace(a.sigma) + np.trace(b.sigma)) - 2 * float(eigenvalues.clamp(min=0).sqrt().sum())


def check_width(own: int, reference: int) -> None:
    """:class:`UserError` unless samples and reference have equally many features."""
    if own != reference:
        raise UserError(
            f"statistics of {own} and {reference} features cannot be compared: evaluation.reference must come from "
            "evaluation.extractor"
        )
