"""Means over seeds beside a bound, by Student's interval."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.evidence import FAILS, FEWEST_SEEDS, HOLDS, OPEN, SAME, Evidence, Levels, Outcome

Interval = tuple[float, tuple[float, float] | None]
"""A mean over seeds, and its interval; None if there are too few."""


def joined(outcomes: Sequence[Outcome], alpha: float) -> Outcome:
    """Return one outcome of several: all hold, or one fails, or all are equivalent.

    That all hold needs no correction (an intersection-union test: Berger, Technometrics 24, 1982). A failure of any one
    comparison of arms is tested with Bonferroni's correction: the smallest p-value times their number is at most ``alpha``.
    """
    states = {one.state for one in outcomes}
    compared = [one.levels for one in outcomes if one.levels is not None]
    levels = None
    if compared:
        behind = min(1.0, len(compared) * min(one.behind for one in compared))
        levels = Levels(max(one.ahead for one in compared), behind, max(one.same for one in compared))
    fails = any(one.state == FAILS for one in outcomes if one.levels is None) or (levels and levels.behind <= alpha)
    state = FAILS if fails else HOLDS if states == {HOLDS} else SAME if states == {SAME} else OPEN
    return Outcome(state, "; ".join(one.told for one in outcomes), levels)


def of_mean(values: NDArray[np.float64], evidence: Evidence) -> Interval:
    """Student's interval; of a single value, where the claim plans no more, the value itself."""
    if not len(values):
        return float("nan"), None
    mean = float(values.mean())
    if len(values) < min(FEWEST_SEEDS, evidence.planned):
        return mean, None
    if values.std() == 0:
        return mean, (mean, mean)
    low, high = stats.t.interval(evidence.confidence, len(values) - 1, loc=mean, scale=stats.sem(values))
    return mean, (float(low), float(high))


def on_side(sign: int, value: float, what: str, found: Interval) -> Outcome:
    """Whether an interval lies wholly above (1) or below (-1) a value."""
    mean, interval = found
    if interval is None:
        return Outcome(OPEN, f"{what} {mean:.4g} (too few seeds), bound {value:.4g}")
    low, high = interval
    ahead = low > value if sign > 0 else high < value
    beyond = high < value if sign > 0 else low > value
    shown = f"{what} {mean:.4g}" + (f" ({low:.4g} to {high:.4g})" if low < high else "")
    return Outcome(HOLDS if ahead else FAILS if beyond else OPEN, f"{shown}, bound {value:.4g}")
