"""Panels of what was run."""

from pathlib import Path

from matplotlib.axes import Axes

from analysis.layout import Panel, figure_of
from analysis.tables import Source, Table
from tests.made_up import write_results


def name_arms(axes: Axes, table: Table) -> None:
    axes.text(0, 0, ", ".join(table.arms))


def panels_of(*sweeps: str) -> list[Panel]:
    return [Panel(f"of {sweep}", sweep, ("distance",), name_arms) for sweep in sweeps]


def write(folder: Path, sweep: str) -> None:
    run = {"arm": f"arm of {sweep}", "status": "finished", "distance": 1.0}
    write_results(folder, sweep, [run | {"seed": seed} for seed in range(3)])


def test_sweeps_that_were_not_run_have_no_panel_but_are_named(tmp_path: Path) -> None:
    write(tmp_path, "repa")
    write(tmp_path, "mng")
    source = Source(tmp_path, "mini")
    figure = figure_of(source, panels_of("mng", "lr_grid", "repa"), in_a_row=3, height_in=2.0)
    drawn = [(axes.get_title(), axes.texts[0].get_text()) for axes in figure.axes]
    assert drawn == [("of mng", "arm of mng"), ("of repa", "arm of repa")]
    assert source.gaps == ["mini/lr_grid: no table"]


def test_nothing_was_run(tmp_path: Path) -> None:
    figure = figure_of(Source(tmp_path, "mini"), panels_of("mng", "repa"), in_a_row=3, height_in=2.0)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["not run", "not run"]


def test_the_last_row_may_be_short(tmp_path: Path) -> None:
    for sweep in ("mng", "repa", "lr_grid"):
        write(tmp_path, sweep)
    figure = figure_of(Source(tmp_path, "mini"), panels_of("mng", "repa", "lr_grid"), in_a_row=2, height_in=2.0)
    assert [axes.get_title() for axes in figure.axes] == ["of mng", "of repa", "of lr_grid"]
    assert figure.get_size_inches()[1] == 4.0  # two rows
