"""Fréchet distance between feature statistics (torch-fidelity's arithmetic, float64).

Shapes: n images, d features.
"""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

from gat.errors import UserError
from gat.files import replacing
from gat.processes import ALONE, Processes


@dataclass(frozen=True)
class Statistics:
    """Mean ``mu`` (d,) and covariance ``sigma`` (d, d), float64, of the features of a set of images."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]


@torch.no_grad()
def feature_statistics(
    batches: Iterable[Tensor], extractor: FeatureExtractorBase, processes: Processes = ALONE
) -> Statistics:
    """Statistics of uint8 images (B, 3, P, P), in one pass and bounded memory; covariance divided by n - 1.

    With several ``processes`` each gives its part of the images (at least one), and all get the statistics of the whole.
    Raises :class:`UserError` for fewer than two images.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features = extractor(batch)[0].double()
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
    sigma = (processes.sum(products) - count * torch.outer(mean, mean)) / (count - 1)
    return Statistics((anchor + mean).cpu().numpy(), sigma.cpu().numpy())


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mu_a - mu_b|^2 + tr(sigma_a + sigma_b - 2 (sigma_a sigma_b)^(1/2)). :class:`UserError` for different features."""
    if a.mu.shape != b.mu.shape:
        raise UserError(
            f"statistics of {len(a.mu)} and {len(b.mu)} features cannot be compared: "
            "evaluation.reference must come from evaluation.extractor"
        )
    ours, theirs = ({"mu": s.mu, "sigma": s.sigma} for s in (a, b))
    return float(fid_statistics_to_metric(ours, theirs, verbose=False)[KEY_METRIC_FID])


def load_statistics(file: Path) -> Statistics:
    """Read ``mu`` and ``sigma`` of an ``.npz`` in ADM's form; :class:`UserError` if it has none."""
    try:
        with np.load(file) as arrays:
            mu, sigma = (np.asarray(arrays[key], np.float64) for key in ("mu", "sigma"))
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file}: no reference statistics ({error}): it must be an .npz with mu and sigma") from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise UserError(f"{file}: mu {mu.shape} and sigma {sigma.shape} do not fit: expected (d,) and (d, d)")
    return Statistics(mu, sigma)


def save_statistics(file: Path, statistics: Statistics) -> None:
    """Write ``mu`` and ``sigma`` as an ``.npz``, whole or not at all."""
    with replacing(file) as stream:
        np.savez(stream, mu=statistics.mu, sigma=statistics.sigma)
