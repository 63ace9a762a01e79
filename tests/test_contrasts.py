"""Two arms compared: intervals and p-values by hand and against scipy's, equivalence, and looks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.contrasts import Difference, student, welch
from analysis.evidence import FAILS, HOLDS, OPEN, SAME, Evidence
from analysis.rules import decide
from experiments.study.power import sequential_p
from tests.made_up_evidence import evidence, runs

RNG = np.random.default_rng(0)
X, Y = RNG.normal(1.0, 0.3, 6), RNG.normal(0.5, 0.1, 4)
TEST = {"kind": "difference", "arms": ["a", "b"], "equivalent": 1.3}


def test_welch_and_student_are_scipys() -> None:
    found = welch(X, Y)
    assert found is not None
    for ours, equal in ((found, False), (student(X, Y), True)):
        theirs = stats.ttest_ind(X, Y, equal_var=equal)
        assert ours.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)))
        assert min(ours.above(0.0), ours.below(0.0)) == pytest.approx(theirs.pvalue)
        one_sided = stats.ttest_ind(X, Y + 0.3, equal_var=equal, alternative="greater")
        assert ours.above(0.3) == pytest.approx(2 * one_sided.pvalue)
    assert welch(X[:1], Y) is None


def test_no_scatter_at_all() -> None:
    assert (Difference(0.0, 0.0, 1.0).above(0.0), Difference(0.0, 0.0, 1.0).below(0.0)) == (1.0, 1.0)
    assert (Difference(0.1, 0.0, 1.0).above(0.0), Difference(0.1, 0.0, 1.0).below(0.0)) == (0.0, 1.0)
    assert Difference(0.1, 0.0, 1.0).interval(0.95) == (0.1, 0.1)


def spread(centre: float, scatter: float) -> list[float]:
    """Four values of that mean logarithm and standard deviation of the logarithm."""
    return [float(np.exp(centre + scatter * step)) for step in np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(5 / 3)]


@pytest.mark.parametrize(
    ("centre", "scatter", "expected"), [(0.0, 0.1, SAME), (0.0, 0.3, OPEN), (0.5, 0.1, HOLDS), (-0.5, 0.1, FAILS)]
)
def test_equivalence_by_two_one_sided_tests(centre: float, scatter: float, expected: str) -> None:
    given = evidence(runs("a", spread(0.0, scatter)), runs("b", spread(centre, scatter)), planned=4)
    found = decide(TEST, given)
    assert found.levels is not None
    assert found.state == expected
    if expected == SAME:  # log 1.3 over 0.1 sqrt(2 / 4), Student's t with 6 degrees of freedom
        assert found.levels.same == pytest.approx(stats.t.sf(np.log(1.3) / (0.1 * np.sqrt(0.5)), 6))
        assert found.told.endswith(", equivalent within 1.3")


def test_an_early_look_asks_for_more() -> None:
    """The ratio is significant by itself (p 0.02), not at the first of two looks (below 0.0052)."""
    whole = evidence(runs("a", spread(0.0, 0.1)), runs("b", spread(0.22, 0.1)), planned=4)
    early = replace(whole, looks=(4, 8))
    found, at_first = decide(TEST, whole), decide(TEST, early)
    assert (found.state, at_first.state) == (HOLDS, OPEN)
    assert found.levels is not None
    assert at_first.levels is not None
    assert found.levels.ahead == pytest.approx(stats.ttest_ind(*(np.log(whole.values(arm)) for arm in "ab")).pvalue)
    assert at_first.levels.ahead > 0.05
    assert early.confidence == pytest.approx(1 - 0.00517, abs=1e-5)


def curves(**lacking: list[int]) -> list[dict[str, Any]]:
    """Two seeds evaluated at steps 1 to 7, their log distance the step, twice it for the second; but for steps they lack."""
    return [
        row | {"step": step, "distance": float(np.exp(step * (1 + row["seed"]))), "end": step == 7}
        for row in runs("a", [1.0, 1.0])
        for step in range(1, 8)
        if step not in lacking.get(f"seed{row['seed']}", [])
    ]


def test_the_mean_over_the_last_third_of_the_evaluations() -> None:
    """Those after two thirds of the steps, steps 5 to 7. A run that lacks one of them has no number: means must be alike."""
    given = evidence(curves(), at="last_third")
    assert np.log(given.values("a")) == pytest.approx([6.0, 12.0])
    assert np.log(evidence(curves()).values("a")) == pytest.approx([7.0, 14.0])
    for lacking in ([2, 6], [7]):
        fewer = evidence(curves(seed1=lacking), at="last_third")
        assert np.log(fewer.values("a")) == pytest.approx([6.0])
    twice = evidence(curves(), curves())
    assert np.log(twice.values("a")) == pytest.approx([7.0, 14.0])  # rows of a hand-merged table


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, np.inf])
@pytest.mark.parametrize("at", ["end", "last_third"])
def test_a_distance_that_is_none_is_no_number(value: float, at: str) -> None:
    """Its logarithm would be infinite, and a p-value of nothing decide."""
    given = evidence(runs("a", [*spread(0.0, 0.1)[:3], value]), runs("b", spread(1.0, 0.1)), at=at, planned=4)
    outcome = decide(TEST, replace(given, looks=(4, 8)))
    assert outcome.state == OPEN
    assert outcome.told.endswith("; of 4 planned seeds have a number a: 3")
    assert sequential_p(float("nan"), 0, (4, 8)) == 1.0


@pytest.mark.parametrize(
    ("lost", "seeds", "expected"), [(3, 3, OPEN), (4, 4, HOLDS), (7, 8, HOLDS), (2, 8, OPEN), (0, 8, SAME)]
)
def test_arms_of_which_runs_diverged_are_ranked(lost: int, seeds: int, expected: str) -> None:
    """The other arm loses none: p is 2 of 20 permutations for 3 lost of 3, 2 of 70 for 4 of 4; with 2 of 8 it stays open."""
    finished = [*spread(0.0, 0.01), *spread(0.0, 0.01)]
    ends = runs("b", finished[: seeds - lost])
    ends += [row | {"seed": 20 + i} for i, row in enumerate([*runs("b", None)] * 3)][:lost]
    given = evidence(runs("a", finished[:seeds]), ends, planned=seeds)
    assert decide(TEST, given).state == expected
    mirrored = decide(TEST | {"arms": ["b", "a"]}, given).state
    assert mirrored == {HOLDS: FAILS}.get(expected, expected)


def test_the_distances_of_the_runs_that_did_not_diverge_count() -> None:
    """One run of four diverged: by counts alone p is 1; with all other distances larger too, 2 of 70 permutations."""
    ends = [*runs("b", spread(1.0, 0.1)[:3]), *({**row, "seed": 3} for row in runs("b", None))]
    found = decide(TEST, evidence(runs("a", spread(0.0, 0.1)), ends, planned=4))
    assert found.levels is not None
    assert found.state == HOLDS
    assert found.levels.ahead == pytest.approx(2 / 70)


def test_arms_evaluated_at_other_parts_of_their_length_do_not_compare() -> None:
    """Of two equal curves, the one without the last step but one would seem better. Runs of twice the length compare."""
    a = curves()
    fewer, longer = ([row | {"arm": "b"} for row in rows] for rows in (curves(seed0=[6], seed1=[6]), curves()))
    longer = [row | {"step": 2 * row["step"]} for row in longer]
    for b, expected in ((fewer, "were not evaluated at the same parts of their length"), (longer, "b / a: 1 (")):
        assert expected in decide(TEST, evidence(a, b, at="last_third")).told


def test_evidence_knows_its_level() -> None:
    assert isinstance(evidence(runs("a", [1.0])), Evidence)
    assert evidence(runs("a", [1.0])).confidence == pytest.approx(0.95)
