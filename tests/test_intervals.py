"""Confidence intervals: against the normal and the binomial theory."""

import numpy as np
import pytest

from gat.evaluation.intervals import by_bootstrap, of_share


def test_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=400) * 3
    estimate = by_bootstrap(7.0, values)  # their own mean does not matter
    half = 1.96 * values.std() / 20
    assert estimate.interval == pytest.approx((7 - half, 7 + half), abs=0.15 * half)


def test_bootstrap_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    draws = [generator.exponential(size=100) for _ in range(100)]
    estimates = [by_bootstrap(float(x.mean()), x - x.mean()) for x in draws]
    covered = np.mean([e.interval[0] <= 1 <= e.interval[1] for e in estimates])
    assert 0.88 <= covered <= 0.99


def test_same_interval_again() -> None:
    assert by_bootstrap(0.0, np.arange(5.0)) == by_bootstrap(0.0, np.arange(5.0))


def test_wilson_by_hand() -> None:
    # p = 0.3, n = 50, z = 1.95996: centre (p + z^2 / 2n) / (1 + z^2 / n), half width by the formula
    z, p, n = 1.959964, 0.3, 50
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert of_share(0.3, 50).interval == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_a_share_of_zero_has_a_width() -> None:
    low, high = of_share(0.0, 100).interval
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.037, abs=1e-3)
