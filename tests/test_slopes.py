"""Slopes over arms: against scipy where two points are two samples, and how often the intervals cover the truth."""

import numpy as np
import pytest
from scipy import stats

from analysis.slopes import Points, contrast_slope, estimated, fitted_correlation, fitted_slope, scaled_about_mean


def test_two_widths_are_two_samples() -> None:
    """Slope and interval are Student's difference of means, divided by the logarithm of the widths' ratio."""
    a, b = np.array([0.0, 0.1, 0.3]), np.array([0.7, 1.1, 0.9])
    slope, (low, high) = contrast_slope({64.0: a, 128.0: b}, 0.95)
    expected = stats.ttest_ind(b, a).confidence_interval(0.95)
    assert slope == pytest.approx((b.mean() - a.mean()) / np.log(2))
    assert (low, high) == pytest.approx((expected.low / np.log(2), expected.high / np.log(2)))


def test_exact_power_laws() -> None:
    points = {x: np.log(3 * x**-0.456 * np.ones(3)) for x in (1.0, 10.0, 1000.0)}
    for value, interval in (contrast_slope(points, 0.95), estimated(points, fitted_slope, 0.95)):
        assert (value, *interval) == pytest.approx((-0.456, -0.456, -0.456))
    assert estimated(points, fitted_correlation, 0.95)[0] == pytest.approx(-1.0)


def test_scaled_deviations_have_the_unbiased_variance() -> None:
    values = np.array([1.0, 2.0, 6.0])
    scaled = scaled_about_mean(values)
    assert scaled.mean() == pytest.approx(3.0)
    assert scaled.var() == pytest.approx(values.var(ddof=1))


def test_students_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Made-up seeds, three at each of two widths, 2,000 times."""
    generator = np.random.default_rng(0)

    def covers() -> bool:
        made: Points = {x: -0.5 * np.log(x) + 0.1 * generator.normal(size=3) for x in (64.0, 128.0)}
        _, (low, high) = contrast_slope(made, 0.95)
        return low <= -0.5 <= high

    assert np.mean([covers() for _ in range(2000)]) == pytest.approx(0.95, abs=0.015)


def test_bootstrap_scatters_as_the_means_do() -> None:
    """Half the 95% interval is 1.96 standard errors of the weighted sum of means, by hand."""
    x = 64.0 * 2.0 ** np.arange(12)
    generator = np.random.default_rng(1)
    points: Points = {one: 0.1 * generator.normal(size=3) for one in x}
    weights = (np.log(x) - np.log(x).mean()) / ((np.log(x) - np.log(x).mean()) ** 2).sum()
    error = np.sqrt(sum(w**2 * values.var(ddof=1) / 3 for w, values in zip(weights, points.values(), strict=True)))
    _, (low, high) = estimated(points, fitted_slope, 0.95)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_the_step_of_a_grid_widens_the_interval() -> None:
    """Seeds that agree, on a grid of factor 2, at widths 1, 2, 4: rounding error ln 2 / sqrt(12) of each of two ends."""
    points: Points = {x: np.zeros(3) for x in (1.0, 2.0, 4.0)}
    value, (low, high) = contrast_slope(points, 0.95, grid_step=2.0)
    half = 1.96 * np.log(2) / np.sqrt(12) * np.sqrt(2) / (2 * np.log(2))
    assert (value, low, high) == pytest.approx((0.0, -half, half), rel=1e-3)
