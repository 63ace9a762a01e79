"""Tests of slopes and correlations over arms (see analysis/rules.py)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.evidence import FAILS, FEWEST_SEEDS, HOLDS, OPEN, Evidence, Outcome

REPLICATES = 1000
FEWEST_WIDTHS = 3

Points = dict[float, NDArray[np.float64]]
"""Logarithms of a quantity by x: one value per seed."""


def slope(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Log-log slope of the metric against a column, over arms."""
    finished = [arm for arm in arms if len(evidence.values(arm))]
    points = {float(evidence.ended(arm)[test["x"]].median()): np.log(evidence.values(arm)) for arm in finished}
    return against_prediction(test, points, evidence, fewest=2)


def against_prediction(test: Mapping[str, Any], points: Points, evidence: Evidence, fewest: int) -> Outcome:
    """A slope and its interval against what is predicted."""
    if len(points) < fewest or min(len(values) for values in points.values()) < FEWEST_SEEDS:
        return Outcome(OPEN, f"{len(points)} points with enough seeds: too few")
    value, (low, high) = estimated(points, fitted_slope, evidence.confidence)
    least, most = test["predicted"] - test["within"], test["predicted"] + test["within"]
    state = (
        HOLDS
        if least <= min(low, value) and max(high, value) <= most
        else FAILS
        if low > most or high < least
        else OPEN
    )
    return Outcome(
        state, f"slope {value:.3g} ({low:.3g} to {high:.3g}), predicted {test['predicted']} within {test['within']}"
    )


def fitted_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Least squares of y against log x."""
    return float(np.polyfit(np.log(x), y, 1)[0])


def fitted_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of y and log x."""
    return float(np.corrcoef(np.log(x), y)[0, 1])


def estimated(
    points: Points, statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float], confidence: float
) -> tuple[float, tuple[float, float]]:
    """A statistic of means over seeds, and its interval by a bootstrap over the seeds of each point."""
    generator = np.random.default_rng(0)
    x = np.array(list(points))
    drawn = [
        statistic(x, np.array([generator.choice(values, len(values)).mean() for values in points.values()]))
        for _ in range(REPLICATES)
    ]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return statistic(x, np.array([values.mean() for values in points.values()])), (float(low), float(high))


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
    return against_prediction(test, points, evidence, FEWEST_WIDTHS)


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


def correlation(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Of the logarithms of metric and a column, over arms."""
    points = {
        float(evidence.ended(a)[test["x"]].max()): np.log(evidence.values(a)) for a in arms if len(evidence.values(a))
    }
    if len(points) < FEWEST_WIDTHS or min(len(values) for values in points.values()) < FEWEST_SEEDS:
        return Outcome(OPEN, f"{len(points)} points with enough seeds: too few")
    value, (low, high) = estimated(points, fitted_correlation, evidence.confidence)
    state = HOLDS if high < test["below"] else FAILS if low > test["below"] else OPEN
    return Outcome(state, f"correlation {value:.3g} ({low:.3g} to {high:.3g}), bound {test['below']}")


def power_law(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Exponent of the metric as a power of a column, over arms."""
    points = {
        float(evidence.ended(a)[test["x"]].max()): np.log(evidence.values(a)) for a in arms if len(evidence.values(a))
    }
    return against_prediction(test, points, evidence, FEWEST_WIDTHS)
