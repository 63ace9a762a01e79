"""Whether the tests of a claim's rule hold on a sweep's table (kinds and their meaning: experiments/study/claims.py).

A test ends as ``holds``, ``fails``, ``equivalent``, ``open``, ``silent`` (the rule says nothing at this scale; it does not
count) or ``not run`` (an arm without an ended run). It is ``open`` where seeds are too few or too noisy, and as long as an
arm has fewer ended seeds, or fewer with a finite number, than the claim plans. What makes each kind fail is what the sweeps'
heads call refuted:

    ordered, difference   an adjacent pair the other way round, significantly after Bonferroni's correction
    monotone              never: an order that breaks at one evaluation leaves it open
    at_most_ratio         the interval of the ratio lies wholly above the factor
    below, above          the interval of the mean lies wholly on the other side (unless ``one_sided``)
    rises                 the interval of the rise lies wholly below 0
    diverges              no seed does
    trains                at least half of the seeds diverge
    slope, power_law, boundary_slope, best_slope    the interval lies wholly outside
    correlation           the interval lies wholly above
    floor                 as ordered, the arms in the order of their reconstruction distance

Where runs diverged, an order is decided by ranks (analysis/contrasts.py); an arm with a diverged run has no mean.
Correlations and power laws leave such an arm out and say so; they are open if more than one arm is left out. Intervals of
means are Student's (analysis/means.py), of differences and ratios Welch's (analysis/contrasts.py); slopes are of means of
logarithms over seeds (analysis/slopes.py). A claim looked at twice has intervals and p-values that hold over both looks
(experiments/study/power.py). Equivalence does not fail: what is not shown to be equivalent stays open.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from analysis.contrasts import at_most, lost_of
from analysis.contrasts import ordered as ordered_pair
from analysis.evidence import FAILS, HOLDS, NO_VERDICT, NOT_RUN, OPEN, SAME, SILENT, Evidence, Levels, Outcome
from analysis.means import joined, of_mean, on_side
from analysis.slopes import best_slope, boundary_slope, correlation, power_law, slope

CONFIRMED, REFUTED, EQUIVALENT, UNDECIDED = "confirmed", "refuted", "equivalent", "undecided"
COLUMNS = ("x", "over", "of")  # arguments that name columns


def decide(test: Mapping[str, Any], evidence: Evidence) -> Outcome:
    """Apply one test of a rule.

    Raises :class:`gat.errors.UserError` for a table of ended runs that lacks a column; KeyError for a kind that there is none
    of (:func:`experiments.study.claims.check_claim` tells it before).
    """
    if evidence.study not in test.get("studies", (evidence.study,)):
        return Outcome(SILENT, f"says nothing at scale {evidence.study}")
    arms: Sequence[str] = test.get("arms") or evidence.arms
    absent = [evidence.told_absent(arm) for arm in arms if evidence.ended(arm).empty]
    if absent or not arms:
        return Outcome(NOT_RUN, f"no ended run of {', '.join(absent)}" if absent else "no runs")
    if told := evidence.without(test.get("of") or evidence.column, *(test[key] for key in COLUMNS if test.get(key))):
        return Outcome(NOT_RUN, told)
    outcome = DECIDERS[test["kind"]](test, arms, evidence)
    told = too_little(test, arms, evidence)
    levels = outcome.levels and Levels()
    return (
        Outcome(OPEN, f"{outcome.told}; {told}" if outcome.state != OPEN else outcome.told, levels) if told else outcome
    )


def too_little(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> str:
    """Why the arms' runs decide nothing, in words: fewer seeds than planned have ended, or have a number."""
    ended = {arm: evidence.diverged(arm)[1] for arm in arms}
    numbers = {arm: evidence.numbers(test["kind"], arm, test.get("of") or evidence.column) for arm in arms}
    for word, counts in (("ended", ended), ("have a number", numbers)):
        if few := [f"{arm}: {count}" for arm, count in counts.items() if count < evidence.planned]:
            return f"of {evidence.planned} planned seeds {word} {', '.join(few)}"
    return ""


def verdict(rule: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome], alpha: float) -> tuple[str, Levels | None]:
    """Return what those that decide come to, and the levels of their comparisons of arms (None: there are none).

    ``confirmed``, ``refuted``, ``equivalent``, ``undecided`` or ``not run``; ``no verdict`` if all are silent at this scale.
    """
    deciding = [outcome for test, outcome in zip(rule, outcomes, strict=True) if test["decides"]]
    speaking = [outcome for outcome in deciding if outcome.state != SILENT]
    if not speaking:
        return NO_VERDICT, None
    if any(outcome.state == NOT_RUN for outcome in speaking):
        return NOT_RUN, None
    found = joined(speaking, alpha)
    return {HOLDS: CONFIRMED, FAILS: REFUTED, SAME: EQUIVALENT}.get(found.state, UNDECIDED), found.levels


def ordered(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Each arm's mean below the next one's."""
    return joined([ordered_pair(a, b, test.get("equivalent"), evidence) for a, b in pairwise(arms)], evidence.alpha)


def monotone(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:  # noqa: ARG001
    """The means are in order at every evaluation; all arms must have them all."""
    if lost := lost_of(arms, evidence):
        return Outcome(OPEN, f"{lost}: no mean at every evaluation")
    rows = evidence.table[evidence.table["arm"].isin(arms) & evidence.table["distance"].notna()]
    steps = rows.pivot_table(index="step", columns="arm", values="distance", aggfunc=["mean", "count"])
    means, seeds = (steps.get(what, steps).reindex(columns=list(arms)) for what in ("mean", "count"))
    if means.empty or means.isna().any(axis=None) or (seeds != seeds.max()).any(axis=None):
        return Outcome(OPEN, "not all runs have every evaluation")
    broken = [int(step) for step, row in means.iterrows() if not row.is_monotonic_increasing]
    if broken:
        return Outcome(OPEN, f"order broken at steps {broken}")
    return Outcome(HOLDS, f"in order at all of {len(means)} evaluations")


def at_most_ratio(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """The first arm's mean is at most so many times the second's."""
    first, second = arms
    return at_most(first, second, test["within"], evidence)


def below(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Each arm's mean below a value."""
    return _beside_value(test, arms, evidence, -1)


def above(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """Each arm's mean above a value."""
    return _beside_value(test, arms, evidence, 1)


def _beside_value(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence, sign: int) -> Outcome:
    column = test.get("of") or evidence.column
    if lost := lost_of(arms, evidence):
        return Outcome(OPEN, lost)
    found = {f"{column} of {arm}": of_mean(evidence.values(arm, column), evidence) for arm in arms}
    outcome = joined([on_side(sign, test["value"], what, one) for what, one in found.items()], evidence.alpha)
    return Outcome(OPEN, outcome.told) if test.get("one_sided") and outcome.state == FAILS else outcome


def rises(test: Mapping[str, Any], arms: Sequence[str], evidence: Evidence) -> Outcome:
    """From the first evaluation to the last, each arm's mean over seeds rises."""
    column = test.get("of") or evidence.column
    if lost := lost_of(arms, evidence):
        return Outcome(OPEN, lost)
    found = {f"rise of {column} of {arm}": of_mean(evidence.rises(arm, column), evidence) for arm in arms}
    if gaps := evidence.missing_of(arms):
        return Outcome(OPEN, f"not every checkpoint was measured ({gaps[0]})")
    return joined([on_side(1, 0.0, what, one) for what, one in found.items()], evidence.alpha)


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
    """The order by reconstruction distance is the order by the metric, where the former differ by a margin."""
    if told := evidence.without("reconstruction_distance"):
        return Outcome(OPEN, told)
    floors = {arm: evidence.values(arm, "reconstruction_distance") for arm in arms}
    if any(not len(values) for values in floors.values()):
        return Outcome(OPEN, "an arm has no reconstruction distance (it diverged, or evaluation.reconstruction=false)")
    means = {arm: float(floors[arm].mean()) for arm in sorted(arms, key=lambda arm: float(floors[arm].mean()))}
    told = "floors " + ", ".join(f"{arm} {value:.4g}" for arm, value in means.items())
    if any(high < low * (1 + test["margin"]) for low, high in pairwise(means.values())):
        return Outcome(OPEN, f"{told}: they differ by less than {test['margin']:.0%}")
    outcome = ordered(test, list(means), evidence)
    return Outcome(outcome.state, f"{told}; {outcome.told}", outcome.levels)


DECIDERS: dict[str, Callable[[Mapping[str, Any], Sequence[str], Evidence], Outcome]] = {
    "ordered": ordered,
    "difference": ordered,
    "monotone": monotone,
    "at_most_ratio": at_most_ratio,
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
