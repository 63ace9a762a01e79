"""Figures of sweeps that are curves or ends of curves (which ones: analysis/figures.py)."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from analysis.curves import draw_curves, name_of_distance
from analysis.drawing import LOST_COLOR, confidence_of, logarithms_of, lost_of, positive, usable
from analysis.layout import Panel, figure_of
from analysis.style import colors_of, legend_below, legend_in, panels
from analysis.tables import Source, Table

ABLATIONS = ("noise_nesting", "consistency", "logit_centering", "penalty_fraction", "repa_generator", "autoencoder")


def curves_of(sweep: str) -> Callable[[Source], Figure]:
    """A figure of the distance over training of all arms of a sweep; where arms have sizes, a panel for each."""

    def draw(source: Source) -> Figure:
        table = source.table(sweep)
        groups = groups_of(table)
        kinds = colors_of(list(dict.fromkeys(_kind(arm) for arms in groups.values() for arm in arms)))
        figure, axes = panels(len(groups), sharey=True)
        for panel, (title, arms) in zip(axes, groups.items(), strict=True):
            if usable(panel, table):
                assert table is not None
                draw_curves(panel, table, arms=arms, colors={arm: kinds[_kind(arm)] for arm in arms})
                legend_in(panel)
            panel.set_title(title)
        return figure

    return draw


def _kind(arm: str) -> str:
    return arm.partition(",size=")[0]


def groups_of(table: Table | None) -> dict[str, list[str]]:
    """Arms by size where they are named ``KIND,size=S``; else all of them under the sweep's name."""
    arms = table.arms if table else []
    if not arms or not all(",size=" in arm for arm in arms):
        return {table.sweep if table else "": arms}
    sizes = dict.fromkeys(arm.partition(",size=")[2] for arm in arms)
    return {f"size {size}": [arm for arm in arms if arm.endswith(f",size={size}")] for size in sizes}


def draw_mng(source: Source) -> Figure:
    """MNG's arms over training, and at the end."""
    table = source.table("mng")
    figure, (curves, ends) = panels(2)
    if usable(curves, table) & usable(ends, table, "distance", "end"):
        assert table is not None
        draw_curves(curves, table)
        draw_ends(ends, table)
    curves.set_title("Over training")
    ends.set_title("At the end, a dot per seed")
    legend_below(figure, curves)
    return figure


def draw_ablations(source: Source) -> Figure:
    """The cheap ablations and the open questions: a panel each."""
    ends = [Panel(sweep, sweep, ("distance", "end"), draw_ends) for sweep in ABLATIONS]
    return figure_of(source, ends, in_a_row=3, height_in=2.9)


def draw_ends(axes: Axes, table: Table) -> None:
    """Distance at the end, a dot per seed; beside them the mean with its interval. Diverged seeds stand at the upper edge."""
    colors, lost, confidence = colors_of(table.arms), lost_of(table), confidence_of(table)
    last = table.rows[table.rows["end"] == True]  # noqa: E712  # the column holds gaps
    for place, arm in enumerate(table.arms):
        values = positive(last.loc[last["arm"] == arm, "distance"]).dropna().to_numpy(float)
        axes.plot([place - 0.12] * len(values), values, "o", color=colors[arm], alpha=0.7)
        if len(values) > 1 and arm not in lost:
            half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
            axes.errorbar([place + 0.12], [values.mean()], [half], fmt="_", color=colors[arm], capsize=3, markersize=9)
        if arm in lost:
            axes.text(place, 0.98, f"{lost[arm]} diverged", color=LOST_COLOR, ha="center", va="top", fontsize="x-small",
                      transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_xticks(np.arange(len(table.arms)), [arm.replace("_", "\n") for arm in table.arms], fontsize="small")
    axes.set_xlim(-0.6, len(table.arms) - 0.4)
    axes.set_ylabel(name_of_distance(table))
    logarithms_of(axes, table, last["distance"])
