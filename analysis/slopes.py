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
MOST_LEFT_OUT = 1  # arms
INSIDE = "inside"  # a grid

Points = dict[float, NDArray[np.float64]]
"""Logarithms of a quantity by x: one value per seed."""

Fit = Callable[[Points], tuple[float, tuple[float, float]]]
"""A number of points, and its interval."""

Chosen = Callable[[pd.DataFrame, str], tuple[float, str]]
"""A rate of a seed's runs at one width, a row each, and where in the grid it stands."""


def slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Log-log slope of the metric against a column, over arms."""
    if lost := left_out(arms, evidence):
        return Outcome(OPEN, lost.removeprefix("; "))
    points = {float(evidence.ended(arm)[test["x"]].median()): np.log(evidence.values(arm)) for arm in arms}
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


def contrast_slope(points: Points, confidence: float, grid_step: float = 1.0) -> tuple[float, tuple[float, float]]:
    """Log-log slope of the means over seeds, and its interval from the scatter of the seeds about them.

    The slope is a weighted sum of the means, so that its standard error follows from the variance of single seeds, pooled
    over points (equal scatter of the logarithms is assumed); Student's t with values less points degrees of freedom. How far
    the means lie from a line is not in it. ``grid_step``: the ratio of neighbours of a grid that the values are taken from:
    the truth may lie anywhere up to the next, for all seeds alike, which adds (log step)^2 / 12 to the variance of each mean.
    """
    x = np.log(np.array(list(points)))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    counts = np.array([len(values) for values in points.values()])
    means = np.array([values.mean() for values in points.values()])
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in points.values())
    freedom = int(counts.sum() - len(counts))
    value = float(weights @ means)
    of_seeds = float(np.sqrt(squares / freedom * (weights**2 / counts).sum())) * float(
        stats.t.ppf((1 + confidence) / 2, freedom)
    )
    of_grid = float(np.log(grid_step) * np.sqrt((weights**2).sum() / 12)) * float(stats.norm.ppf((1 + confidence) / 2))
    half = float(np.hypot(of_seeds, of_grid))
    return value, (value - half, value + half)


def fitted_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Least squares of y against log x."""
    centred = np.log(x) - np.log(x).mean()
    return float(centred @ y / (centred @ centred))


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


def largest(runs: pd.DataFrame, over: str) -> tuple[float, str]:
    """Of a seed's runs the largest ``over`` that trains, whatever lower ones did, and where in the grid it stands.

    That is ``inside``, or at its ``upper`` edge (it may lie higher); ``lower`` if none trains.
    """
    trained = runs.loc[runs["status"] == "finished", over]
    if trained.empty:
        return float(runs[over].min()), "lower"
    return float(trained.max()), "upper" if trained.max() == runs[over].max() else INSIDE


def best(runs: pd.DataFrame, over: str) -> tuple[float, str]:
    """The ``over`` with the lowest distance, and where in the grid it stands; ``lower`` if none has a distance.

    The ``distance`` of a diverged run must be missing.
    """
    trained = runs.dropna(subset=["distance"])
    if trained.empty:
        return float(runs[over].min()), "lower"
    rate = float(trained.loc[trained["distance"].idxmin(), over])
    return rate, "upper" if rate == runs[over].max() else "lower" if rate == runs[over].min() else INSIDE


def of_grid(test: Mapping[str, Any], evidence: Evidence, chosen: Chosen) -> Outcome:
    """Slope against a column of what ``chosen`` takes of a seed's runs; a width with a seed at the edge tells nothing."""
    ended = evidence.table[evidence.table["status"].isin(["finished", "diverged"])].sort_values("step", kind="stable")
    last = ended.groupby(["arm", "seed"]).tail(1)
    last = last.assign(distance=last["distance"].where(last["status"] == "finished"))
    points: Points = {}
    for x, runs in last.groupby(test["x"]):
        found = [chosen(of_seed, test["over"]) for _, of_seed in runs.groupby("seed")]
        if all(edge == INSIDE for _, edge in found):
            points[float(x)] = np.log(np.array([rate for rate, _ in found]))
    step = grid_step_of(last, test)
    return against_prediction(test, points, FEWEST_WIDTHS, lambda some: contrast_slope(some, evidence.confidence, step))


def grid_step_of(runs: pd.DataFrame, test: Mapping[str, Any]) -> float:
    """The largest ratio of neighbouring rates of any width; 1 if there are not two."""
    ratios = [
        float((np.sort(rates.unique())[1:] / np.sort(rates.unique())[:-1]).max())
        for _, rates in runs.groupby(test["x"])[test["over"]]
        if rates.nunique() > 1
    ]
    return max(ratios, default=1.0)


def boundary_slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """Of the largest rate that trains."""
    return of_grid(test, evidence, largest)


def best_slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """Of the rate with the lowest distance."""
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
    if many_lost(arms, evidence):
        return Outcome(OPEN, f"too much is missing{left_out(arms, evidence)}")
    if too_few(points, FEWEST_WIDTHS):
        return Outcome(OPEN, f"{len(points)} points with enough seeds: too few")
    value, (low, high) = estimated(points, fitted_correlation, evidence.confidence)
    state = HOLDS if high < test["below"] else FAILS if low > test["below"] else OPEN
    told = f"correlation {value:.3g} ({low:.3g} to {high:.3g}), bound {test['below']}"
    return Outcome(state, told + left_out(arms, evidence))


def power_law(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Exponent of the metric as a power of a column, over arms."""
    points = over_arms(test, arms, evidence)
    if many_lost(arms, evidence):
        return Outcome(OPEN, f"too much is missing{left_out(arms, evidence)}")
    found = against_prediction(
        test, points, FEWEST_WIDTHS, lambda some: estimated(some, fitted_slope, evidence.confidence)
    )
    return Outcome(found.state, found.told + left_out(arms, evidence))


def many_lost(arms: Sequence[str], evidence: Evidence) -> bool:
    """Whether more than one arm has diverged runs: what is left would flatter."""
    return sum(evidence.diverged(arm)[0] > 0 for arm in arms) > MOST_LEFT_OUT


def left_out(arms: Sequence[str], evidence: Evidence) -> str:
    """Arms with diverged runs in words."""
    lost = [arm for arm in arms if evidence.diverged(arm)[0]]
    return f"; left out, as runs diverged: {', '.join(lost)}" if lost else ""
