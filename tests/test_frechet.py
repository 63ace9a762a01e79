"""The Fréchet distance: streamed statistics against numpy, distances against closed forms, and files."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.errors import UserError
from gat.evaluation.frechet import Statistics, feature_statistics, frechet_distance


class Colours(FeatureExtractorBase):
    """Features of a one-pixel image: its three colours times ``gain``, plus ``offset``."""

    def __init__(self, gain: float = 1.0, offset: float = 0.0) -> None:
        super().__init__("colours", ["3"])
        self.gain, self.offset = gain, offset

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("3",)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (images.flatten(1).double() * self.gain + self.offset,)


def images(count: int) -> Tensor:
    return torch.randint(256, (count, 3, 1, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def statistics(mu: Any, sigma: Any) -> Statistics:
    return Statistics(np.array(mu, np.float64), np.array(sigma, np.float64))


def random_statistics(width: int, seed: int) -> Statistics:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4 * width, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    return Statistics(features.mean(axis=0), np.cov(features, rowvar=False))


# statistics


@pytest.mark.parametrize("batch_size", [1, 2, 7, 50, 100])
def test_statistics_equal_numpy(batch_size: int) -> None:
    everything = images(50)
    ours = feature_statistics(everything.split(batch_size), Colours())
    features = everything.flatten(1).double().numpy()
    assert ours.mu.dtype == ours.sigma.dtype == np.float64
    np.testing.assert_allclose(ours.mu, features.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(ours.sigma, np.cov(features, rowvar=False), rtol=1e-12)


def test_covariance_by_hand() -> None:
    pixels = torch.tensor([[1, 0, 5], [3, 4, 5]], dtype=torch.uint8).view(2, 3, 1, 1)
    ours = feature_statistics([pixels], Colours())
    assert ours.mu.tolist() == [2, 2, 5]
    assert ours.sigma.tolist() == [[2, 4, 0], [4, 8, 0], [0, 0, 0]]  # divided by n - 1 = 1


def test_no_cancellation_far_from_zero() -> None:
    """A million deviations from zero, the naive sum of squares has lost the covariance."""
    near, far = (feature_statistics(images(50).split(8), Colours(1e-3, offset)) for offset in (0.0, 1e5))
    np.testing.assert_allclose(far.sigma, near.sigma, rtol=1e-6)


def test_statistics_need_two_images() -> None:
    for count in (0, 1):
        with pytest.raises(UserError, match=f"{count} images have no covariance: use at least 2 samples"):
            feature_statistics(images(count).split(1) if count else [], Colours())


# distance


def test_one_dimension_by_hand() -> None:
    # (1 - 4)^2 + (2 - 3)^2
    assert frechet_distance(statistics([1], [[4]]), statistics([4], [[9]])) == pytest.approx(10)


def test_diagonal_by_hand() -> None:
    a = statistics([0, 1, 2], np.diag([1, 4, 9]))
    b = statistics([1, 1, 0], np.diag([4, 4, 16]))
    assert frechet_distance(a, b) == pytest.approx((1 + 0 + 4) + (1 + 0 + 1))


def test_covariances_that_do_not_commute_by_hand() -> None:
    # the product [[2, 4], [1, 8]] has trace 10 and determinant 12: its root has trace sqrt(10 + 2 sqrt 12)
    a, b = statistics([0, 0], [[2, 1], [1, 2]]), statistics([0, 0], [[1, 0], [0, 4]])
    expected = 4 + 5 - 2 * np.sqrt(10 + 2 * np.sqrt(12))
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


@pytest.mark.parametrize("width", [2, 16, 64])
def test_distance_equals_the_closed_form(width: int) -> None:
    a, b = random_statistics(width, 1), random_statistics(width, 2)
    root = scipy.linalg.sqrtm(a.sigma @ b.sigma)
    expected = np.sum((a.mu - b.mu) ** 2) + np.trace(a.sigma + b.sigma - 2 * np.real(root))
    assert expected > 1
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_distance_to_itself_is_zero() -> None:
    for a in (random_statistics(16, 1), feature_statistics([images(3)], Colours())):  # the latter of rank 2
        assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6 * np.trace(a.sigma))


def test_statistics_of_another_width() -> None:
    with pytest.raises(
        UserError, match=r"statistics of 3 and 2 features cannot be compared: evaluation\.reference must"
    ):
        frechet_distance(random_statistics(3, 0), random_statistics(2, 0))


def test_biased_covariance() -> None:
    """The release in training divides by N."""
    pixels = images(9)
    unbiased = feature_statistics([pixels], Colours())
    biased = feature_statistics(pixels.split(4), Colours(), covariance="N")
    np.testing.assert_allclose(biased.sigma, unbiased.sigma * 8 / 9, rtol=1e-12)
    assert np.array_equal(biased.mu, unbiased.mu)
