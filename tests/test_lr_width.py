"""Rates and widths: the figure says what is missing, and its numbers are kept."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.lr_fits import CHOSEN
from analysis.lr_width import draw_lr_width, write
from analysis.tables import Source
from gat.errors import UserError
from tests.made_up import write_results
from tests.made_up_rates import MULTIPLES, SEEDS, WIDTHS, change_rows, grid_rows, whole


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels(axes: Axes) -> list[str]:
    return [str(line.get_label()) for line in axes.lines if not str(line.get_label()).startswith("_")]


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
