"""The learning rate and the width, three ways: ``python analysis/lr_width.py [study=mini] [name=value ...]``.

    study=mini results=results     whose tables: sweeps update_size, lr_grid and lr_crosscheck
    allow_partial=true             draw what there is, and print on the figure what is missing

Writes results/STUDY/figures/lr_width.png, .pdf, .json (fits) and .csv (points).

1. Output change per step (sweep update_size): root mean square change of G's samples, or of D's logits, by one step,
   geometric mean over the logged steps of a seed; against width, at S's rate and at each width's own. The paper predicts
   slopes 1 and 0 (log-log). S and B differ in width alone and decide; L and XL are deeper too (not in family mini_widths),
   and the fit of all stands beside (dotted).
2. Rates (sweep lr_grid): of each width and seed the largest rate that trains (whatever lower ones did) and the one with the
   lowest distance; predicted slope -1. A seed whose rate stands at the edge of its grid tells only a bound: it is an open
   triangle pointing to where the rate may lie, and in no fit; nor is the width of such a seed.
   The grid (grey) is in multiples of the rule's rate, so that edges alone would give -1.
3. Cross-check (sweep lr_crosscheck): curves of S and B at their own and at each other's rate (analysis/curves.py).

Intervals of slopes: t, from the scatter of seeds pooled over widths; of rates with the coarseness of the grid, as in the
verdicts (analysis/slopes.py). Arms of update_size with a diverged seed are in no fit.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.command import run_command
from analysis.curves import draw_curves, name_of_distance
from analysis.drawing import (
    KNOWN,
    LOST_COLOR,
    PAPER_LINE,
    SEED_ALPHA,
    facts_of,
    finish,
    has,
    logarithmic,
    logarithms_of,
    lost_of,
    mark_lost,
    note_left_out,
    partial_of,
    require_whole,
    say,
    source_of,
    why_empty,
    write_numbers,
)
from analysis.fits import Fit, through_centre
from analysis.layout import Panel, figure_of
from analysis.lr_fits import (
    CHANGES,
    CHOSEN,
    DECIDING,
    WIDTH,
    change_fits,
    change_points,
    changes_of,
    rate_fit,
    rate_points,
    rates_of,
)
from analysis.scaling import ends
from analysis.style import colors_of, legend_in
from analysis.tables import Source, Table

RATE_NAMES = {"fixed": "S's rate", "rule": "own rate"}
LABELS = {
    "g_output_change": "rms change of the samples' latents",
    "d_output_change": "rms change of the logits",
}
GRID = ("lr_g", "lr_multiple", WIDTH, "distance", "step")
"""Columns that are needed of lr_grid."""


def draw_lr_width(source: Source) -> Figure:
    """Output changes, rates and curves in six panels."""
    return figure_of(source, PANELS, in_a_row=3, height_in=4.0)


def draw_changes(axes: Axes, table: Table, change: str) -> None:
    """One quantity of update_size against width, fits and predictions."""
    found, fits = changes_of(table, change), change_fits(table, change)
    arms, lost = table.ended["arm"], table.ended["arm"].isin(lost_of(table).keys())
    widths = np.array(sorted(table.ended[CHANGES[change]].dropna().unique()), dtype=float)
    for (how, (deciding, every)), color in zip(fits.items(), colors_of(list(fits)).values(), strict=True):
        rows, points = found[(found["how"] == how) & (found["lost"] == 0)], change_points(found, how)
        axes.plot(rows["width"], rows["change"], ".", color=color, alpha=SEED_ALPHA)
        label = f"{RATE_NAMES[how]}: slope of S and B {deciding.told}\nof all {every.told}"
        axes.plot(list(points), [np.exp(values.mean()) for values in points.values()], "o", color=color, label=label)
        two = change_points(found, how, DECIDING)
        if deciding.value is not None:
            at = np.array(sorted(two))
            axes.plot(at, through_centre(two, deciding.value, at), color=color)
            axes.plot(widths, through_centre(two, deciding.paper or 0.0, widths), **PAPER_LINE)
        if every.value is not None:
            axes.plot(widths, through_centre(points, every.value, widths), ":", color=color)
        mark_lost(axes, list(table.ended.loc[lost & arms.str.startswith(f"{how},"), CHANGES[change]].unique()), color)
    axes.plot([], [], **PAPER_LINE, label="predicted, through S and B")
    axes.set_xlabel("width")
    axes.set_ylabel(LABELS[change])
    logarithmic(axes, "x", list(widths))
    logarithms_of(axes, table, table.ended[change])
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.16))


def draw_rates(axes: Axes, table: Table, what: str) -> None:
    """A chosen rate against width, seed by seed; what stands at the grid's edge is open."""
    rates, fit = rates_of(table, what), rate_fit(table, what)
    points, _ = rate_points(rates)
    tried = ends(table)[[WIDTH, "lr_g"]].drop_duplicates()
    axes.plot(tried[WIDTH], tried["lr_g"], "_", color="#cccccc", markersize=10, zorder=0, label="tried")
    color = colors_of(list(CHOSEN))[what]
    seeds = sorted({rate.seed for rate in rates})
    marks = {"inside": ("o", color, "a seed"), "upper": ("^", "white", "at least"), "lower": ("v", "white", "at most")}
    for edge, (marker, face, label) in marks.items():
        here = [rate for rate in rates if rate.edge == edge]
        x = [rate.width * 1.03 ** (seeds.index(rate.seed) - (len(seeds) - 1) / 2) for rate in here]
        y = [rate.rate for rate in here]
        if here:
            axes.plot(x, y, marker, markerfacecolor=face, markeredgecolor=color, label=label)
    if points:
        at = np.array(sorted({rate.width for rate in rates}))
        axes.plot(at, through_centre(points, fit.paper or 0.0, at), **PAPER_LINE, label=f"predicted {fit.paper:g}")
        if fit.value is not None:
            inside = np.array(sorted(points))
            axes.plot(inside, through_centre(points, fit.value, inside), color=color)
    axes.set_title(f"{what}: slope {fit.told}")
    axes.set_xlabel("width")
    axes.set_ylabel("learning rate")
    logarithmic(axes, "x", sorted({rate.width for rate in rates}))
    logarithmic(axes, "y")
    axes.legend(ncols=3, loc="upper left", bbox_to_anchor=(0.0, -0.16))


def draw_cells(axes: Axes, table: Table) -> None:
    """Mean distance over seeds by multiple of the rule's rate and width; where seeds diverged, how many."""
    rows = ends(table)
    pairs = rows.groupby(["lr_multiple", WIDTH])
    mean, lost, ended = (
        values.unstack() for values in (pairs["distance"].mean(), pairs["lost"].first(), pairs["seed"].nunique())
    )
    image = mean.mask(lost > 0).to_numpy(np.float64)
    if not np.isfinite(image).any():
        say(axes, why_empty(table))
        return
    norm = LogNorm(np.nanmin(image), np.nanmax(image) * 1.0001)
    axes.imshow(image, cmap="viridis_r", norm=norm, aspect="auto", origin="lower")
    middle = np.sqrt(np.nanmin(image) * np.nanmax(image))
    for (i, j), value in np.ndenumerate(image):
        count = ended.to_numpy()[i, j]
        if np.isfinite(count):
            gone = not np.isfinite(value)
            text = f"x {lost.to_numpy()[i, j]:g} of {count:g}" if gone else f"{value:.4g}"
            color = LOST_COLOR if gone else "white" if value > middle else "black"
            axes.text(j, i, text, ha="center", va="center", color=color)
    axes.set_xticks(range(len(mean.columns)), [f"{width:g}" for width in mean.columns])
    axes.set_yticks(range(len(mean.index)), [f"{multiple:g}" for multiple in mean.index])
    axes.set_xlabel("width")
    axes.set_ylabel("multiple of the rule's rate")
    axes.set_title(f"{name_of_distance(table)} (x: diverged seeds)")
    note_left_out(axes, rows["measured"])


def draw_cross(axes: Axes, table: Table) -> None:
    """Distances over training of S and B at their own and at each other's rate."""
    draw_curves(axes, table)
    legend_in(axes)


def changes_panel(title: str, change: str) -> Panel:
    """Of one quantity of update_size."""
    columns = (change, CHANGES[change], "size")
    return Panel(title, "update_size", columns, lambda axes, table: draw_changes(axes, table, change))


def rates_panel(what: str) -> Panel:
    """Of one choice from lr_grid."""
    return Panel(what, "lr_grid", GRID, lambda axes, table: draw_rates(axes, table, what))


PANELS = (
    changes_panel("change of G's samples per step", "g_output_change"),
    changes_panel("change of D's logits per step", "d_output_change"),
    rates_panel("largest trainable rate"),
    rates_panel("best rate"),
    Panel("distance by rate and width", "lr_grid", GRID, draw_cells),
    Panel("S and B at their own and each other's rate", "lr_crosscheck", ("distance",), draw_cross),
)


def numbers_of(source: Source) -> tuple[list[Fit], pd.DataFrame]:
    """All fits, and the points behind them: quantity, width, seed, value, and edge of the grid or diverged seeds."""
    fits: list[Fit] = []
    rows: list[Mapping[str, Any]] = []
    sizes, grid = source.table("update_size"), source.table("lr_grid")
    for change, width in CHANGES.items():
        if not has(sizes, change, width, "size"):
            continue
        fits += [fit for pair in change_fits(sizes, change).values() for fit in pair]
        found = changes_of(sizes, change).rename(columns={"change": "value"})
        rows += found.assign(quantity=f"{change}, " + found["how"] + " rate").to_dict("records")
    for what in CHOSEN:
        if has(grid, *GRID):
            fits.append(rate_fit(grid, what))
            rows += [{"quantity": what, **asdict(rate), "value": rate.rate} for rate in rates_of(grid, what)]
    return fits, pd.DataFrame(rows).reindex(columns=["quantity", "size", "width", "seed", "value", "edge", "lost"])


def write(values: dict[str, str]) -> list[str]:
    """The figure with its numbers; lines for the terminal. :class:`UserError` for gaps that are not allowed."""
    source, partial = source_of(values), partial_of(values)
    figure = draw_lr_width(source)
    require_whole(source, partial)
    stem = source.results / source.study / "figures" / "lr_width"
    files = finish(figure, source, stem, allow_partial=partial)
    fits, rows = numbers_of(source)
    tables = [source.table(sweep) for sweep in ("update_size", "lr_grid", "lr_crosscheck")]
    files += write_numbers(stem, facts_of(source, __doc__, *tables), fits, rows)
    return [*(f"{fit.what}: {fit.told}; predicted {fit.paper}" for fit in fits), *map(str, files)]


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, write)


if __name__ == "__main__":
    main()
