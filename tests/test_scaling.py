"""Distance against compute: known laws come back, diverged arms stay out of fits and in sight, no level is borrowed."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.fits import fitted, through_centre
from analysis.paper import paper
from analysis.scaling import cells_of, draw_decoupled, draw_scaling, law_line, scaling_fits, write
from analysis.slopes import Points, fitted_correlation
from analysis.tables import Source, Table, read_table
from gat.errors import UserError
from tests.made_up import PROTOCOL, run_rows, write_results

GFLOPS = {("S", 2): 1.0, ("B", 2): 4.0, ("L", 2): 12.0, ("XL", 2): 20.0, ("S", 1): 5.0}
SEEDS = (0, 1, 2)


def law(gflops: float, seed: int) -> float:
    return 7.0 * (1000 * gflops) ** -0.3


def arm_rows(size: str, patch: int, seed: int, distance: float | None) -> list[dict[str, Any]]:
    """``distance`` None: diverged at half of the way, after an evaluation that looks best of all."""
    gflops = GFLOPS[size, patch]
    arm = f"{'small' if patch == 1 else 'medium'},size={size}"
    curve, lost = ({50: 1e-3}, 60) if distance is None else ({50: 2 * distance, 100: distance}, None)
    rows = run_rows(arm, seed, curve, diverged_step=lost, size=size, patch=patch, generator_gflops=gflops)
    return [row | {"training_gflops": 10 * gflops * row["step"]} for row in rows]


def gflops_rows(
    distance: Callable[[float, int], float] = law, lost: Iterable[tuple[str, int, int]] = ()
) -> list[dict[str, Any]]:
    gone = set(lost)
    return [
        row
        for (size, patch), gflops in GFLOPS.items()
        for seed in SEEDS
        for row in arm_rows(size, patch, seed, None if (size, patch, seed) in gone else distance(gflops, seed))
    ]


def decoupled_rows() -> list[dict[str, Any]]:
    """100, less 10 per step of G and 20 per step of D; seeds 0 and +-2; L with S diverges in seed 2."""
    rows = []
    for i, g in enumerate("SBL"):
        for j, d in enumerate("SBL"):
            for seed in SEEDS:
                lost = (g, d, seed) == ("L", "S", 2)
                curve = {} if lost else {100: 100.0 - 10 * i - 20 * j + 2 * (seed - 1)}
                sizes: dict[str, Any] = {"size": g, "discriminator_size": d}
                rows += run_rows(
                    f"size={g},discriminator_size={d}", seed, curve, diverged_step=40 if lost else None, **sizes
                )
    return rows


def table_of(folder: Path, rows: Iterable[dict[str, Any]], sweep: str = "gflops", study: str = "mini") -> Table:
    write_results(folder, sweep, rows, study=study)
    return read_table(folder, study, sweep)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def crosses(axes: Axes) -> list[float]:
    lines = [line for line in axes.lines if line.get_marker() == "x"]
    return [float(x) for line in lines for x in np.asarray(line.get_xdata())]


def test_a_law_without_noise_comes_back(tmp_path: Path) -> None:
    correlation, exponent = scaling_fits(table_of(tmp_path, gflops_rows()))
    assert (exponent.value, exponent.low, exponent.high) == pytest.approx((-0.3, -0.3, -0.3))
    assert correlation.value == pytest.approx(-1.0)
    assert (correlation.points, correlation.seeds) == (5, 3)
    assert (correlation.paper, exponent.paper) == (-0.95, -0.456)


def test_the_interval_covers_the_exponent_under_noise() -> None:
    """In 95% of repetitions, give or take: 16 or fewer of 20 have a chance of 1.6%."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(20):
        points: Points = {
            x: np.log(7 * x**-0.3) + 0.1 * generator.standard_normal(5) for x in (10.0, 40.0, 120.0, 200.0)
        }
        fit = fitted("exponent", points, 0.95)
        assert fit.low is not None
        assert fit.high is not None
        covered += fit.low < -0.3 < fit.high
    assert 17 <= covered <= 20


def test_a_correlation_by_hand() -> None:
    """Of (0, 1, 2) and (0, -1, 0): 0; of (0, 1, 2) and (0, -1, -1.5): -0.9820."""
    x = [1.0, np.e, np.e**2]
    for values, expected in (((0.0, -1.0, 0.0), 0.0), ((0.0, -1.0, -1.5), -0.98198)):
        points = dict(zip(x, np.array(values)[:, None], strict=True))
        fit = fitted("correlation", points, 0.95, statistic=fitted_correlation)
        assert fit.value == pytest.approx(expected, abs=1e-5)
        assert (fit.low, fit.told) == (None, f"{expected:.3f} (a point has 1 seed: no interval)")


def test_too_few_points_have_no_fit() -> None:
    fit = fitted("exponent", {1.0: np.zeros(3), 2.0: np.ones(3)}, 0.95)
    assert (fit.value, fit.told) == (None, "too few points (2)")


def test_means_are_of_logarithms(tmp_path: Path) -> None:
    """Seeds at x/4, x and 4x have the geometric mean x: the law comes back, with an interval about it."""
    rows = gflops_rows(lambda gflops, seed: law(gflops, seed) * 4.0 ** (seed - 1))
    exponent = scaling_fits(table_of(tmp_path, rows))[1]
    assert exponent.value == pytest.approx(-0.3)
    assert exponent.low is not None
    assert exponent.low < -0.4


def test_diverged_arms_are_left_out_and_marked(tmp_path: Path) -> None:
    """One lost seed takes its arm out; its last number would have spoiled the fit."""
    table = table_of(tmp_path, gflops_rows(lost=[("XL", 2, 1)]))
    correlation, exponent = scaling_fits(table)
    assert exponent.value == pytest.approx(-0.3)
    assert exponent.points == correlation.points == 4
    assert exponent.left_out == ("medium,size=XL: 1 of 3 seeds diverged",)
    forward, training = draw_scaling(Source(tmp_path, "mini")).axes[:2]
    assert crosses(forward) == [20.0]
    assert crosses(training) == [10 * 20.0 * 100]  # where its finished seeds stand


def test_the_paper_s_exponent_goes_through_our_centre(tmp_path: Path) -> None:
    table, points = table_of(tmp_path, gflops_rows()), {10.0: np.log([8.0, 2.0]), 1000.0: np.log([0.5, 0.5])}
    at = np.array([10.0, 100.0])
    line, label = law_line(paper().law, table, points, at)
    assert line[1] == pytest.approx(np.sqrt(4 * 0.5))  # in the middle of both x, the geometric mean
    assert line[0] / line[1] == pytest.approx(10**0.456)
    assert "not its level" in label


def test_the_paper_s_level_is_drawn_under_its_protocol_alone(tmp_path: Path) -> None:
    points, at = {1.0: np.zeros(2)}, np.array([1e6])
    stated = replace(paper().law, protocol=PROTOCOL.name)
    for study, itself in (("imagenet256", True), ("mini", False)):
        line, label = law_line(stated, table_of(tmp_path, gflops_rows(), study=study), points, at)
        assert (line[0] == pytest.approx(3.52e5 * 1e6**-0.456)) == itself
        assert ("level" not in label) == itself
    assert "level" in law_line(paper().law, table_of(tmp_path, gflops_rows(), study="imagenet256"), points, at)[1]


def test_a_line_through_the_centre_by_hand() -> None:
    points = {1.0: np.log([1.0, 4.0]), 4.0: np.log([2.0])}
    assert through_centre(points, -1.0, np.array([1.0, 2.0, 4.0])) == pytest.approx([4.0, 2.0, 1.0])


def test_the_figure_of_scaling(tmp_path: Path) -> None:
    write_results(tmp_path, "gflops", gflops_rows())
    figure = draw_scaling(Source(tmp_path, "mini"))
    forward, training = figure.axes[:2]
    assert forward.get_title() == "correlation of logs -1.000 (no scatter over seeds); paper -0.95"
    assert training.get_ylabel() == forward.get_ylabel() == "FD-EfficientNetLite0-2K"
    (ours,) = (line for line in training.lines if line.get_label() == "our fit")
    assert list(np.asarray(ours.get_ydata())) == pytest.approx([law(1.0, 0), law(20.0, 0)])
    assert not crosses(forward)


def test_every_run_diverged(tmp_path: Path) -> None:
    gone = [(size, patch, seed) for size, patch in GFLOPS for seed in SEEDS]
    table = table_of(tmp_path, gflops_rows(lost=gone))
    assert [fit.value for fit in scaling_fits(table)] == [None, None]
    assert len(crosses(draw_scaling(Source(tmp_path, "mini")).axes[0])) == len(GFLOPS)


def test_cells_of_decoupled_sizes(tmp_path: Path) -> None:
    cells = cells_of(table_of(tmp_path, decoupled_rows(), "decoupled")).set_index(["size", "discriminator_size"])
    assert list(cells.loc[("B", "L"), ["mean", "sd", "seeds", "diverged"]]) == [50.0, 2.0, 3, 0]
    assert list(cells.loc[("L", "S"), ["seeds", "diverged"]]) == [2, 1]


def test_the_figure_of_decoupled_sizes(tmp_path: Path) -> None:
    write_results(tmp_path, "decoupled", decoupled_rows())
    cells, lines = draw_decoupled(Source(tmp_path, "mini")).axes[:2]
    assert {"100 ± 2\n3 seeds", "40 ± 2\n3 seeds", "1 of 3\nseeds diverged"} <= set(texts(cells))
    assert len(texts(cells)) == 9
    ((image,),) = (cells.images,)
    assert np.ma.getmaskarray(np.ma.asarray(image.get_array()))[2, 0]  # G = L, D = S has no colour
    grown = {c.get_label(): list(c[0].get_ydata()) for c in lines.containers}
    assert grown == {
        "D grows, G = S": [100.0, 80.0, 60.0],
        "G grows, D = S": [100.0, 90.0],
        "both grow": [100.0, 70.0, 40.0],
    }
    assert crosses(lines) == [2.0]


def test_the_command_writes_figures_and_numbers(tmp_path: Path) -> None:
    write_results(tmp_path, "gflops", gflops_rows())
    write_results(tmp_path, "decoupled", decoupled_rows())
    told = write({"results": str(tmp_path)})
    folder = tmp_path / "mini" / "figures"
    assert {file.name for file in folder.iterdir()} == {
        *(f"scaling.{kind}" for kind in ("png", "pdf", "json", "csv")),
        *(f"decoupled.{kind}" for kind in ("png", "pdf", "csv")),
    }
    assert told[1] == "exponent of distance over training GFLOPs: -0.300 (no scatter over seeds); paper -0.456"
    kept = json.loads((folder / "scaling.json").read_text())
    assert [fit["value"] for fit in kept["fits"]] == pytest.approx([-1.0, -0.3])
    assert kept["protocols"]["gflops"]["id"] == PROTOCOL.id
    assert kept["missing"] == []
    points = pd.read_csv(folder / "scaling.csv")
    assert len(points) == len(GFLOPS) * len(SEEDS)
    assert points.loc[0, "distance"] == pytest.approx(law(1.0, 0))


def test_gaps_are_named_or_printed(tmp_path: Path) -> None:
    write_results(tmp_path, "gflops", gflops_rows(), missing=["large,size=XL, seed 2"])
    with pytest.raises(
        UserError, match=r"mini/gflops: large,size=XL, seed 2; mini/decoupled: no table: .*allow_partial"
    ):
        write({"results": str(tmp_path)})
    assert not (tmp_path / "mini" / "figures").exists()
    write({"results": str(tmp_path), "allow_partial": "true"})
    kept = json.loads((tmp_path / "mini" / "figures" / "scaling.json").read_text())
    assert kept["missing"] == ["mini/gflops: large,size=XL, seed 2"]
    source = Source(tmp_path, "mini")
    assert [texts(axes) for axes in draw_decoupled(source).axes] == [["not run"], ["not run"]]
    assert source.gaps == ["mini/decoupled: no table"]


def test_nothing_at_all_is_drawn_empty(tmp_path: Path) -> None:
    write_results(tmp_path, "gflops", [{"arm": "small,size=S", "seed": 0, "status": "failed"}])
    told = write({"results": str(tmp_path), "allow_partial": "true"})
    assert [Path(file).name for file in told][:1] == ["scaling.png"]
    assert texts(draw_scaling(Source(tmp_path, "mini")).axes[0]) == ["no run has ended"]


def test_a_table_without_a_column(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "generator_gflops"} for row in gflops_rows()]
    write_results(tmp_path, "gflops", rows)
    with pytest.raises(UserError, match="lacks generator_gflops"):
        draw_scaling(Source(tmp_path, "mini"))


def test_numbers_of_runs_that_all_diverged_without_their_columns(tmp_path: Path) -> None:
    rows = [{"arm": f"small,size={size}", "seed": seed, "status": "diverged"} for size in "SB" for seed in SEEDS]
    write_results(tmp_path, "gflops", rows)
    write_results(tmp_path, "decoupled", rows)
    assert len(write({"results": str(tmp_path)})) == 6
    assert texts(draw_scaling(Source(tmp_path, "mini")).axes[0]) == ["every run diverged"]


def test_every_arm_lost_a_seed(tmp_path: Path) -> None:
    rows = [row for row in decoupled_rows() if (row["size"], row["discriminator_size"]) == ("L", "S")]
    write_results(tmp_path, "decoupled", rows)
    lines = draw_decoupled(Source(tmp_path, "mini")).axes[1]
    assert texts(lines) == ["a run of every arm diverged"]
