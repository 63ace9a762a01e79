"""How several checkpoints and runs look in one figure: bars for one or two, lines for more.

A colour stands for a checkpoint's place in its run, dashes and hollow squares for the second run; where each run has one
checkpoint, a colour stands for a run.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import style
from analysis.series import Measured, Row, by_run

MOST_BARS = 2
OF_RUNS: tuple[dict[str, Any], ...] = (
    {"linestyle": "-", "marker": "o"},
    {"linestyle": "--", "marker": "s", "markerfacecolor": "white"},
)
LEGEND_COLUMNS = 2
LINE_IN = 0.18  # height of a line of the legend
HEIGHT_IN = 3.8

Drawn = tuple[list[Row], dict[str, Any]]
"""Rows, and matplotlib's label, colour, line style and markers for them."""


def looks(series: Sequence[Measured], names: Sequence[str]) -> list[dict[str, Any]]:
    """Label, colour, line style and markers of each series; ``names`` are all different."""
    runs = by_run(series)
    longest = max(len(run) for run in runs)
    if longest == 1:
        colors = style.colors_of(list(names))
        return [{"label": name, "color": colors[name]} | OF_RUNS[0] for name in names]
    ramp = list(style.colors_of([str(i) for i in range(longest)]).values())
    return [
        {"label": names[i], "color": ramp[place]} | OF_RUNS[min(r, len(OF_RUNS) - 1)]
        for r, run in enumerate(runs)
        for place, i in enumerate(run)
    ]


def comparison(columns: int, series: int, width_in: float = style.PANEL_IN[0], **how: Any) -> tuple[Figure, list[Axes]]:
    """A row of panels above a legend of ``series`` names, for which the figure is taller. ``how``: sharex, sharey."""
    lines = -(-series // LEGEND_COLUMNS)
    return style.panels(columns, width_in=width_in, height_in=HEIGHT_IN + LINE_IN * max(0, lines - 2), **how)


def draw_intervals(axes: Axes, drawn: Sequence[Drawn], place: str, field: str) -> None:
    """``field`` of each row against ``place``, with its 95% interval (``field``_low to ``field``_high); not below 0."""
    width = 0.8 / len(drawn)
    for i, (rows, look) in enumerate(drawn):
        values = [row[field] for row in rows]
        low = [max(0.0, row[field] - row[f"{field}_low"]) for row in rows]
        high = [max(0.0, row[f"{field}_high"] - row[field]) for row in rows]
        where = [row[place] for row in rows]
        if len(drawn) <= MOST_BARS:
            where = [x + (i + 0.5) * width - 0.4 for x in where]
            bar = {"label": look["label"], "color": look["color"]}
            axes.bar(where, values, width, yerr=(low, high), capsize=2, **bar)
        else:
            axes.errorbar(where, values, yerr=(low, high), capsize=2, markersize=3.5, **look)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
