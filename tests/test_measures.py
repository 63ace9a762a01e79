"""Numbers about features: torch-fidelity's own arithmetic, closed forms, and whether the intervals tell the true scatter."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from gat.errors import UserError
from gat.evaluation.frechet import Statistics, root_and_product, statistics
from gat.evaluation.intervals import by_bootstrap
from gat.evaluation.measures import (
    Spectrum,
    frechet,
    frechet_influences,
    inception_score,
    kid,
    precision_recall,
)

WIDTH = 48
SCALES = np.arange(1, WIDTH + 1) ** -0.5  # a spectrum that falls off, as features' do


def draw(count: int, seed: int, shift: float = 0.0, gain: float = 1.0) -> Tensor:
    values = np.random.default_rng(seed).normal(size=(count, WIDTH)) * SCALES * gain + shift * SCALES
    return torch.from_numpy(values)


REFERENCE = statistics([draw(4000, seed=99)])


@pytest.mark.parametrize(("count", "rel"), [(30, 1e-7), (500, 1e-12)])
def test_frechet_is_torch_fidelitys_and_exact(count: int, rel: float) -> None:
    """Exact: tr (A A^T B B^T)^(1/2) is the sum of the singular values of A^T B, without a root of anything small.

    With fewer samples than features the covariance is singular, and rounding in its null space (1e-16) comes out as its root,
    of torch-fidelity and of ours alike, by how much depends on the processor.
    """
    features = draw(count, 1, shift=0.3, gain=1.2)
    ours = frechet(features, REFERENCE, "N-1").value
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(features), {"mu": REFERENCE.mu, "sigma": REFERENCE.sigma}, verbose=False
    )[KEY_METRIC_FID]
    mean = features.mean(dim=0).numpy()
    factor = (features.numpy() - mean) / np.sqrt(count - 1)
    root = np.linalg.svd(factor @ np.linalg.cholesky(REFERENCE.sigma), compute_uv=False).sum()
    exact = np.sum((mean - REFERENCE.mu) ** 2) + (factor**2).sum() + np.trace(REFERENCE.sigma) - 2 * root
    assert ours == pytest.approx(theirs, rel=rel)
    assert ours == pytest.approx(exact, rel=rel)


def test_influences_are_the_derivative_by_weight() -> None:
    """One sample counted once more, against the influence of that sample divided by the count."""
    features = draw(400, 2, shift=0.2, gain=1.1)
    own = statistics([features], covariance="N")
    root, product = root_and_product(own, REFERENCE, torch.device("cpu"))
    influences = frechet_influences(features, own, REFERENCE, Spectrum(root, *torch.linalg.eigh(product)))
    assert influences.mean() == pytest.approx(0, abs=1e-12)
    base = weighted(features, np.full(400, 1 / 400))
    for i in (0, 17, 399):
        step = 1e-5
        weights = np.full(400, (1 - step) / 400)
        weights[i] += step
        assert (weighted(features, weights) - base) / step == pytest.approx(influences[i], rel=1e-2, abs=1e-3)


def weighted(features: Tensor, weights: np.ndarray) -> float:
    """Distance of samples with ``weights`` that sum to 1, by scipy."""
    x = features.numpy()
    mu = weights @ x
    sigma = (x - mu).T @ ((x - mu) * weights[:, None])
    root = np.real(scipy.linalg.sqrtm(sigma @ REFERENCE.sigma))
    return float(np.sum((mu - REFERENCE.mu) ** 2) + np.trace(sigma + REFERENCE.sigma - 2 * root))


@pytest.mark.parametrize("count", [40, 400])
def test_interval_tells_the_scatter_of_independent_draws(count: int) -> None:
    """Half widths against 1.96 standard deviations over 60 draws; resampled images would lie far above the number."""
    draws = [frechet(draw(count, seed, 0.3, 1.2), REFERENCE, "N-1") for seed in range(60)]
    scatter = 1.96 * np.std([e.value for e in draws])
    half = np.mean([(e.interval[1] - e.interval[0]) / 2 for e in draws])
    assert 0.75 < half / scatter < 1.35
    features = draw(count, 0, 0.3, 1.2)
    rows = np.random.default_rng(0).integers(count, size=(20, count))
    resampled = [frechet(features[r], REFERENCE, "N-1").value for r in rows]
    assert np.mean(resampled) > draws[0].interval[1]


def test_small_samples_lie_above() -> None:
    """The bias of a small sample, which no interval shows."""
    small = np.mean([frechet(draw(50, seed), REFERENCE, "N-1").value for seed in range(10)])
    large = np.mean([frechet(draw(2000, seed), REFERENCE, "N-1").value for seed in range(10)])
    assert small > 5 * large


def kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / WIDTH + 1) ** 3


def test_kid_by_hand() -> None:
    a, b = draw(40, 1, shift=0.5), draw(60, 2)

    def within(x: Tensor) -> Tensor:
        k = kernel(x, x)
        return (k.sum(dim=1) - k.diagonal()) / (len(x) - 1)

    estimate = kid(a, b)
    assert estimate.value == pytest.approx(float(within(a).mean() + within(b).mean() - 2 * kernel(a, b).mean()))
    influences = 2 * (within(a) - kernel(a, b).mean(dim=1)).numpy()
    assert estimate.interval == pytest.approx(by_bootstrap(estimate.value, influences).interval)


def test_kid_is_torch_fidelitys_with_all_samples_in_each_subset() -> None:
    a, b = draw(50, 1, shift=0.5), draw(50, 2)
    settings = {"kid_subsets": 1, "kid_subset_size": 50, "verbose": False}
    assert kid(a, b).value == pytest.approx(kid_features_to_metric(a, b, **settings)[KEY_METRIC_KID_MEAN], rel=1e-9)


def test_kids_interval_tells_the_scatter_of_independent_draws() -> None:
    real = draw(1000, 98)
    draws = [kid(draw(300, seed, 0.3, 1.2), real) for seed in range(40)]
    scatter = 1.96 * np.std([e.value for e in draws])
    half = np.mean([(e.interval[1] - e.interval[0]) / 2 for e in draws])
    assert 0.75 < half / scatter < 1.35


def test_inception_score_by_hand() -> None:
    """Perfectly sure, all classes equally often: the number of classes. Never sure: 1."""
    sure = torch.eye(5).repeat(200, 1) * 30
    estimate = inception_score(sure[torch.randperm(1000, generator=torch.Generator().manual_seed(0))])
    assert estimate.value == pytest.approx(5, rel=0.15)  # splits of 10 samples do not have all classes equally often
    assert inception_score(torch.zeros(50, 5)).value == pytest.approx(1)


def test_precision_and_recall_by_hand() -> None:
    """Half of the samples among the real images, half far away; the real ones are two clouds, of which one is drawn."""
    first, second = draw(50, 1), draw(50, 2) + 100
    real = torch.cat([first, second])
    fake = torch.cat([first + 1e-4, draw(50, 3) - 100])
    precision, recall = precision_recall(fake, real)
    assert precision.value == pytest.approx(0.5)
    assert recall.value == pytest.approx(0.5)
    assert precision.interval_by == "Wilson"
    assert precision.interval[0] < 0.42 < 0.58 < precision.interval[1]


def test_statistics_of_other_features() -> None:
    with pytest.raises(UserError, match="statistics of 48 and 2 features cannot be compared"):
        frechet(draw(10, 0), Statistics(np.zeros(2), np.eye(2)), "N-1")
