"""Two arms compared: order, ratio and equivalence of their metric, by p-values that account for looks (analysis/rules.py).

Distances are compared as logarithms, so that differences are ratios; other metrics as they are. Welch's t decides
(Biometrika 34, 1947), as the scatter of arms is unequal; the interval by pooled variance (Student's) is reported beside it.
Equivalence is two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987). Where runs diverged, arms are compared
by ranks, with diverged runs tied as the worst (Mann and Whitney, Ann. Math. Stat. 18, 1947; p by permutation).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.evidence import FAILS, FEWEST_SEEDS, HOLDS, OPEN, SAME, Evidence, Levels, Outcome
from experiments.study.power import MOST_SEEDS, seeds_for

Values = NDArray[np.float64]
RESAMPLES = 20_000  # exact up to 8 seeds per arm, with 12,870 permutations


@dataclass(frozen=True)
class Difference:
    """Difference of two arms' means, with its standard error and degrees of freedom."""

    value: float
    error: float
    freedom: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return Student's interval."""
        half = float(special.stdtrit(self.freedom, (1 + confidence) / 2)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def above(self, bound: float) -> float:
        """Return the two-sided p-value that speaks for a true difference above ``bound``; 1 if the estimate lies below."""
        if self.value <= bound:
            return 1.0
        return float(2 * special.stdtr(self.freedom, (bound - self.value) / self.error)) if self.error else 0.0

    def below(self, bound: float) -> float:
        """Return the two-sided p-value that speaks for a true difference below ``bound``."""
        return Difference(-self.value, self.error, self.freedom).above(-bound)


def welch(a: Values, b: Values) -> Difference | None:
    """Return mean(a) - mean(b), each with its own variance; None for fewer than two values of either."""
    if min(len(a), len(b)) < FEWEST_SEEDS:
        return None
    parts = [float(one.var(ddof=1)) / len(one) for one in (a, b)]
    variance = sum(parts)
    freedom = sum(part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True))
    return Difference(float(a.mean() - b.mean()), math.sqrt(variance), variance**2 / freedom if freedom else 1.0)


def student(a: Values, b: Values) -> Difference:
    """Return mean(a) - mean(b) with one variance for both."""
    error = pooled([a, b]) * math.sqrt(1 / len(a) + 1 / len(b))
    return Difference(float(a.mean() - b.mean()), error, len(a) + len(b) - 2)


def pooled(groups: Sequence[Values]) -> float:
    """Return the standard deviation that groups of at least two values, of which each has its own mean, have in common."""
    return float(np.sqrt(sum(one.var() * len(one) for one in groups) / sum(len(one) - 1 for one in groups)))


def lost_of(arms: Sequence[str], evidence: Evidence) -> str:
    """Return the diverged seeds of the arms in words; empty if there are none."""
    counts = {arm: evidence.diverged(arm) for arm in arms}
    return ", ".join(f"{arm}: {lost} of {ended} diverged" for arm, (lost, ended) in counts.items() if lost)


def by_ranks(first: str, second: str, evidence: Evidence) -> Outcome:
    """Decide an order of two arms with diverged runs, by Mann and Whitney's test with those runs tied as the worst."""
    told = lost_of((first, second), evidence)
    if not evidence.lower_is_better:
        return Outcome(OPEN, told, Levels())
    a, b = (np.append(evidence.compared(arm), [np.inf] * evidence.diverged(arm)[0]) for arm in (first, second))
    found = stats.mannwhitneyu(a, b, method=stats.PermutationMethod(RESAMPLES, rng=np.random.default_rng(0)))
    p = evidence.p_value(float(found.pvalue))
    better = found.statistic < len(a) * len(b) / 2
    levels = Levels(p if better else 1.0, 1.0 if better else p)
    state = HOLDS if levels.ahead <= evidence.alpha else FAILS if levels.behind <= evidence.alpha else OPEN
    return Outcome(state, f"{told} (p {p:.2g})", levels)


def ordered(first: str, second: str, margin: float | None, evidence: Evidence) -> Outcome:
    """Return whether the second arm lies above the first; with a ``margin``, a ratio, also whether they are equivalent."""
    if lost_of((first, second), evidence):
        return by_ranks(first, second, evidence)
    if told := evidence.windows_differ(first, second):
        return Outcome(OPEN, told, Levels())
    a, b = (evidence.compared(arm) for arm in (first, second))
    if (found := welch(b, a)) is None:
        told = f"{first}: {len(a)}, {second}: {len(b)} seeds with a number: too few"
        return Outcome(OPEN, told, Levels())
    same = 1.0
    if margin is not None:
        bound = math.log(margin)
        outside = max(found.above(-bound), found.below(bound))
        same = evidence.p_value(outside) / 2 if outside < 1 else 1.0
    levels = Levels(evidence.p_value(found.above(0.0)), evidence.p_value(found.below(0.0)), same)
    alpha = evidence.alpha
    state = HOLDS if levels.ahead <= alpha else FAILS if levels.behind <= alpha else SAME if same <= alpha else OPEN
    told = _told(_named(first, second, found.value, evidence), found, student(b, a), evidence)
    told += f", equivalent within {margin:g}" if same <= alpha else ""
    told += _needed(a, b) if state == OPEN and evidence.lower_is_better else ""
    return Outcome(state, told, levels)


def at_most(first: str, second: str, bound: float, evidence: Evidence) -> Outcome:
    """Return whether the first arm's geometric mean is at most ``bound`` times the second's."""
    if lost_of((first, second), evidence):
        outcome = by_ranks(first, second, evidence)
        behind = outcome.levels.behind if outcome.levels else 1.0
        return Outcome(FAILS if outcome.state == FAILS else OPEN, outcome.told, Levels(behind=behind))
    if told := evidence.windows_differ(first, second):
        return Outcome(OPEN, told, Levels())
    a, b = (evidence.compared(arm) for arm in (first, second))
    if (found := welch(a, b)) is None:
        return Outcome(OPEN, f"{first}: {len(a)}, {second}: {len(b)} seeds with a number: too few", Levels())
    edge = math.log(bound)
    levels = Levels(evidence.p_value(found.below(edge)), evidence.p_value(found.above(edge)))
    state = HOLDS if levels.ahead <= evidence.alpha else FAILS if levels.behind <= evidence.alpha else OPEN
    low, high = (math.exp(one) for one in found.interval(evidence.confidence))
    told = f"{first} / {second}: {math.exp(found.value):.4g} ({low:.4g} to {high:.4g}), bound {bound}"
    return Outcome(state, told, levels)


def _named(first: str, second: str, value: float, evidence: Evidence) -> str:
    """Return ``second / first: 1.5`` for distances, ``second - first: 0.5`` for other metrics."""
    return (
        f"{second} / {first}: {math.exp(value):.4g}" if evidence.lower_is_better else f"{second} - {first}: {value:.4g}"
    )


def _told(what: str, found: Difference, beside: Difference, evidence: Evidence) -> str:
    """Return in words the interval that decides, the pooled one, and the p-value over all looks."""
    shown = []
    for one in (found, beside):
        low, high = one.interval(evidence.confidence)
        low, high = (math.exp(low), math.exp(high)) if evidence.lower_is_better else (low, high)
        shown.append(f"{low:.4g} to {high:.4g}")
    p = evidence.p_value(min(found.above(0.0), found.below(0.0)))
    return f"{what} ({shown[0]}; pooled {shown[1]}; p {p:.2g})"


def _needed(a: Values, b: Values) -> str:
    """Return in words how many seeds per arm find the ratio seen: for planning, not a test (experiments/study/power.py)."""
    effect, scatter = abs(float(a.mean() - b.mean())), pooled([a, b])
    if not scatter:
        return ""
    try:
        seeds = f"{seeds_for(effect, scatter)}"
    except ValueError:
        seeds = f"more than {MOST_SEEDS}"
    return f"; such a ratio takes {seeds} seeds per arm"
