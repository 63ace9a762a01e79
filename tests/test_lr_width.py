"""Rates and widths: planted slopes come back, edges of the grid are bounds, and the figure says what is missing."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.lr_width import CHOSEN, best, change_fits, changes_of, draw_lr_width, largest, rate_fit, rates_of, write
from analysis.tables import Source, Table, read_table
from gat.errors import UserError
from tests.made_up import run_rows, write_results

WIDTHS = {"S": 64, "B": 128, "L": 160, "XL": 192}
SEEDS = (0, 1, 2)
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def change_rows(scatter: float = 0.0, extra: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Change 2 at width 64 as half and twice that in two steps; ``extra``: factors by size; ``scatter``: of seeds' logs."""
    rows = []
    for how, power in (("rule", 0), ("fixed", 1)):
        for size, width in WIDTHS.items():
            for seed in SEEDS:
                value = 2.0 * (width / 64) ** power * (extra or {}).get(size, 1.0) * np.exp(scatter * (seed - 1))
                for step in (1, 2):
                    (row,) = run_rows(f"{how},size={size}", seed, {step: 0.0}, size=size)
                    widths = {"generator_width": width, "discriminator_width": width}
                    change = {"g_output_change": value * 4.0**step / 8, "d_output_change": 1.0}
                    rows.append(row | widths | change | {"distance": None, "protocol": None, "distance_name": None})
    return rows


def grid_rows(limit: float = 0.03, optimum: float = 0.006, lucky: Iterable[int] = ()) -> list[dict[str, Any]]:
    """Rates above limit x 64 / width diverge (twice that for seeds ``lucky``); the distance is least at the optimum."""
    rows = []
    for size, width in WIDTHS.items():
        for multiple in MULTIPLES:
            for seed in SEEDS:
                rate = 0.0024 * 64 / width * multiple
                lost = rate > limit * 64 / width * (2 if seed in set(lucky) else 1)
                distance = 100 + 10 * abs(np.log2(rate / (optimum * 64 / width)))
                columns: dict[str, Any] = {
                    "size": size,
                    "generator_width": width,
                    "lr_g": rate,
                    "lr_multiple": multiple,
                }
                curve, at = ({}, 20) if lost else ({50: 2 * distance, 100: distance}, None)
                rows += run_rows(f"size={size},lr_multiple={multiple}", seed, curve, diverged_step=at, **columns)
    return rows


def check_rows() -> list[dict[str, Any]]:
    arms = {"S": 50.0, "B": 40.0, "S_at_rate_of_B": 60.0}
    rows = [row for arm, end in arms.items() for seed in SEEDS for row in run_rows(arm, seed, {50: 2 * end, 100: end})]
    return rows + [row for seed in SEEDS for row in run_rows("B_at_rate_of_S", seed, {50: 90.0}, diverged_step=70)]


def table_of(folder: Path, sweep: str, rows: Iterable[dict[str, Any]]) -> Table:
    write_results(folder, sweep, rows)
    return read_table(folder, "mini", sweep)


def whole(folder: Path, **grid: Any) -> Source:
    write_results(folder, "update_size", change_rows(0.05))
    write_results(folder, "lr_grid", grid_rows(**grid))
    write_results(folder, "lr_crosscheck", check_rows())
    return Source(folder, "mini")


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels(axes: Axes) -> list[str]:
    return [str(line.get_label()) for line in axes.lines if not str(line.get_label()).startswith("_")]


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
    assert largest(runs) == (2.0, "inside")
    assert largest(runs.assign(status="finished")) == (4.0, "upper")
    assert largest(runs.assign(status="diverged")) == (1.0, "lower")
    assert best(runs) == (2.0, "inside")
    assert best(runs.assign(distance=[3.0, 2.0, 1.0])) == (4.0, "upper")
    assert best(runs.assign(distance=[1.0, 2.0, 3.0])) == (1.0, "lower")
    assert best(runs.assign(distance=np.nan)) == (1.0, "lower")


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


def test_the_figure(tmp_path: Path) -> None:
    source = whole(tmp_path, limit=0.01, lucky=[2])
    g_change, _, boundary, optimum, cells, cross = draw_lr_width(source).axes
    assert source.gaps == []
    assert [label.split(" and B")[0] for label in labels(g_change)] == [
        "S's rate: slope of S",
        "own rate: slope of S",
        "predicted, through S",
    ]
    assert boundary.get_title() == "largest trainable rate: slope too few points (0)"
    assert optimum.get_title() == "best rate: slope -1.000 (-1.471 to -0.529)"
    assert labels(boundary) == ["tried", "a seed", "at least"]
    assert labels(optimum) == ["tried", "a seed", "predicted -1"]
    (bounds,) = (line for line in boundary.lines if line.get_label() == "at least")
    assert (bounds.get_marker(), bounds.get_markerfacecolor()) == ("^", "white")
    assert np.size(np.asarray(bounds.get_xdata())) == len(WIDTHS)
    assert "at least" not in labels(optimum)
    assert texts(cells).count("x 2 of 3") == len(WIDTHS)
    assert len(texts(cells)) == len(WIDTHS) * len(MULTIPLES)
    assert {"S", "B", "S_at_rate_of_B", "B_at_rate_of_S"} < set(labels(cross))


def test_the_prediction_goes_through_s_and_b(tmp_path: Path) -> None:
    write_results(tmp_path, "update_size", change_rows())
    axes = draw_lr_width(Source(tmp_path, "mini")).axes[0]
    dashed = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "--"]
    flat, rising = sorted((y for y in dashed if len(y)), key=lambda y: y[-1])
    assert flat == pytest.approx([2.0] * 4)
    assert rising == pytest.approx([2.0, 4.0, 5.0, 6.0])


def test_the_command_writes_figure_and_numbers(tmp_path: Path) -> None:
    whole(tmp_path, limit=0.01)
    told = write({"results": str(tmp_path)})
    folder = tmp_path / "mini" / "figures"
    assert {file.name for file in folder.iterdir()} == {f"lr_width.{kind}" for kind in ("png", "pdf", "json", "csv")}
    assert "slope of the best rate over width: -1.000 (-1.471 to -0.529); predicted -1.0" in told
    kept = json.loads((folder / "lr_width.json").read_text())
    assert len(kept["fits"]) == 2 * 2 * 2 + 2
    assert kept["protocols"]["update_size"] is not None
    points = pd.read_csv(folder / "lr_width.csv")
    assert points["quantity"].value_counts().to_dict() == dict.fromkeys(
        (
            *(
                f"{change}, {how} rate"
                for change in ("g_output_change", "d_output_change")
                for how in ("fixed", "rule")
            ),
            *CHOSEN,
        ),
        len(WIDTHS) * len(SEEDS),
    )


def test_gaps_are_named_or_printed(tmp_path: Path) -> None:
    write_results(tmp_path, "update_size", change_rows(), missing=["rule,size=XL, seed 2"])
    with pytest.raises(
        UserError, match=r"update_size: rule,size=XL, seed 2; mini/lr_grid: no table; .*allow_partial=true"
    ):
        write({"results": str(tmp_path)})
    assert not (tmp_path / "mini" / "figures").exists()
    write({"results": str(tmp_path), "allow_partial": "true"})
    assert (tmp_path / "mini" / "figures" / "lr_width.png").is_file()
    titles = [axes.get_title() for axes in draw_lr_width(Source(tmp_path, "mini")).axes]
    assert titles == ["change of G's samples per step", "change of D's logits per step"]


def test_every_run_of_the_grid_diverged(tmp_path: Path) -> None:
    write_results(tmp_path, "lr_grid", grid_rows(limit=0.0))
    source = Source(tmp_path, "mini")
    boundary, optimum, cells = draw_lr_width(source).axes
    assert "at most" in labels(boundary)
    assert "at most" in labels(optimum)
    assert texts(cells) == ["every run diverged"]


def test_numbers_of_runs_that_all_diverged_without_their_columns(tmp_path: Path) -> None:
    rows = [{"arm": f"rule,size={size}", "seed": seed, "status": "diverged"} for size in "SB" for seed in SEEDS]
    for sweep in ("update_size", "lr_grid", "lr_crosscheck"):
        write_results(tmp_path, sweep, rows)
    assert len(write({"results": str(tmp_path)})) == 4


def test_diverged_arms_are_marked_though_they_have_no_number(tmp_path: Path) -> None:
    rows = [row | {"status": "diverged", "g_output_change": None, "d_output_change": None} for row in change_rows()]
    write_results(tmp_path, "update_size", rows)
    axes = draw_lr_width(Source(tmp_path, "mini")).axes[0]
    crosses = {float(x) for line in axes.lines if line.get_marker() == "x" for x in np.asarray(line.get_xdata())}
    assert crosses == set(WIDTHS.values())
    assert texts(axes) == ["every run diverged"]
