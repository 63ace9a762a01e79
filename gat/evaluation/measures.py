"""Numbers about generated features, each with its interval (:mod:`gat.evaluation.intervals`).

Shapes: n generated samples, m real images, d features, c classes. The real images count as given: intervals tell the scatter
of the samples alone, but for recall, a share of the real images.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from gat.evaluation.frechet import Statistics, distance_of, root_and_product, statistics
from gat.evaluation.intervals import Estimate, by_bootstrap, of_share

CHUNK = 2_000  # rows at a time: bounds memory
NEIGHBOURS = 3  # of the improved precision and recall (Kynkaanniemi et al.) and of ADM's
SPLITS = 10  # of the Inception Score
RANK_TOLERANCE = 1e-10


def frechet(features: Tensor, reference: Statistics, covariance: str) -> Estimate:
    """Return the Fréchet distance of features (n, d) to the reference's statistics, computed on the features' device."""
    own = statistics(features.split(CHUNK), covariance=covariance)
    root, product = root_and_product(own, reference, features.device)
    spectrum = Spectrum(root, *torch.linalg.eigh(product))
    influences = frechet_influences(features, own, reference, spectrum)
    return by_bootstrap(distance_of(own, reference, spectrum.values), influences)


class Spectrum(NamedTuple):
    """R^1/2 ``root`` (d, d), and eigenvalues ``values`` (d,), eigenvectors ``vectors`` (d, d) of R^1/2 S R^1/2."""

    root: Tensor
    values: Tensor
    vectors: Tensor


def frechet_influences(
    features: Tensor, own: Statistics, reference: Statistics, spectrum: Spectrum
) -> NDArray[np.float64]:
    """Return influences (n,): 2 (mu - m) (x - mu) + (x - mu)' (1 - T) (x - mu), less its mean; T: optimal map from S to R.

    With mu, S of the samples and m, R of the reference, T = R^1/2 (R^1/2 S R^1/2)^-1/2 R^1/2 is the gradient of
    2 tr (R^1/2 S R^1/2)^1/2 by S. Where S is singular (n <= d) the inverse is taken on its range, in which the samples lie.
    """
    device, (root, values, vectors) = features.device, spectrum
    mu, m = (torch.from_numpy(s.mu).to(device) for s in (own, reference))
    present = values > RANK_TOLERANCE * values.max()
    inverse_root = torch.where(present, values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
    curvature = torch.eye(len(mu), dtype=mu.dtype, device=device) - root @ (vectors * inverse_root) @ vectors.T @ root
    parts = []
    for batch in features.split(CHUNK):
        moved = batch.double() - mu
        parts.append(2 * moved @ (mu - m) + ((moved @ curvature) * moved).sum(dim=1))
    return centred(torch.cat(parts))


def inception_score(logits: Tensor) -> Estimate:
    """Inception Score of class logits (n, c): the mean over 10 splits (at least 10 samples)."""
    value = isc_features_to_metric(logits.cpu(), splits=SPLITS)[KEY_METRIC_ISC_MEAN]
    log_p = logits.double().log_softmax(dim=1)
    divergence = (log_p.exp() * (log_p - log_p.exp().mean(dim=0).log())).sum(dim=1)
    return by_bootstrap(value, value * centred(divergence))


def kid(features: Tensor, real: Tensor) -> Estimate:
    """Kernel distance of features (n, d) and (m, d): the unbiased estimate from all pairs, kernel (x y / d + 1)^3.

    torch-fidelity's is the mean of the same estimate over 100 random subsets, whose own scatter this one does not have. Near
    0 the interval is too narrow (there the second order counts).
    """
    within, across = kernel_means(features, features), kernel_means(features, real)
    value = float(within.mean() - 2 * across.mean() + kernel_means(real, real).mean())
    return by_bootstrap(value, 2 * centred(within - across))


def kernel_means(features: Tensor, others: Tensor) -> Tensor:
    """(n,): mean kernel of each of features (n, d) with ``others`` (m, d), without itself if these are the same."""
    count, d = len(others), features.shape[1]
    parts = []
    for batch in features.split(CHUNK):
        sums = torch.stack([((batch @ o.T / d + 1) ** 3).sum(dim=1, dtype=torch.float64) for o in others.split(CHUNK)])
        parts.append(sums.sum(dim=0))
    total = torch.cat(parts)
    if others is not features:
        return total / count
    return (total - (features.square().sum(dim=1) / d + 1).double() ** 3) / (count - 1)


def precision_recall(features: Tensor, real: Tensor) -> tuple[Estimate, Estimate]:
    """Improved precision and recall of features (n, d) and (m, d), 3 neighbours (at least 4 images)."""
    settings: dict[str, Any] = {"prc_neighborhood": NEIGHBOURS, "save_cpu_ram": True, "verbose": False}
    told = prc_features_to_metric(features, real, **settings)
    precision, recall = told[KEY_METRIC_PRECISION], told[KEY_METRIC_RECALL]
    return of_share(precision, len(features)), of_share(recall, len(real))


def centred(values: Tensor) -> NDArray[np.float64]:
    """Less their mean."""
    return np.asarray((values - values.mean()).double().cpu().numpy(), np.float64)
