"""Slopes over arms: against scipy where two points are two samples, how often intervals cover the truth, and their rules."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.evidence import FAILS, HOLDS, NOT_RUN, OPEN, Evidence
from analysis.rules import decide
from analysis.slopes import Points, contrast_slope, estimated, fitted_correlation, fitted_slope, scaled_about_mean
from tests.made_up_evidence import SEEDS, A, evidence, runs, state


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


def power(exponent: float, noise: float = 0.0) -> list[dict[str, Any]]:
    """Three seeds at each of five widths, distance = 3 width^exponent."""
    generator = np.random.default_rng(0)
    rows = []
    for width in (64, 128, 256, 512, 1024):
        values = 3 * width**exponent * np.exp(noise * generator.normal(size=SEEDS))
        rows += runs(f"w{width}", list(values), x=width)
    return rows


@pytest.mark.parametrize(
    ("exponent", "noise", "expected"), [(-0.5, 0.01, HOLDS), (0.5, 0.01, FAILS), (-0.5, 0.3, OPEN)]
)
@pytest.mark.parametrize("kind", ["slope", "power_law"])
def test_power_laws_of_known_exponent(kind: str, exponent: float, noise: float, expected: str) -> None:
    test: dict[str, Any] = {"kind": kind, "x": "x", "predicted": -0.5, "within": 0.1}
    outcome = decide(test, evidence(power(exponent, noise)))
    assert outcome.state == expected
    if noise < 0.1:
        assert float(outcome.told.split()[1]) == pytest.approx(exponent, abs=0.01)


def test_correlation() -> None:
    test = {"kind": "correlation", "x": "x", "below": -0.8}
    assert state(test, evidence(power(-0.5, 0.01))) == HOLDS
    assert state(test, evidence(power(0.5, 0.01))) == FAILS
    assert state(test, evidence(power(-0.5, 1.0))) == OPEN


@pytest.mark.parametrize("kind", ["correlation", "power_law"])
def test_arms_with_diverged_runs_are_left_out(kind: str) -> None:
    """Survivors would flatter: an arm that loses one of three seeds does not count."""
    lost = runs("lost", [1e6, 1e6], x=64) + runs("lost", None, x=64)[2:]
    test = {"kind": kind, "x": "x", "below": -0.8, "predicted": -0.5, "within": 0.1}
    outcome = decide(test, evidence(power(-0.5, 0.01), lost))
    assert outcome.state == HOLDS
    assert outcome.told.endswith("; left out, as runs diverged: lost")
    also = [row | {"arm": "also"} for row in lost]
    assert state(test, evidence(power(-0.5, 0.01), lost, also)) == OPEN  # more than one arm: what is left would flatter
    missing = runs("missing", A, status="failed", x=64)
    outcome = decide(test, evidence(power(-0.5, 0.01), missing))
    assert (outcome.state, outcome.told) == (NOT_RUN, "no ended run of missing (3 failed)")


def test_steps_are_averaged_geometrically() -> None:
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "status": "finished",
            "end": step == 2,
            "step": step,
            "change": change * factor,
            "width": width,
        }
        for arm, width, change in (("a", 64, 1.0), ("b", 128, 2.0))
        for seed in range(SEEDS)
        for step, factor in ((1, 0.1), (2, 10.0))
    ]
    given = evidence(rows, metric="change", at="steps")
    assert given.values("b") == pytest.approx([2.0] * SEEDS)
    assert state({"kind": "slope", "arms": ["a", "b"], "x": "width", "predicted": 1.0, "within": 0.25}, given) == HOLDS


def grid(limits: dict[int, float], best: dict[int, float], factor: float) -> Evidence:
    """Rates from 1 by a factor to 64 at each width: beyond the limit they diverge; the best is the lowest distance."""
    rows = []
    for width, limit in limits.items():
        for k in range(int(np.log(64) / np.log(factor)) + 1):
            rate = factor**k
            value = None if rate > limit else [10 + abs(np.log2(rate / best[width]))] * SEEDS
            rows += runs(f"w{width}-{rate}", value, width=width, lr=float(rate))
    return evidence(rows)


@pytest.mark.parametrize("kind", ["boundary_slope", "best_slope"])
@pytest.mark.parametrize(("slope", "expected"), [(-1.0, {HOLDS}), (0.0, {FAILS}), (-0.4, {OPEN, FAILS})])
def test_rates_of_a_grid(kind: str, slope: float, expected: set[str]) -> None:
    """Widths over a factor of 4, on a grid by the root of 2: rounding alone is worth 0.24."""
    test = {"kind": kind, "x": "width", "over": "lr", "predicted": -1.0, "within": 0.5}
    limits = {width: 30 * (width / 64) ** slope for width in (64, 128, 256)}
    given = grid(limits, {width: limit / 3 for width, limit in limits.items()}, 2**0.5)
    assert state(test, given) in expected
    coarse = grid(limits, {width: limit / 3 for width, limit in limits.items()}, 4.0)
    assert state(test, coarse) == OPEN  # rounding is worth more than 0.5


@pytest.mark.parametrize("kind", ["boundary_slope", "best_slope"])
def test_edges_of_a_grid_tell_nothing(kind: str) -> None:
    """The largest rate of all trains, or is the best, in one seed: it may lie beyond."""
    test = {"kind": kind, "x": "width", "over": "lr", "predicted": -1.0, "within": 0.5}
    edge = {64: 64.0, 128: 8.0, 256: 4.0}
    outcome = decide(test, grid(edge, edge, 2**0.5))
    assert (outcome.state, outcome.told) == (OPEN, "2 points with enough seeds: too few")
