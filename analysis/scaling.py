"""Distance against compute, and against the sizes of G and D apart: ``python analysis/scaling.py [name=value ...]``.

    study=mini results=results     whose tables: sweeps gflops and decoupled
    allow_partial=true             draw what there is, and print on the figure what is missing

Writes results/STUDY/figures/scaling.png, .pdf, .json (fits) and .csv (points), and decoupled.png, .pdf, .csv.

Of each arm of gflops the geometric mean of the distance at the end over seeds is drawn, as the fits are of logarithms:

    correlation    of log distance with log forward GFLOPs of one sample of the generator
    power law      distance = a C^b, C in GFLOPs of training in all (G and D); least squares of the logarithms of the means

Intervals are of the bootstrap over seeds. They tell how seeds scatter, not how far the arms lie from a straight line. Arms
with a diverged seed are in no fit: a cross at the upper edge stands for them, open circles for their seeds that finished.
The paper's law is drawn itself only where study and protocol are its own; elsewhere its exponent alone is, through the centre
of our points. Decoupled sizes: arithmetic means over seeds, as in the verdicts, and their standard deviations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.command import run_command
from analysis.curves import name_of_distance
from analysis.drawing import (
    KNOWN,
    PAPER_LINE,
    SEED_ALPHA,
    confidence_of,
    facts_of,
    finish,
    has,
    left_out_of,
    logarithmic,
    logarithms_of,
    lost_of,
    mark_lost,
    partial_of,
    positive,
    require_whole,
    source_of,
    usable,
    write_numbers,
)
from analysis.fits import Fit, fitted, through_centre
from analysis.paper import PaperLaw, comparable, number, paper
from analysis.slopes import Points, fitted_correlation
from analysis.style import colors_of, legend_below, panels
from analysis.tables import Source, Table
from gat.files import replacing, told

FORWARD, TRAINING = "generator_gflops", "training_gflops"
NEEDED = ("distance", "size", "patch", "step", FORWARD, TRAINING)
NEEDED_APART = ("distance", "size", "discriminator_size", "step")
SIZES = ("S", "B", "L", "XL")
MARKERS = "os^Dv"


def ends(table: Table) -> pd.DataFrame:
    """The last row of every ended run; ``lost``: diverged seeds of its arm.

    ``distance``: of finished runs, as far as it has a logarithm; ``measured``: that in any case.
    """
    last = table.ended.sort_values("step", kind="stable").groupby(["arm", "seed"]).tail(1).sort_index()
    lost = last["arm"].map(lost_of(table)).fillna(0).astype(int)
    measured = last["distance"].where(last["status"] == "finished")
    return last.assign(distance=positive(measured), measured=measured, lost=lost)


def points_of(rows: pd.DataFrame, x: str) -> Points:
    """Logarithms of the distance by x, of arms without a diverged seed (arms of equal x together)."""
    whole = rows[(rows["lost"] == 0) & rows["distance"].notna()]
    return {float(place): np.log(one["distance"].to_numpy(np.float64)) for place, one in whole.groupby(x)}


def scaling_fits(table: Table) -> list[Fit]:
    """Correlation with forward GFLOPs, and exponent over training GFLOPs, as defined above."""
    rows, confidence, left_out = ends(table), confidence_of(table), left_out_of(table)
    return [
        fitted(
            "correlation of log distance with log forward GFLOPs of G",
            points_of(rows, FORWARD),
            confidence,
            statistic=fitted_correlation,
            paper=number("gflops", "correlation"),
            left_out=left_out,
        ),
        fitted(
            "exponent of distance over training GFLOPs",
            points_of(rows, TRAINING),
            confidence,
            paper=paper().law.exponent,
            left_out=left_out,
        ),
    ]


def law_line(law: PaperLaw, table: Table, points: Points, at: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """The paper's law at x = ``at`` and its label: itself where it compares, else its exponent through our centre."""
    if comparable(table, law.study, law.protocol):
        return law.coefficient * at**law.exponent, f"paper: {law.coefficient:.3g} C^{law.exponent}"
    return through_centre(points, law.exponent, at), f"paper's exponent {law.exponent} (not its level)"


def draw_scaling(source: Source) -> Figure:
    """Distance against forward and against training GFLOPs."""
    figure, (forward, training) = panels(2)
    forward.set_xlabel("forward GFLOPs of G, one sample")
    training.set_xlabel("training GFLOPs in all")
    table = source.table("gflops")
    if not (usable(forward, table, *NEEDED) & usable(training, table, *NEEDED)):
        return figure
    assert table is not None
    rows, (correlation, exponent) = ends(table), scaling_fits(table)
    draw_points(forward, rows, FORWARD, name_of_distance(table))
    draw_points(training, rows, TRAINING, name_of_distance(table))
    forward.set_title(f"correlation of logs {correlation.told}; paper {correlation.paper}")
    training.set_title(f"exponent {exponent.told}; paper {exponent.paper}")
    if points := points_of(rows, TRAINING):
        at = np.geomspace(min(points), max(points), 2)
        line, label = law_line(paper().law, table, points, at)
        training.plot(at, line, **PAPER_LINE, label=label)
        if exponent.value is not None:
            training.plot(at, through_centre(points, exponent.value, at), color="black", linewidth=1.2, label="our fit")
    for axes in (forward, training):
        logarithmic(axes, "x")
        logarithms_of(axes, table, rows["measured"])
    legend_below(figure, training, 6)
    return figure


def draw_points(axes: Axes, rows: pd.DataFrame, x: str, name: str) -> None:
    """Geometric means with their seeds; colour by size, marker by patch; what diverged as described above."""
    colors = colors_of(SIZES)
    markers = dict(zip(sorted(rows["patch"].unique()), MARKERS, strict=False))
    for (size, patch), arm in rows.groupby(["size", "patch"]):
        place, color, seeds = arm[x].max(), colors.get(size, "black"), arm["distance"].dropna()
        if arm["lost"].any():
            mark_lost(axes, [place], color)
            axes.plot([place] * len(seeds), seeds, "o", markerfacecolor="none", markeredgecolor=color)
            continue
        axes.plot([place] * len(seeds), seeds, ".", color=color, alpha=SEED_ALPHA)
        if len(seeds):
            axes.plot([place], [np.exp(np.log(seeds).mean())], markers[patch], color=color, markersize=6)
    for size in [size for size in SIZES if size in set(rows["size"])]:
        axes.plot([], [], "o", color=colors[size], label=size)
    for patch, marker in markers.items():
        axes.plot([], [], marker, color="#777777", label=f"patch {patch:g}")
    if rows["lost"].any():
        axes.plot([], [], "x", color="black", label="a seed diverged: not in the fits")
    axes.set_ylabel(name)


def cells_of(table: Table) -> pd.DataFrame:
    """Of each pair of sizes: mean and standard deviation over finished seeds, their number, and diverged seeds."""
    pairs = ends(table).groupby(["size", "discriminator_size"])
    found = pairs["distance"].agg(mean="mean", sd="std", seeds="count").reset_index()
    return found.assign(diverged=pairs["lost"].first().to_numpy())


def draw_decoupled(source: Source) -> Figure:
    """Sizes of G and D: a table of all pairs, and what growing one of them alone does."""
    figure, (cells, lines) = panels(2)
    cells.set(xlabel="size of D", ylabel="size of G")
    lines.set_xlabel("size of what grows")
    table = source.table("decoupled")
    if usable(cells, table, *NEEDED_APART) & usable(lines, table, *NEEDED_APART):
        assert table is not None
        found = cells_of(table)
        draw_cells(cells, found)
        cells.set_title(f"{name_of_distance(table)}: mean ± sd over seeds")
        draw_growth(lines, found)
        logarithms_of(lines, table, ends(table)["measured"])
        lines.set_ylabel(name_of_distance(table))
        legend_below(figure, lines, 3)
    return figure


def draw_cells(axes: Axes, found: pd.DataFrame) -> None:
    """G down, D across; the text says how many seeds stand behind a cell."""
    sizes = [size for size in SIZES if size in {*found["size"], *found["discriminator_size"]}]
    grid = found.pivot_table(index="size", columns="discriminator_size", values="mean", dropna=False)
    grid = grid.mask(found.pivot_table(index="size", columns="discriminator_size", values="diverged") > 0)
    image = grid.reindex(index=sizes, columns=sizes).to_numpy(np.float64)
    middle = np.inf
    if np.isfinite(image).any():
        low, high = np.nanmin(image), np.nanmax(image)
        middle = np.sqrt(low * high)
        axes.imshow(image, cmap="viridis_r", norm=LogNorm(low, high * 1.0001), aspect="auto")
    else:
        axes.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(len(sizes) - 0.5, -0.5))
    for cell in found.to_dict("records"):
        place = (sizes.index(cell["discriminator_size"]), sizes.index(cell["size"]))
        dark = image[place[1], place[0]] > middle
        axes.text(*place, told_of(cell), ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_yticks(range(len(sizes)), sizes)


def told_of(cell: Mapping[Any, Any]) -> str:
    """A pair's numbers in words."""
    ended = cell["seeds"] + cell["diverged"]
    if cell["diverged"]:
        return f"{cell['diverged']} of {ended}\nseeds diverged"
    if not cell["seeds"]:
        return "no number"
    spread = f" ± {cell['sd']:.2g}" if np.isfinite(cell["sd"]) else ""
    return f"{cell['mean']:.4g}{spread}\n{ended} seed{'s' * (ended > 1)}"


def draw_growth(axes: Axes, found: pd.DataFrame) -> None:
    """From the smallest pair on: D grows alone, G alone, or both; error bars are standard deviations."""
    sizes = [size for size in SIZES if size in set(found["size"]) | set(found["discriminator_size"])]
    by_pair = {(cell["size"], cell["discriminator_size"]): cell for cell in found.to_dict("records")}
    first = sizes[0]
    ways = {
        f"D grows, G = {first}": [(first, size) for size in sizes],
        f"G grows, D = {first}": [(size, first) for size in sizes],
        "both grow": [(size, size) for size in sizes],
    }
    for (label, pairs), color in zip(ways.items(), colors_of(list(ways)).values(), strict=True):
        there = [(i, by_pair[pair]) for i, pair in enumerate(pairs) if pair in by_pair]
        whole = [(i, cell) for i, cell in there if not cell["diverged"]]
        bars = [np.nan_to_num(cell["sd"]) for _, cell in whole]
        axes.errorbar(
            [i for i, _ in whole], [cell["mean"] for _, cell in whole], bars, color=color, marker="o", label=label
        )
        mark_lost(axes, [i for i, cell in there if cell["diverged"]], color)
    axes.set_xticks(range(len(sizes)), sizes)


def write(values: dict[str, str]) -> list[str]:
    """Both figures with their numbers; lines for the terminal. :class:`UserError` for gaps that are not allowed."""
    partial = partial_of(values)
    source, apart = source_of(values), source_of(values)
    figures = {"scaling": (draw_scaling(source), source), "decoupled": (draw_decoupled(apart), apart)}
    both = Source(source.results, source.study, [*source.gaps, *apart.gaps])
    require_whole(both, partial)
    folder = source.results / source.study / "figures"
    files = [file for name, (f, s) in figures.items() for file in finish(f, s, folder / name, allow_partial=partial)]
    table = source_of(values).table("gflops")
    fits, rows = (scaling_fits(table), ends(table)) if has(table, *NEEDED) else ([], pd.DataFrame())
    keep = ["arm", "seed", "status", "size", "patch", FORWARD, TRAINING, "distance", "lost"]
    files += write_numbers(folder / "scaling", facts_of(source, __doc__, table), fits, rows.reindex(columns=keep))
    return [
        *(f"{fit.what}: {fit.told}; paper {fit.paper}" for fit in fits),
        *write_cells(values, folder),
        *map(str, files),
    ]


def write_cells(values: dict[str, str], folder: Path) -> list[str]:
    """decoupled.csv, if that sweep has ended runs."""
    table = source_of(values).table("decoupled")
    if not has(table, *NEEDED_APART):
        return []
    file = folder / "decoupled.csv"
    with told(f"numbers {file}", "draw it again"), replacing(file) as stream:
        cells_of(table).to_csv(stream, index=False)
    return [str(file)]


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, write)


if __name__ == "__main__":
    main()
