"""Whether the tests of a claim's rule hold on a sweep's table (kinds and their meaning: experiments/study/claims.py).

A test ends as ``holds``, ``fails``, ``open`` (too few seeds, too noisy, or no matter at this scale) or ``not run`` (an arm
without an ended run). What makes each kind fail is what the sweeps' heads call refuted:

    ordered, difference   an adjacent pair the other way round, with an interval that excludes 0
    monotone              never: an order that breaks at one evaluation leaves it open
    ratio_within          the interval lies wholly above the factor
    below, above          the interval of the mean lies wholly on the other side (a diverged run's distance above any value)
    rises                 the interval of the rise lies wholly below 0
    diverges              no seed does
    trains                at least half of the seeds diverge
    slope, power_law, boundary_slope, best_slope    the interval lies wholly outside
    correlation           the interval lies wholly above
    floor                 as ordered, the arms in the order of their reconstruction distance

An arm with a diverged run has no mean: by distance it stands behind every arm that has one, other metrics are open;
correlations and power laws leave it out, and say so. Intervals of means are Student's, of differences Welch's. Slopes are of
means of logarithms over seeds: their intervals are Student's, from the pooled scatter of seeds about their means; those of
power laws and correlations resample seeds within each arm (1,000 times; analysis/slopes.py). A width whose largest or best
rate stands at the edge of its grid in half of the seeds or more is left out; fewer than three widths leave the test open.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.evidence import FAILS, FEWEST_SEEDS, HOLDS, NOT_RUN, OPEN, Evidence, Outcome
from analysis.slopes import best_slope, boundary_slope, correlation, power_law, slope


def decide(test: Mapping[str, Any], evidence: Evidence) -> Outcome:
    """Apply one test of a rule. KeyError for a kind that there is none of (:func:`check_claim` tells it before)."""
    arms: Sequence[str] = test.get("arms") or sorted(set(evidence.table["arm"]))
    absent = [arm for arm in arms if evidence.ended(arm).empty]
    if absent and test["kind"] not in ("correlation", "power_law"):
        return Outcome(NOT_RUN, f"no ended run of {', '.join(absent)}")
    return DECIDERS[test["kind"]](test, arms, evidence)


def verdict(rule: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> str:
    """``confirmed``, ``refuted``, ``undecided`` or ``not run``, by the tests that decide."""
    states = [outcome.state for test, outcome in zip(rule, outcomes, strict=True) if test["decides"]]
    if NOT_RUN in states:
        return NOT_RUN
    if FAILS in states:
        return "refuted"
    return "confirmed" if all(state == HOLDS for state in states) else "undecided"


def ordered(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """Each arm's mean below the next one's."""
    return joined([behind(a, b, evidence) for a, b in pairwise(arms)])


def behind(first: str, second: str, evidence: Evidence) -> Outcome:
    """Whether the second arm's mean lies above the first one's (Welch's interval of the difference)."""
    lost = [evidence.diverged(arm)[0] > 0 for arm in (first, second)]
    if any(lost) and not evidence.lower_is_better:
        return Outcome(OPEN, "runs diverged, so that there is nothing to compare")
    if any(lost):
        state = OPEN if all(lost) else FAILS if lost[0] else HOLDS
        return Outcome(
            state, f"{' and '.join(a for a, gone in zip((first, second), lost, strict=True) if gone)} diverged"
        )
    a, b = evidence.values(first), evidence.values(second)
    interval = welch(b, a, evidence.confidence)
    told = f"{second} - {first}: {b.mean() - a.mean():.4g}"
    if interval is None:
        return Outcome(OPEN, f"{told} ({len(b)} and {len(a)} seeds: too few)")
    state = HOLDS if interval[0] > 0 else FAILS if interval[1] < 0 else OPEN
    return Outcome(state, f"{told} ({interval[0]:.4g} to {interval[1]:.4g})")


def welch(a: NDArray[np.float64], b: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """Interval of mean(a) - mean(b); None for fewer than two values of either."""
    if min(len(a), len(b)) < FEWEST_SEEDS:
        return None
    if a.std() == b.std() == 0:
        return float(a.mean() - b.mean()), float(a.mean() - b.mean())
    found = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    return float(found.low), float(found.high)


def monotone(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """The means are in order at every evaluation that all arms have."""
    rows = evidence.table[evidence.table["arm"].isin(arms) & evidence.table["distance"].notna()]
    means = rows.pivot_table(index="step", columns="arm", values="distance").reindex(columns=list(arms)).dropna()
    broken = [int(step) for step, row in means.iterrows() if not row.is_monotonic_increasing]
    if means.empty or broken:
        return Outcome(OPEN, f"order broken at steps {broken}" if broken else "no evaluation in common")
    return Outcome(HOLDS, f"in order at all of {len(means)} evaluations")


def ratio_within(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Ratio of the first arm's mean to the second's, of logarithms."""
    if any(evidence.diverged(arm)[0] for arm in arms):
        return Outcome(FAILS if evidence.diverged(arms[0])[0] else OPEN, "an arm diverged")
    first, second = (np.log(evidence.values(arm)) for arm in arms)
    interval = welch(first, second, evidence.confidence)
    ratio = float(np.exp(first.mean() - second.mean()))
    if interval is None:
        return Outcome(OPEN, f"ratio {ratio:.4g} (too few seeds)")
    low, high, bound = float(np.exp(interval[0])), float(np.exp(interval[1])), test["within"]
    state = HOLDS if 1 / bound <= low and high <= bound else FAILS if low > bound else OPEN
    return Outcome(state, f"ratio {ratio:.4g} ({low:.4g} to {high:.4g}), bound {bound}")


def below(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Each arm's mean below a value, where the scale is one of the rule's."""
    return beside_value(test, arms, evidence, -1)


def above(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Each arm's mean above a value, where the scale is one of the rule's."""
    return beside_value(test, arms, evidence, 1)


def beside_value(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence, sign: int) -> Outcome:
    """Each arm's mean on one side of a value: 1 above, -1 below."""
    if evidence.study not in test["studies"]:
        return Outcome(OPEN, f"says nothing at scale {evidence.study}")
    column = test.get("of") or evidence.column
    lost = [arm for arm in arms if evidence.diverged(arm)[0]]
    if lost:
        behind_it = sign < 0 and column == "distance"
        return Outcome(FAILS if behind_it else OPEN, f"{', '.join(lost)} diverged")
    found = [of_mean(evidence.values(arm, column), evidence) for arm in arms]
    return joined(
        [on_side(sign, test["value"], f"{column} of {arm}", one) for arm, one in zip(arms, found, strict=True)]
    )


def rises(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """From the first evaluation to the last, each arm's mean over seeds rises."""
    column = test.get("of") or evidence.column
    lost = [arm for arm in arms if evidence.diverged(arm)[0]]
    if lost:
        return Outcome(OPEN, f"{', '.join(lost)} diverged")
    found = [of_mean(evidence.rises(arm, column), evidence) for arm in arms]
    return joined([on_side(1, 0.0, f"rise of {column} of {arm}", one) for arm, one in zip(arms, found, strict=True)])


Interval = tuple[float, tuple[float, float] | None]
"""A mean over seeds, and its interval; None if there are too few."""


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
    behind_it = high < value if sign > 0 else low > value
    shown = f"{what} {mean:.4g}" + (f" ({low:.4g} to {high:.4g})" if low < high else "")
    return Outcome(HOLDS if ahead else FAILS if behind_it else OPEN, f"{shown}, bound {value:.4g}")


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """All hold, or one fails."""
    states = {one.state for one in outcomes}
    state = FAILS if FAILS in states else HOLDS if states == {HOLDS} else OPEN
    return Outcome(state, "; ".join(one.told for one in outcomes))


def diverges(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """At least a share of the seeds of each arm."""
    counts = [evidence.diverged(arm) for arm in arms]
    shares = [lost / ended for lost, ended in counts]
    state = HOLDS if min(shares) >= test["share"] else FAILS if min(shares) == 0 else OPEN
    return Outcome(state, told_of(arms, counts))


def trains(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """A share of the seeds of each arm does not diverge."""
    counts = [evidence.diverged(arm) for arm in arms]
    shares = [1 - lost / ended for lost, ended in counts]
    state = HOLDS if min(shares) >= test["share"] else FAILS if min(shares) <= 0.5 else OPEN
    return Outcome(state, told_of(arms, counts))


def told_of(arms: Sequence[str], counts: Sequence[tuple[int, int]]) -> str:
    """Diverged runs in words."""
    return ", ".join(f"{arm}: {lost} of {ended} diverged" for arm, (lost, ended) in zip(arms, counts, strict=True))


def floor(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """The order by reconstruction distance is the order by the metric."""
    floors = {arm: evidence.values(arm, "reconstruction_distance") for arm in arms}
    if any(not len(values) for values in floors.values()):
        return Outcome(OPEN, "an arm has no reconstruction distance (it diverged, or evaluation.reconstruction=false)")
    outcome = ordered(test, sorted(arms, key=lambda arm: float(floors[arm].mean())), evidence)
    told = ", ".join(f"{arm} {values.mean():.4g}" for arm, values in floors.items())
    return Outcome(outcome.state, f"floors {told}; {outcome.told}")


DECIDERS: dict[str, Callable[[Mapping[str, Any], Sequence[str], Evidence], Outcome]] = {
    "ordered": ordered,
    "difference": ordered,
    "monotone": monotone,
    "ratio_within": ratio_within,
    "below": below,
    "above": above,
    "rises": rises,
    "diverges": diverges,
    "trains": trains,
    "slope": slope,
    "power_law": power_law,
    "boundary_slope": boundary_slope,
    "best_slope": best_slope,
    "correlation": correlation,
    "floor": floor,
}
