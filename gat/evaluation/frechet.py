"""Fréchet distance between feature statistics (torch-fidelity's arithmetic, float64).

Shapes: n images, d features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

from gat.errors import UserError
from gat.processes import ALONE, Processes


@dataclass(frozen=True)
class Statistics:
    """Mean ``mu`` (d,) and covariance ``sigma`` (d, d), float64, of the features of a set of images."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]


@torch.no_grad()
def feature_statistics(
    batches: Iterable[Tensor],
    extractor: FeatureExtractorBase,
    processes: Processes = ALONE,
    *,
    covariance: str = "N-1",
) -> Statistics:
    """:func:`statistics` of the features of uint8 images (B, 3, P, P)."""
    return statistics((extractor(batch)[0] for batch in batches), processes, covariance=covariance)


def statistics(batches: Iterable[Tensor], processes: Processes = ALONE, *, covariance: str = "N-1") -> Statistics:
    """Statistics of features (B, d), in one pass and bounded memory; ``covariance``: divided by ``N-1`` or ``N``.

    With several ``processes`` each gives its part of the images (at least one), and all get the statistics of the whole.
    Raises :class:`UserError` for fewer than two images.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features = batch.double()
        if count == 0:
            anchor = processes.from_main(features.mean(dim=0))  # moments about a point near the mean: no cancellation
            total, products = torch.zeros_like(anchor), features.new_zeros(len(anchor), len(anchor))
        moved = features - anchor
        total += moved.sum(dim=0)
        products += moved.T @ moved
        count += len(batch)
    count = int(processes.sum(torch.tensor(count)))
    if count < 2:
        raise UserError(f"{count} images have no covariance: use at least 2 samples")
    mean = processes.sum(total) / count
    sigma = (processes.sum(products) - count * torch.outer(mean, mean)) / divisor(count, covariance)
    return Statistics((anchor + mean).cpu().numpy(), sigma.cpu().numpy())


def divisor(count: int, covariance: str) -> int:
    """What a covariance of ``count`` samples is divided by."""
    return count if covariance == "N" else count - 1


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mu_a - mu_b|^2 + tr(sigma_a + sigma_b - 2 (sigma_a sigma_b)^(1/2)). :class:`UserError` for different features."""
    check_width(len(a.mu), len(b.mu))
    ours, theirs = ({"mu": s.mu, "sigma": s.sigma} for s in (a, b))
    return float(fid_statistics_to_metric(ours, theirs, verbose=False)[KEY_METRIC_FID])


def check_width(own: int, reference: int) -> None:
    """:class:`UserError` unless samples and reference have equally many features."""
    if own != reference:
        raise UserError(
            f"statistics of {own} and {reference} features cannot be compared: evaluation.reference must come from "
            "evaluation.extractor"
        )
