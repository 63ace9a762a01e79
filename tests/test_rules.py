"""Rules of claims on made-up tables of each kind: what confirms, what refutes, and what is too little to tell."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import FAILS, HOLDS, NOT_RUN, OPEN, SILENT, Evidence, Outcome
from analysis.rules import DECIDERS, decide, verdict
from experiments.study.claims import KINDS
from gat.errors import UserError

SEEDS = 3


def runs(arm: str, values: list[float] | None, status: str = "finished", **columns: Any) -> list[dict[str, Any]]:
    """One row per seed at the end; None: diverged, without numbers."""
    given = values if values is not None else [np.nan] * SEEDS
    status = "diverged" if values is None else status
    end = {"step": 100, "end": status == "finished", "status": status}
    return [{"arm": arm, "seed": seed, "distance": value} | end | columns for seed, value in enumerate(given)]


def evidence(
    *groups: list[dict[str, Any]], metric: str = "frechet", study: str = "mini", at: str = "end", planned: int = SEEDS
) -> Evidence:
    return Evidence(pd.DataFrame([row for group in groups for row in group]), metric, 0.95, study, at, planned)


def state(test: dict[str, Any], given: Evidence) -> str:
    return decide(test, given).state


A, A2, B, NEAR = [10.0, 10.5, 9.5], [10.2, 9.8, 10.1], [20.0, 20.5, 19.5], [10.4, 9.9, 10.6]


def some_diverged(arm: str, lost: int) -> list[dict[str, Any]]:
    return runs(arm, A[: SEEDS - lost]) + [row | {"seed": 9 + row["seed"]} for row in runs(arm, None)[:lost]]


def test_every_kind_of_rule_has_a_decider() -> None:
    assert DECIDERS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", ["ordered", "difference"])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (A, B, HOLDS),
        (B, A, FAILS),
        (A, NEAR, OPEN),
        (A, None, HOLDS),
        (None, A, FAILS),
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


def test_welchs_interval_by_hand() -> None:
    """Means 10 and 20, standard deviations 0.5: 10 -+ 2.776 x 0.408 (4 degrees of freedom)."""
    told = decide({"kind": "ordered", "arms": ["a", "b"]}, evidence(runs("a", A), runs("b", B))).told
    assert told == "b - a: 10 (8.867 to 11.13)"


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
    """The survivors say the opposite of the divergence, and either is too little."""
    given = evidence(runs("a", B), some_diverged("b", lost))
    arms = ["a", "b"][::sign]
    outcome = decide({"kind": "ordered", "arms": arms}, given)
    assert (outcome.state, outcome.told) == (OPEN, f"b: {lost} of 3 diverged")
    assert state({"kind": "at_most_ratio", "arms": arms, "within": 1.1}, given) == OPEN


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
    [(A2, HOLDS), ([5.0, 5.1, 4.9], HOLDS), ([11.5, 11.6, 11.4], FAILS), ([9.0, 11.0, 12.0], OPEN), (None, FAILS)],
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
    assert state({"kind": "ordered", "arms": ["b", "a"]}, evidence(rows)) == HOLDS
    assert state({"kind": "ordered", "arms": ["b", "a"]}, evidence(rows, metric="score")) == OPEN


@pytest.mark.parametrize(
    ("lost", "diverges", "trains"), [(0, FAILS, HOLDS), (1, OPEN, OPEN), (2, HOLDS, FAILS), (3, HOLDS, FAILS)]
)
def test_divergence(lost: int, diverges: str, trains: str) -> None:
    given = evidence(some_diverged("a", lost))
    assert state({"kind": "diverges", "arms": ["a"], "share": 0.5}, given) == diverges
    assert state({"kind": "trains", "arms": ["a"], "share": 1.0}, given) == trains


def power(exponent: float, noise: float = 0.0) -> list[dict[str, Any]]:
    """Three seeds at each of five widths, distance = 3 width^exponent."""
    generator = np.random.default_rng(0)
    rows = []
    for width in (64, 128, 256, 512, 1024):
        values = 3 * width**exponent * np.exp(noise * generator.normal(size=SEEDS))
        rows += runs(f"w{width}", list(values), x=width)
    return rows


@pytest.mark.parametrize(
    ("exponent", "noise", "expected"), [(-0.5, 0.01, HOLDS), (0.5, 0.01, FAILS), (-0.5, 0.3, OPEN)]
)
@pytest.mark.parametrize("kind", ["slope", "power_law"])
def test_power_laws_of_known_exponent(kind: str, exponent: float, noise: float, expected: str) -> None:
    test: dict[str, Any] = {"kind": kind, "x": "x", "predicted": -0.5, "within": 0.1}
    outcome = decide(test, evidence(power(exponent, noise)))
    assert outcome.state == expected
    if noise < 0.1:
        assert float(outcome.told.split()[1]) == pytest.approx(exponent, abs=0.01)


def test_correlation() -> None:
    test = {"kind": "correlation", "x": "x", "below": -0.8}
    assert state(test, evidence(power(-0.5, 0.01))) == HOLDS
    assert state(test, evidence(power(0.5, 0.01))) == FAILS
    assert state(test, evidence(power(-0.5, 1.0))) == OPEN


@pytest.mark.parametrize("kind", ["correlation", "power_law"])
def test_arms_with_diverged_runs_are_left_out(kind: str) -> None:
    """Survivors would flatter: an arm that loses one of three seeds does not count."""
    lost = runs("lost", [1e6, 1e6], x=64) + runs("lost", None, x=64)[2:]
    test = {"kind": kind, "x": "x", "below": -0.8, "predicted": -0.5, "within": 0.1}
    outcome = decide(test, evidence(power(-0.5, 0.01), lost))
    assert outcome.state == HOLDS
    assert outcome.told.endswith("; left out, as runs diverged: lost")
    also = [row | {"arm": "also"} for row in lost]
    assert state(test, evidence(power(-0.5, 0.01), lost, also)) == OPEN  # more than one arm: what is left would flatter
    missing = runs("missing", A, status="failed", x=64)
    outcome = decide(test, evidence(power(-0.5, 0.01), missing))
    assert (outcome.state, outcome.told) == (NOT_RUN, "no ended run of missing (3 failed)")


def test_steps_are_averaged_geometrically() -> None:
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "status": "finished",
            "end": step == 2,
            "step": step,
            "change": change * factor,
            "width": width,
        }
        for arm, width, change in (("a", 64, 1.0), ("b", 128, 2.0))
        for seed in range(SEEDS)
        for step, factor in ((1, 0.1), (2, 10.0))
    ]
    given = evidence(rows, metric="change", at="steps")
    assert given.values("b") == pytest.approx([2.0] * SEEDS)
    assert state({"kind": "slope", "arms": ["a", "b"], "x": "width", "predicted": 1.0, "within": 0.25}, given) == HOLDS


def grid(limits: dict[int, float], best: dict[int, float], factor: float) -> Evidence:
    """Rates from 1 by a factor to 64 at each width: beyond the limit they diverge; the best is the lowest distance."""
    rows = []
    for width, limit in limits.items():
        for k in range(int(np.log(64) / np.log(factor)) + 1):
            rate = factor**k
            value = None if rate > limit else [10 + abs(np.log2(rate / best[width]))] * SEEDS
            rows += runs(f"w{width}-{rate}", value, width=width, lr=float(rate))
    return evidence(rows)


@pytest.mark.parametrize("kind", ["boundary_slope", "best_slope"])
@pytest.mark.parametrize(("slope", "expected"), [(-1.0, {HOLDS}), (0.0, {FAILS}), (-0.4, {OPEN, FAILS})])
def test_rates_of_a_grid(kind: str, slope: float, expected: set[str]) -> None:
    """Widths over a factor of 4, on a grid by the root of 2: rounding alone is worth 0.24."""
    test = {"kind": kind, "x": "width", "over": "lr", "predicted": -1.0, "within": 0.5}
    limits = {width: 30 * (width / 64) ** slope for width in (64, 128, 256)}
    given = grid(limits, {width: limit / 3 for width, limit in limits.items()}, 2**0.5)
    assert state(test, given) in expected
    coarse = grid(limits, {width: limit / 3 for width, limit in limits.items()}, 4.0)
    assert state(test, coarse) == OPEN  # rounding is worth more than 0.5


@pytest.mark.parametrize("kind", ["boundary_slope", "best_slope"])
def test_edges_of_a_grid_tell_nothing(kind: str) -> None:
    """The largest rate of all trains, or is the best, in one seed: it may lie beyond."""
    test = {"kind": kind, "x": "width", "over": "lr", "predicted": -1.0, "within": 0.5}
    edge = {64: 64.0, 128: 8.0, 256: 4.0}
    outcome = decide(test, grid(edge, edge, 2**0.5))
    assert (outcome.state, outcome.told) == (OPEN, "2 points with enough seeds: too few")


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
    assert verdict(rule, [*(Outcome(one, "") for one in states), Outcome(FAILS, "beside it")]) == expected
