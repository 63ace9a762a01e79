"""Rules of claims on made-up tables: what confirms, what refutes, and what is too little to tell (slopes: test_slopes.py)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.evidence import FAILS, HOLDS, NOT_RUN, OPEN, SILENT, Levels, Outcome
from analysis.rules import DECIDERS, decide, verdict
from experiments.study.claims import KINDS
from gat.errors import UserError
from tests.made_up_evidence import A2, NEAR, SEEDS, A, B, evidence, runs, some_diverged, state


def test_every_kind_of_rule_has_a_decider() -> None:
    assert DECIDERS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", ["ordered", "difference"])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (A, B, HOLDS),
        (B, A, FAILS),
        (A, NEAR, OPEN),
        (A, None, OPEN),  # three of three diverged are too few: 2 of 20 permutations
        (None, A, OPEN),
        (None, None, OPEN),
        ([10.0], [20.0], OPEN),
        (A[:2], B, OPEN),  # three seeds are planned
    ],
)
def test_ordered(kind: str, first: list[float] | None, second: list[float] | None, expected: str) -> None:
    given = evidence(runs("a", first), runs("b", second))
    assert state({"kind": kind, "arms": ["a", "b"]}, given) == expected


def test_one_bad_pair_refutes_an_order() -> None:
    given = evidence(runs("a", A), runs("b", B), runs("c", A2))
    assert state({"kind": "ordered", "arms": ["a", "b", "c"]}, given) == FAILS
    assert state({"kind": "ordered", "arms": ["a", "c", "b"]}, given) == OPEN  # a and c are not told apart


def test_welchs_interval_of_another_metric_by_hand() -> None:
    """Means 10 and 20, standard deviations 0.5: 10 -+ 2.776 x 0.408 (4 degrees of freedom)."""
    rows = [run | {"share": run["distance"]} for run in (*runs("a", A), *runs("b", B))]
    told = decide({"kind": "ordered", "arms": ["a", "b"]}, evidence(rows, metric="share")).told
    assert told == "b - a: 10 (8.867 to 11.13; pooled 8.867 to 11.13; p 1.6e-05)"


def test_welchs_interval_of_a_ratio_by_hand() -> None:
    """Logarithms 0, 0.1, 0.2 and 1, 1, 1: 0.9 -+ 4.303 x 0.1 / sqrt(3), 2 degrees of freedom; pooled 2.776 x 0.0577, 4."""
    rows = runs("a", [1.0, float(np.exp(0.1)), float(np.exp(0.2))]), runs("b", [float(np.e)] * SEEDS)
    found = decide({"kind": "ordered", "arms": ["a", "b"]}, evidence(*rows))
    low, high = np.exp(0.9 - 0.24843), np.exp(0.9 + 0.24843)
    narrow, wide = np.exp(0.9 - 0.16030), np.exp(0.9 + 0.16030)
    told = f"b / a: {np.exp(0.9):.4g} ({low:.4g} to {high:.4g}; pooled {narrow:.4g} to {wide:.4g}; p 0.0041)"
    assert (found.state, found.told) == (HOLDS, told)
    assert found.levels is not None
    assert found.levels.ahead == pytest.approx(
        0.00408, abs=1e-5
    )  # 0.9 over 0.0577, of Student's t with 2 degrees of freedom


def test_monotone_looks_at_every_evaluation() -> None:
    early = [row | {"step": 50, "end": False} for row in runs("a", B) + runs("b", A)]
    late = runs("a", A) + runs("b", B)
    test = {"kind": "monotone", "arms": ["a", "b"]}
    assert state(test, evidence(late)) == HOLDS
    outcome = decide(test, evidence(late, early))
    assert (outcome.state, outcome.told) == (OPEN, "order broken at steps [50]")


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_some_diverged_seeds_decide_no_order(lost: int, sign: int) -> None:
    """The survivors say the opposite of the divergence: 14 (or 12) of 20 permutations of the ranks are as uneven."""
    given = evidence(runs("a", B), some_diverged("b", lost))
    arms = ["a", "b"][::sign]
    outcome = decide({"kind": "ordered", "arms": arms}, given)
    assert (outcome.state, outcome.told) == (OPEN, f"b: {lost} of 3 diverged (p {[0.7, 0.6][lost - 1]})")
    assert state({"kind": "at_most_ratio", "arms": arms, "within": 1.1}, given) == OPEN


def test_an_open_order_says_how_many_seeds_its_ratio_takes() -> None:
    """Means one standard deviation (0.1) of the logarithm apart: 17 per arm (Cohen 1988, table 2.4.1)."""
    a, b = (list(np.exp([start, start + 0.1, start + 0.2])) for start in (0.0, 0.1))
    test = {"kind": "difference", "arms": ["a", "b"]}
    assert decide(test, evidence(runs("a", a), runs("b", b))).told.endswith("; such a ratio takes 17 seeds per arm")
    same = decide(test, evidence(runs("a", a), runs("b", a)))
    assert same.told.endswith("; such a ratio takes more than 10000 seeds per arm")
    other = [run | {"share": run["distance"]} for run in (*runs("a", a), *runs("b", b))]
    assert "seeds per arm" not in decide(test, evidence(other, metric="share")).told


def test_monotone_needs_every_evaluation_of_every_seed() -> None:
    early = [row | {"step": 50, "end": False} for row in runs("a", A) + runs("b", B)]
    test = {"kind": "monotone", "arms": ["a", "b"]}
    assert state(test, evidence(runs("a", A), runs("b", B), early)) == HOLDS
    assert state(test, evidence(runs("a", A), runs("b", B), early[1:])) == OPEN


def test_monotone_needs_every_evaluation_of_every_arm() -> None:
    early = [row | {"step": 50, "end": False} for row in runs("a", A)]
    test = {"kind": "monotone", "arms": ["a", "b"]}
    assert state(test, evidence(runs("a", A), runs("b", B), early)) == OPEN
    gone = [row | {"step": 50, "status": "diverged"} for row in runs("b", B)]
    outcome = decide(test, evidence(runs("a", A), early, gone))
    assert outcome.state == OPEN
    assert "b: 3 of 3 diverged" in outcome.told


@pytest.mark.parametrize(
    ("first", "expected"),
    [(A2, HOLDS), ([5.0, 5.1, 4.9], HOLDS), ([11.5, 11.6, 11.4], FAILS), ([9.0, 11.0, 12.0], OPEN), (None, OPEN)],
)
def test_at_most_ratio(first: list[float] | None, expected: str) -> None:
    """Better than asked for holds, too."""
    given = evidence(runs("a", first), runs("b", [10.0, 10.1, 9.9]))
    assert state({"kind": "at_most_ratio", "arms": ["a", "b"], "within": 1.1}, given) == expected


def test_below_counts_at_its_scale_alone() -> None:
    test = {"kind": "below", "arms": ["XL"], "value": 2.4, "studies": ["imagenet256"]}
    assert state(test, evidence(runs("XL", [2.2]), study="imagenet256", planned=1)) == HOLDS
    assert state(test, evidence(runs("XL", [2.5]), study="imagenet256", planned=1)) == FAILS
    assert state(test, evidence(runs("XL", [0.1]), study="mini", planned=1)) == SILENT
    assert state(test | {"one_sided": True}, evidence(runs("XL", [2.5]), study="imagenet256", planned=1)) == OPEN
    assert state(test, evidence(runs("XL", [2.2]), study="imagenet256")) == OPEN  # three seeds are planned


@pytest.mark.parametrize(
    ("bound", "of_below", "of_above"), [(12.0, HOLDS, FAILS), (8.0, FAILS, HOLDS), (10.5, OPEN, OPEN)]
)
def test_means_beside_a_bound(bound: float, of_below: str, of_above: str) -> None:
    """Mean 10, standard deviation 0.5: Student's interval is 10 -+ 4.303 x 0.289."""
    test = {"arms": ["a"], "value": bound, "studies": ["mini"]}
    below = decide(test | {"kind": "below"}, evidence(runs("a", A)))
    assert (below.state, below.told) == (of_below, f"distance of a 10 (8.758 to 11.24), bound {bound:.4g}")
    assert state(test | {"kind": "above"}, evidence(runs("a", A))) == of_above
    other = evidence(runs("a", B, score=1.0) + runs("b", None))
    assert state(test | {"kind": "below", "of": "score"}, other) == HOLDS
    assert state(test | {"kind": "below", "arms": ["b"]}, other) == OPEN
    assert state(test | {"kind": "above", "arms": ["b"]}, other) == OPEN


@pytest.mark.parametrize(("sign", "expected"), [(1, HOLDS), (-1, FAILS), (0, OPEN)])
def test_a_rise_over_training(sign: int, expected: str) -> None:
    """From the first to the last evaluation, whatever lies between; of each seed by itself."""
    rows = [
        row | {"step": step, "end": step == 300, "score": 10 * row["seed"] + value}
        for row in runs("a", A)
        for step, value in ((100, 0.0), (200, 5.0), (300, 2.0 * sign + 0.1 * (row["seed"] - 1)))
    ]
    outcome = decide({"kind": "rises", "arms": ["a"]}, evidence(rows, metric="score"))
    assert outcome.state == expected
    if sign:
        assert (
            outcome.told
            == f"rise of score of a {2 * sign} ({2 * sign - 0.2484:.4g} to {2 * sign + 0.2484:.4g}), bound 0"
        )


def rising(seed: int, steps: tuple[int, ...] = (100, 200, 300), arm: str = "a") -> list[dict[str, Any]]:
    """A run whose score is its step, and a little of its seed's own."""
    one = runs(arm, [0.0])[0] | {"seed": seed}
    return [one | {"step": step, "end": step == 300, "score": step + seed * step / 1000} for step in steps]


@pytest.mark.parametrize("steps", [(200, 300), (100, 200), (300,)])
def test_a_rise_needs_first_and_last_of_every_seed(steps: tuple[int, ...]) -> None:
    test = {"kind": "rises", "arms": ["a"]}
    assert state(test, evidence(rising(0), rising(1), rising(2), metric="score")) == HOLDS
    outcome = decide(test, evidence(rising(0), rising(1), rising(2, steps), metric="score"))
    assert outcome.state == OPEN
    assert outcome.told.endswith("; of 3 planned seeds have a number a: 2")


def test_a_rise_over_checkpoints_of_which_some_are_missing() -> None:
    """All seeds lack the early ones: the table alone would look whole."""
    late = evidence(*(rising(seed, (200, 300)) for seed in range(3)), metric="score")
    test = {"kind": "rises", "arms": ["a"]}
    assert state(test, late) == HOLDS
    assert state(test, replace(late, missing=["b, seed 0, step 100: gone"])) == HOLDS
    outcome = decide(test, replace(late, missing=["a, seed 0, step 100: gone"]))
    assert (outcome.state, outcome.told) == (
        OPEN,
        "not every checkpoint was measured (a, seed 0, step 100: gone)",
    )


@pytest.mark.parametrize(
    "test",
    [
        {"kind": "below", "arms": ["a"], "value": 20.0},
        {"kind": "above", "arms": ["a"], "value": 1.0},
        {"kind": "ordered", "arms": ["a", "b"]},
        {"kind": "at_most_ratio", "arms": ["a", "b"], "within": 1.1},
    ],
)
def test_a_seed_without_a_number_leaves_it_open(test: dict[str, Any]) -> None:
    whole = evidence(runs("a", A), runs("b", B))
    assert state(test, whole) == HOLDS
    for gap in (np.nan, np.inf):
        outcome = decide(test, evidence(runs("a", [10.0, 10.1, gap]), runs("b", B)))
        assert outcome.state == OPEN
        assert outcome.told.endswith("; of 3 planned seeds have a number a: 2")


def test_a_bound_counts_at_any_scale_unless_it_says_otherwise() -> None:
    assert state({"kind": "below", "arms": ["a"], "value": 1.0}, evidence(runs("a", A), study="my_own")) == FAILS


def test_metrics_that_are_no_distance_do_not_rank_diverged_runs() -> None:
    rows = runs("a", None) + runs("b", A, score=1.0)
    test = {"kind": "ordered", "arms": ["b", "a"]}
    assert decide(test, evidence(rows)).told == "a: 3 of 3 diverged (p 0.1)"
    assert decide(test, evidence(rows, metric="score")) == Outcome(OPEN, "a: 3 of 3 diverged", Levels())


@pytest.mark.parametrize(
    ("lost", "diverges", "trains"), [(0, FAILS, HOLDS), (1, OPEN, OPEN), (2, HOLDS, FAILS), (3, HOLDS, FAILS)]
)
def test_divergence(lost: int, diverges: str, trains: str) -> None:
    given = evidence(some_diverged("a", lost))
    assert state({"kind": "diverges", "arms": ["a"], "share": 0.5}, given) == diverges
    assert state({"kind": "trains", "arms": ["a"], "share": 1.0}, given) == trains


def test_floor() -> None:
    test = {"kind": "floor", "arms": ["first", "second"], "margin": 0.05}

    def of_floors(first: float, second: float) -> str:
        rows = runs("first", A, reconstruction_distance=first), runs("second", B, reconstruction_distance=second)
        return state(test, evidence(*rows))

    assert of_floors(1.0, 2.0) == HOLDS
    assert of_floors(2.0, 1.0) == FAILS
    assert of_floors(1.0, 1.04) == OPEN  # less than the margin apart


def test_arms_without_runs() -> None:
    running = [{"arm": "b", "seed": 0, "status": "running", "distance": np.nan, "end": False, "step": np.nan}]
    outcome = decide({"kind": "ordered", "arms": ["a", "b"]}, evidence(runs("a", A), running))
    assert (outcome.state, outcome.told) == (NOT_RUN, "no ended run of b (1 running)")


def test_columns_that_are_not_there() -> None:
    test = {"kind": "slope", "arms": ["a"], "x": "width", "predicted": 1.0, "within": 0.25}
    with pytest.raises(UserError, match=r"its table lacks the column width: python experiments/collect\.py"):
        decide(test, evidence(runs("a", A)))
    measured = replace(evidence(runs("a", A), metric="CLIP-FID-50K"), measured=True)
    outcome = decide({"kind": "below", "arms": ["a"], "value": 2.0}, measured)
    assert (outcome.state, outcome.told) == (NOT_RUN, "no CLIP-FID-50K was measured")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([HOLDS, HOLDS], "confirmed"),
        ([HOLDS, FAILS], "refuted"),
        ([OPEN, FAILS], "refuted"),
        ([HOLDS, OPEN], "undecided"),
        ([FAILS, NOT_RUN], "not run"),
        ([SILENT, HOLDS], "confirmed"),
        ([SILENT, SILENT], "no verdict"),
    ],
)
def test_verdicts(states: list[str], expected: str) -> None:
    rule = [{"decides": True}, {"decides": True}, {"decides": False}]
    found = verdict(rule, [*(Outcome(one, "") for one in states), Outcome(FAILS, "beside it")], 0.05)
    assert found == (expected, None)
