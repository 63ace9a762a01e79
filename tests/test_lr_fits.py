"""Rates and widths: planted slopes come back, and edges of the grid are bounds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.lr_fits import CHOSEN, RATE, change_fits, changes_of, rate_fit, rates_of
from analysis.slopes import best, largest
from tests.made_up_rates import SEEDS, WIDTHS, change_rows, grid_rows, table_of


def test_a_seed_s_change_is_the_geometric_mean_over_steps(tmp_path: Path) -> None:
    """Half and twice the value: the value."""
    found = changes_of(table_of(tmp_path, "update_size", change_rows()), "g_output_change")
    assert len(found) == 2 * len(WIDTHS) * len(SEEDS)
    fixed = found[(found["how"] == "fixed") & (found["seed"] == 0)].set_index("size")["change"]
    assert fixed.to_dict() == pytest.approx({"S": 2.0, "B": 4.0, "L": 5.0, "XL": 6.0})


def test_planted_slopes_come_back(tmp_path: Path) -> None:
    fits = change_fits(table_of(tmp_path, "update_size", change_rows(0.1)), "g_output_change")
    for how, expected in (("fixed", 1.0), ("rule", 0.0)):
        for fit in fits[how]:
            assert fit.value == pytest.approx(expected, abs=1e-9)
            assert fit.paper == expected
            assert fit.low is not None
            assert fit.high is not None
            assert fit.low < expected < fit.high
    deciding = fits["fixed"][0]
    # by hand: error of a difference of two means of 3 with variance 0.1^2, over log 2; t of 4 degrees of freedom
    assert deciding.high is not None
    assert deciding.high - 1.0 == pytest.approx(2.77645 * 0.1 * np.sqrt(2 / 3) / np.log(2), rel=1e-4)


def test_s_and_b_decide_whatever_the_deeper_ones_do(tmp_path: Path) -> None:
    fits = change_fits(table_of(tmp_path, "update_size", change_rows(extra={"L": 3.0, "XL": 3.0})), "g_output_change")
    deciding, every = fits["rule"]
    assert deciding.value == pytest.approx(0.0, abs=1e-9)
    assert deciding.points == 2
    assert every.value is not None
    assert (every.value > 0.5, every.points) == (True, 4)


def test_the_same_of_d_s_logits(tmp_path: Path) -> None:
    fits = change_fits(table_of(tmp_path, "update_size", change_rows()), "d_output_change")
    assert fits["fixed"][1].value == pytest.approx(0.0, abs=1e-9)


def test_an_arm_with_a_diverged_seed_is_in_no_fit(tmp_path: Path) -> None:
    rows = change_rows()
    gone = {"status": "diverged", "diverged_step": 2}
    rows = [row | gone if (row["arm"], row["seed"]) == ("fixed,size=XL", 1) else row for row in rows]
    deciding, every = change_fits(table_of(tmp_path, "update_size", rows), "g_output_change")["fixed"]
    assert (deciding.points, every.points) == (2, 3)
    assert every.left_out == ("fixed,size=XL: 1 of 3 seeds diverged",)


def test_rates_of_a_seed() -> None:
    runs = pd.DataFrame(
        {"lr_g": [1.0, 2.0, 4.0], "status": ["finished", "finished", "diverged"], "distance": [9, 8, None]}
    )
    assert largest(runs, RATE) == (2.0, "inside")
    assert largest(runs.assign(status="finished"), RATE) == (4.0, "upper")
    assert largest(runs.assign(status="diverged"), RATE) == (1.0, "lower")
    assert best(runs, RATE) == (2.0, "inside")
    assert best(runs.assign(distance=[3.0, 2.0, 1.0]), RATE) == (4.0, "upper")
    assert best(runs.assign(distance=[1.0, 2.0, 3.0]), RATE) == (1.0, "lower")
    assert best(runs.assign(distance=np.nan), RATE) == (1.0, "lower")


@pytest.mark.parametrize("what", list(CHOSEN))
def test_planted_rates_fall_as_one_over_width(tmp_path: Path, what: str) -> None:
    """At S the grid is 0.0006 to 0.0192; 0.0096 is the last below 0.01, and 0.0048 nearest (in octaves) to 0.006."""
    table = table_of(tmp_path, "lr_grid", grid_rows(limit=0.01))
    fit = rate_fit(table, what)
    assert fit.value == pytest.approx(-1.0)
    assert (fit.paper, fit.points, fit.left_out) == (-1.0, 4, ())
    expected = 0.0096 if what.startswith("largest") else 0.0048
    assert [rate.rate for rate in rates_of(table, what) if rate.width == 64] == pytest.approx([expected] * 3)


def test_another_slope_is_told_from_the_grid_s(tmp_path: Path) -> None:
    """A boundary at the same rate for every width: at 0.005 the grids' steps below it fall between 0.0024 and 0.0048."""
    rows = [
        row | ({"status": "diverged", "distance": None, "end": False} if row["lr_g"] > 0.005 else {})
        for row in grid_rows(limit=1.0)
    ]
    fit = rate_fit(table_of(tmp_path, "lr_grid", rows), "largest trainable rate")
    assert fit.value is not None
    assert fit.value > -0.5


def test_edges_are_bounds_and_in_no_fit(tmp_path: Path) -> None:
    """Nothing diverges: every largest rate stands at the upper edge, which alone would give -1."""
    table = table_of(tmp_path, "lr_grid", grid_rows(limit=1.0))
    assert {rate.edge for rate in rates_of(table, "largest trainable rate")} == {"upper"}
    fit = rate_fit(table, "largest trainable rate")
    assert (fit.value, fit.points) == (None, 0)
    assert fit.left_out[0] == "width 64: 3 of 3 seeds at the grid's edge"


def test_a_width_with_a_seed_at_the_edge_is_left_out(tmp_path: Path) -> None:
    one = rate_fit(table_of(tmp_path, "lr_grid", grid_rows(limit=0.01, lucky=[2])), "largest trainable rate")
    assert (one.points, one.value) == (0, None)
    assert one.left_out[0] == "width 64: 1 of 3 seeds at the grid's edge"


def test_the_interval_holds_the_grid_s_step(tmp_path: Path) -> None:
    """Seeds that agree: a factor of two, evenly spread, has the variance (log 2)^2 / 12; 1.96 standard errors."""
    fit = rate_fit(table_of(tmp_path, "lr_grid", grid_rows(limit=0.01)), "best rate")
    x = np.log(list(WIDTHS.values()))
    half = 1.95996 * np.log(2) / np.sqrt(12 * ((x - x.mean()) ** 2).sum())
    assert fit.high == pytest.approx(-1.0 + half, rel=1e-4)
    assert fit.low == pytest.approx(-1.0 - half, rel=1e-4)
