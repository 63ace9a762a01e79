"""Principal components of tokens, layer after layer, with signs and colours that do not jump (see analysis/pca_features.py).

Shapes: n samples, N tokens, d width, three components.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

COMPONENTS = 3
QUANTILES = (0.01, 0.99)
STILL = 1e-6  # of the largest score: less is rounding


@dataclass(frozen=True)
class Components:
    """Of a layer: ``loadings`` (d, 3), ``scores`` (M, 3) and shares (3,) of its ``variance``."""

    loadings: NDArray[np.float64]
    scores: NDArray[np.float64]
    variance: NDArray[np.float64]
    correlation: NDArray[np.float64]
    """(3,) with the components before; NaN in a first layer."""


def without_positions(tokens: Tensor) -> Tensor:
    """Tokens (n, N, d) less their mean over samples at each position; exactly 0 where all samples are equal."""
    moved = tokens.double() - tokens[:1].double()
    return moved - moved.mean(dim=0)


def sample_share(tokens: Tensor) -> float:
    """Share of the variance of tokens (n, N, d) that is not their position's; NaN if there is no variance."""
    whole = float(_centred(tokens.double().flatten(0, 1)).square().sum())
    return float(without_positions(tokens).square().sum()) / whole if whole else float("nan")


def components(tokens: Tensor) -> Components:
    """The three principal components of tokens (M, d), by variance; each one's largest loading is positive."""
    x = _centred(tokens.double())
    variances, vectors = torch.linalg.eigh(x.T @ x / len(x))
    loadings = vectors.flip(1)[:, :COMPONENTS]
    largest = loadings.gather(0, loadings.abs().argmax(dim=0, keepdim=True))
    loadings = loadings * torch.where(largest < 0, -1.0, 1.0)
    whole = float(variances.sum())
    shares = variances.flip(0)[:COMPONENTS].clamp(min=0) / (whole or 1)
    unknown = np.full(COMPONENTS, np.nan)
    return Components(loadings.cpu().numpy(), (x @ loadings).cpu().numpy(), shares.cpu().numpy(), unknown)


def matched(layers: list[Components]) -> list[Components]:
    """The same, ordered and signed layer by layer as the docstring says."""
    found: list[Components] = []
    for layer in layers:
        found.append(_after(found[-1], layer) if found and found[-1].scores.any() else layer)
    return found


def _after(before: Components, layer: Components) -> Components:
    r = _correlations(before.scores, layer.scores)
    _, order = linear_sum_assignment(-np.abs(r))
    own = r[np.arange(COMPONENTS), order]
    sign = np.where(own < 0, -1.0, 1.0)
    return Components(
        layer.loadings[:, order] * sign, layer.scores[:, order] * sign, layer.variance[order], np.abs(own)
    )


def _correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column of centred a (M, 3) with each of b: (3, 3); 0 with one that does not vary."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=0), np.finfo(float).tiny) for x in (a, b))
    return a.T @ b


def colours(scores: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scores (M, 3) as RGB (M, 3): each column from its 1% to its 99% quantile, and grey if it does not vary."""
    low, high = np.quantile(scores, QUANTILES, axis=0)
    varies = high - low > STILL * np.abs(scores).max()
    scaled = (scores - low) / np.where(varies, high - low, 1)
    return np.rint(255 * np.where(varies, scaled, 0.5).clip(0, 1)).astype(np.uint8)


def _centred(tokens: Tensor) -> Tensor:
    """(M, d) less its mean; exactly 0 where all are equal."""
    moved = tokens - tokens[:1]
    return moved - moved.mean(dim=0)
