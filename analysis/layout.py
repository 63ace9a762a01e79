"""Figures of several panels, each of one sweep."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import usable
from analysis.style import panels
from analysis.tables import Source, Table


@dataclass(frozen=True)
class Panel:
    """What ``draw`` makes of the table of ``sweep``, which needs ``columns``."""

    title: str
    sweep: str
    columns: tuple[str, ...]
    draw: Callable[[Axes, Table], object]


def figure_of(source: Source, all_panels: Sequence[Panel], in_a_row: int, height_in: float) -> Figure:
    """The panels in reading order, less those of sweeps that were not run (``source.gaps`` names them) unless none was."""
    tables = {panel.sweep: source.table(panel.sweep) for panel in all_panels}
    shown = [panel for panel in all_panels if tables[panel.sweep] is not None] or all_panels
    in_a_row = min(in_a_row, len(shown))
    figure, places = panels(in_a_row, math.ceil(len(shown) / in_a_row), height_in=height_in)
    for axes in places[len(shown) :]:
        axes.remove()
    for axes, panel in zip(places[: len(shown)], shown, strict=True):
        axes.set_title(panel.title)
        table = tables[panel.sweep]
        if usable(axes, table, *panel.columns) and table is not None:
            panel.draw(axes, table)
    return figure
