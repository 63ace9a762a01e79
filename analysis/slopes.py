"""Tests of slopes and correlations over arms (see analysis/rules.py)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.evidence import FAILS, FEWEST_SEEDS, HOLDS, OPEN, Evidence, Outcome

REPLICATES = 1000
FEWEST_WIDTHS = 3

Points = dict[float, NDArray[np.float64]]
"""Logarithms of a quantity by x: one value per seed."""

Fit = Callable[[Points], tuple[float, tuple[float, float]]]
"""A number of points, and its interval."""


def slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Log-log slope of the metric against a column, over arms."""
    finished = [arm for arm in arms if len(evidence.values(arm))]
    points = {float(evidence.ended(arm)[test["x"]].median()): np.log(evidence.values(arm)) for arm in finished}
    return against_prediction(test, points, 2, lambda some: contrast_slope(some, evidence.confidence))


def against_prediction(test: Mapping[str, Any], points: Points, fewest: int, fit: Fit) -> Outcome:
    """A slope and its interval against what is predicted."""
    if too_few(points, fewest):
        return Outcome(OPEN, f"{len(points)} points with enough seeds: too few")
    value, (low, high) = fit(points)
    least, most = test["predicted"] - test["within"], test["predicted"] + test["within"]
    inside = least <= min(low, value) and max(high, value) <= most
    state = HOLDS if inside else FAILS if low > most or high < least else OPEN
    return Outcome(
        state, f"slope {value:.3g} ({low:.3g} to {high:.3g}), predicted {test['predicted']} within {test['within']}"
    )


def too_few(points: Points, fewest: int) -> bool:
    """Whether there are fewer than ``fewest`` points, or one without enough seeds."""
    return len(points) < fewest or min(len(values) for values in points.values()) < FEWEST_SEEDS


def contrast_slope(points: Points, confidence: float) -> tuple[float, tuple[float, float]]:
    """Log-log slope of the means over seeds, and its t-interval from the scatter of the seeds about them.

    The slope is a weighted sum of the means, so that its standard error follows from the variance of single seeds, pooled
    over points (equal scatter of the logarithms is assumed); degrees of freedom: values less points. How far the means lie
    from a line is not in it, nor is the step of a grid where values are taken from one: seeds that agree have no width.
    """
    x = np.log(np.array(list(points)))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    counts = np.array([len(values) for values in points.values()])
    means = np.array([values.mean() for values in points.values()])
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in points.values())
    freedom = int(counts.sum() - len(counts))
    value = float(weights @ means)
    error = float(np.sqrt(squares / freedom * (weights**2 / counts).sum()))
    half = error * float(stats.t.ppf((1 + confidence) / 2, freedom))
    return value, (value - half, value + half)


def fitted_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Least squares of y against log x."""
    return float(np.polyfit(np.log(x), y, 1)[0])


def fitted_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of y and log x."""
    return float(np.corrcoef(np.log(x), y)[0, 1])


def estimated(
    points: Points, statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float], confidence: float
) -> tuple[float, tuple[float, float]]:
    """A statistic of means over seeds, and its interval by a bootstrap over the seeds of each point.

    Each seed's deviation from its point's mean is first scaled by sqrt(n / (n - 1)), so that the resampled means scatter as
    means of n seeds do: with n = 3 the plain bootstrap is too narrow by a fifth.
    """
    generator = np.random.default_rng(0)
    x = np.array(list(points))
    spread = [scaled_about_mean(values) for values in points.values()]
    drawn = [
        statistic(x, np.array([generator.choice(values, len(values)).mean() for values in spread]))
        for _ in range(REPLICATES)
    ]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return statistic(x, np.array([values.mean() for values in points.values()])), (float(low), float(high))


def scaled_about_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (n,), n > 1, whose mean square deviation is their unbiased variance."""
    mean = values.mean()
    return mean + (values - mean) * np.sqrt(len(values) / (len(values) - 1))


def of_grid(test: Mapping[str, Any], evidence: Evidence, chosen: Callable[[pd.DataFrame], float | None]) -> Outcome:
    """Slope against a column of the rate that ``chosen`` takes of a seed's runs (None: it stands at the edge)."""
    last = evidence.table[evidence.table["status"].isin(["finished", "diverged"])].sort_values("step")
    last = last.groupby(["arm", "seed"], as_index=False).last()
    points: Points = {}
    for x, runs in last.groupby(test["x"]):
        rates = [chosen(of_seed) for _, of_seed in runs.groupby("seed")]
        inside = [rate for rate in rates if rate is not None]
        if 2 * len(inside) > len(rates):
            points[float(x)] = np.log(np.array(inside))
    return against_prediction(test, points, FEWEST_WIDTHS, lambda some: contrast_slope(some, evidence.confidence))


def boundary_slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """Of the largest rate that trains."""

    def largest(runs: pd.DataFrame) -> float | None:
        trained = runs[runs["status"] == "finished"][test["over"]]
        return None if trained.empty or trained.max() == runs[test["over"]].max() else float(trained.max())

    return of_grid(test, evidence, largest)


def best_slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """Of the rate with the lowest distance."""

    def best(runs: pd.DataFrame) -> float | None:
        finished = runs[runs["status"] == "finished"].dropna(subset=["distance"])
        if finished.empty:
            return None
        rate = float(finished.loc[finished["distance"].idxmin(), test["over"]])
        return None if rate in (runs[test["over"]].min(), runs[test["over"]].max()) else rate

    return of_grid(test, evidence, best)


def over_arms(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Points:
    """Logarithms of the metric by a column's last value, of all arms whose runs finished; arms of equal x together."""
    points: Points = {}
    for arm in arms:
        if len(values := evidence.values(arm)) and not evidence.diverged(arm)[0]:
            x = float(evidence.ended(arm)[test["x"]].max())
            points[x] = np.concatenate([points.get(x, np.zeros(0)), np.log(values)])
    return points


def correlation(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Of the logarithms of metric and a column, over arms."""
    points = over_arms(test, arms, evidence)
    if too_few(points, FEWEST_WIDTHS):
        return Outcome(OPEN, f"{len(points)} points with enough seeds: too few")
    value, (low, high) = estimated(points, fitted_correlation, evidence.confidence)
    state = HOLDS if high < test["below"] else FAILS if low > test["below"] else OPEN
    told = f"correlation {value:.3g} ({low:.3g} to {high:.3g}), bound {test['below']}"
    return Outcome(state, told + left_out(arms, evidence))


def power_law(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Exponent of the metric as a power of a column, over arms."""
    points = over_arms(test, arms, evidence)
    found = against_prediction(
        test, points, FEWEST_WIDTHS, lambda some: estimated(some, fitted_slope, evidence.confidence)
    )
    return Outcome(found.state, found.told + left_out(arms, evidence))


def left_out(arms: Sequence[str], evidence: Evidence) -> str:
    """Arms with diverged runs in words."""
    lost = [arm for arm in arms if evidence.diverged(arm)[0]]
    return f"; left out, as runs diverged: {', '.join(lost)}" if lost else ""
