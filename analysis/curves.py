"""Curves of the Fréchet distance over training, an arm at a time.

An arm's line is the arithmetic mean over its seeds, as the verdicts take it; thin lines are the seeds, and the band spans
their least and greatest. The mean ends where the first seed diverged: a mean of the survivors would flatter the arm. A cross
marks where a divergence began (``diverged_step``; the run's check ends it a little later), at the last distance before it, or
at the upper edge if there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis.drawing import (
    EVERY_LOST,
    PAPER_LINE,
    SEED_ALPHA,
    all_lost,
    logarithms_of,
    mark_lost,
    positive,
    require_columns,
    say,
)
from analysis.paper import PaperCurve, curves_beside
from analysis.style import colors_of
from analysis.tables import Table
from gat.errors import require_choice

X = Literal["images", "step"]
X_NAMES = {"images": "images seen", "step": "iterations"}
LOST = "divergence began"


def seeds_of(table: Table, arm: str, x: str = "images") -> pd.DataFrame:
    """Distances of an arm that have a logarithm: a row per x, a column per seed (without those that have none)."""
    rows = table.rows[(table.rows["arm"] == arm) & positive(table.rows["distance"]).notna()]
    return rows.pivot_table(index=x, columns="seed", values="distance").sort_index()


def divergences(table: Table, arm: str, x: str = "images") -> dict[int, float]:
    """Where each diverged seed's divergence began, by seed."""
    rows = table.rows[(table.rows["arm"] == arm) & (table.rows["status"] == "diverged")].groupby("seed").last()
    per_step = rows["batch_size"] if x == "images" else 1
    places = (rows["diverged_step"] * per_step).dropna() if len(rows) else {}
    return {int(seed): float(place) for seed, place in places.items()}


def mean_of(table: Table, arm: str, x: str = "images") -> pd.Series:
    """Mean over an arm's ended seeds by x, as long as none has diverged and each was evaluated."""
    seeds, rows = seeds_of(table, arm, x), table.rows[table.rows["arm"] == arm]
    counted = rows.loc[rows["distance"].notna() | (rows["status"] == "diverged"), "seed"].nunique()
    alive = seeds[seeds.notna().sum(axis=1) == counted]
    lost = divergences(table, arm, x)
    return (alive[alive.index < min(lost.values())] if lost else alive).mean(axis=1)


def draw_curves(
    axes: Axes,
    table: Table,
    *,
    arms: Sequence[str] | None = None,
    paper: bool = True,
    x: X = "images",
    colors: Mapping[str, str] | None = None,
) -> None:
    """Distance against ``x`` of the arms (all of them if not named), and the paper's curves where they compare.

    ``colors``: by arm; None: one for each.
    """
    require_choice("x", x, tuple(X_NAMES))
    chosen = [arm for arm in table.arms if arms is None or arm in arms]
    axes.set_xlabel(X_NAMES[x])
    axes.set_ylabel(name_of_distance(table))
    if "distance" not in table.rows or table.rows["distance"].isna().all():
        say(axes, EVERY_LOST if all_lost(table) else "no distance was measured")
        return
    require_columns(table, x, *needed_of_divergences(table, x))
    colors = colors or colors_of(table.arms)
    for arm in chosen:
        _draw_arm(axes, table, arm, x, colors[arm])
    if any(divergences(table, arm) for arm in chosen):
        axes.plot([], [], "x", color="black", label=LOST)
    for arm, curve in curves_beside(table) if paper else ():
        if arm in chosen:
            _draw_paper(axes, curve, x, colors[arm])
    logarithms_of(axes, table, table.rows.loc[table.rows["arm"].isin(chosen), "distance"])
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def needed_of_divergences(table: Table, x: str) -> list[str]:
    """Columns that tell where divergences began, if there are any."""
    lost = "status" in table.rows and (table.rows["status"] == "diverged").any()
    return ["diverged_step", *(["batch_size"] if x == "images" else [])] if lost else []


def name_of_distance(table: Table) -> str:
    """As the table calls it, such as FD-EfficientNetLite0-2K."""
    names = table.rows["distance_name"].dropna().unique() if "distance_name" in table.rows else []
    return str(names[0]) if len(names) else "Fréchet distance"


def _draw_arm(axes: Axes, table: Table, arm: str, x: str, color: str) -> None:
    seeds, mean = seeds_of(table, arm, x), mean_of(table, arm, x)
    if seeds.shape[1] > 1:
        for _, values in seeds.items():
            axes.plot(values.dropna().index, values.dropna(), color=color, linewidth=0.7, alpha=SEED_ALPHA)
        band = seeds.loc[mean.index]
        axes.fill_between(mean.index, band.min(axis=1), band.max(axis=1), color=color, alpha=0.12, linewidth=0)
    axes.plot(mean.index, mean, color=color, marker="o", label=arm)
    for seed, place in divergences(table, arm, x).items():
        before = seeds[seed].dropna() if seed in seeds else pd.Series(dtype=float)
        before = before[before.index <= place]
        if before.empty:
            mark_lost(axes, [place], color)
        else:
            axes.plot([before.index[-1], place], [before.iloc[-1]] * 2, color=color, linewidth=0.7, linestyle=":")
            axes.plot([place], [before.iloc[-1]], "x", color=color, markersize=6, markeredgewidth=1.6)


def _draw_paper(axes: Axes, curve: PaperCurve, x: str, color: str) -> None:
    """Grey and dashed; its markers have the rim of the arm beside which it stands."""
    places = curve.images if x == "images" else curve.steps
    rim: dict[str, Any] = {"marker": "s", "markerfacecolor": "white", "markeredgecolor": color}
    axes.plot(places, curve.values, **PAPER_LINE, **rim, label=f"paper, {curve.model} ({curve.metric}, {curve.source})")
