"""Means over seeds and what their intervals tell: Student's of one mean, Welch's of a difference or a ratio.

An order is also told by divergence, but only where it is plain: all seeds of one arm diverged and none of the other's. A
diverged run has the worst distance there is; of other metrics it tells nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.evidence import FAILS, FEWEST_SEEDS, HOLDS, OPEN, Evidence, Outcome
from analysis.power import MOST_SEEDS, seeds_for

Interval = tuple[float, tuple[float, float] | None]
"""A mean over seeds, and its interval; None if there are too few."""


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """All hold, or one fails."""
    states = {one.state for one in outcomes}
    state = FAILS if FAILS in states else HOLDS if states == {HOLDS} else OPEN
    return Outcome(state, "; ".join(one.told for one in outcomes))


def lost_of(arms: Sequence[str], evidence: Evidence) -> str:
    """Diverged seeds of the arms in words; empty if there are none."""
    counts = {arm: evidence.diverged(arm) for arm in arms}
    return ", ".join(f"{arm}: {lost} of {ended} diverged" for arm, (lost, ended) in counts.items() if lost)


def behind(first: str, second: str, evidence: Evidence) -> Outcome:
    """Whether the second arm's mean lies above the first one's."""
    if lost := lost_of((first, second), evidence):
        return Outcome(_by_divergence(first, second, evidence), lost)
    a, b = evidence.values(first), evidence.values(second)
    interval = welch(b, a, evidence.confidence)
    told = f"{second} - {first}: {b.mean() - a.mean():.4g}"
    if interval is None:
        return Outcome(OPEN, f"{told} ({len(b)} and {len(a)} seeds: too few)")
    state = HOLDS if interval[0] > 0 else FAILS if interval[1] < 0 else OPEN
    more = needed(a, b) if state == OPEN and evidence.lower_is_better else ""
    return Outcome(state, f"{told} ({interval[0]:.4g} to {interval[1]:.4g}{more})")


def needed(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    """How many seeds per arm find the ratio seen between two arms' distances, in words; empty if a distance is not positive.

    The ratio and the scatter of so few seeds are themselves uncertain: for planning, not a test (analysis/power.py).
    """
    if min(a.min(), b.min()) <= 0:
        return ""
    logs = [np.log(a), np.log(b)]
    effect = abs(float(logs[0].mean() - logs[1].mean()))
    scatter = pooled(logs)
    if not scatter:
        return ""
    try:
        seeds = str(seeds_for(effect, scatter))
    except ValueError:
        seeds = f"more than {MOST_SEEDS}"
    return f"; a ratio of {np.exp(effect):.4g} takes {seeds} seeds per arm"


def pooled(groups: Sequence[NDArray[np.float64]]) -> float:
    """The standard deviation that groups of at least two values, of which each has its own mean, have in common."""
    return float(np.sqrt(sum(one.var() * len(one) for one in groups) / sum(len(one) - 1 for one in groups)))


def _by_divergence(first: str, second: str, evidence: Evidence) -> str:
    """An order is plain if all seeds of one arm diverged, and none of the other's."""
    if not evidence.lower_is_better or evidence.planned < FEWEST_SEEDS:
        return OPEN
    (a, of_a), (b, of_b) = evidence.diverged(first), evidence.diverged(second)
    return HOLDS if (a, b) == (0, of_b) else FAILS if (a, b) == (of_a, 0) else OPEN


def ratio(first: str, second: str, bound: float, evidence: Evidence) -> Outcome:
    """Whether the first arm's geometric mean is at most ``bound`` times the second's."""
    if lost := lost_of((first, second), evidence):
        return Outcome(FAILS if _by_divergence(first, second, evidence) == FAILS else OPEN, lost)
    a, b = np.log(evidence.values(first)), np.log(evidence.values(second))
    interval = welch(a, b, evidence.confidence)
    value = float(np.exp(a.mean() - b.mean()))
    if interval is None:
        return Outcome(OPEN, f"{first} / {second}: {value:.4g} (too few seeds)")
    low, high = float(np.exp(interval[0])), float(np.exp(interval[1]))
    state = HOLDS if high <= bound else FAILS if low > bound else OPEN
    return Outcome(state, f"{first} / {second}: {value:.4g} ({low:.4g} to {high:.4g}), bound {bound}")


def welch(a: NDArray[np.float64], b: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """Interval of mean(a) - mean(b); None for fewer than two values of either."""
    if min(len(a), len(b)) < FEWEST_SEEDS:
        return None
    if a.std() == b.std() == 0:
        return float(a.mean() - b.mean()), float(a.mean() - b.mean())
    found = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    return float(found.low), float(found.high)


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
