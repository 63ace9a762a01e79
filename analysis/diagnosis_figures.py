"""Figures of diagnostics of sweeps' runs (analysis/diagnose.py), from tables and pictures in ``results/`` alone."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from analysis.drawing import say, usable
from analysis.metrics import metrics_of
from analysis.style import colors_of, legend_below, panels
from analysis.tables import Source, Table, picture_name

SHEET_IN = 11.0
SIDES = {"real": "-", "fake": "--"}


def draw_blocks(source: Source) -> Figure:
    """Contributions block by block at the end of training, and those of the first half of the blocks over training."""
    table = source.table("mng", "layer_lpips")
    figure, (bars, training) = panels(2)
    if usable(bars, table) and usable(training, table):
        assert table is not None
        _bars(bars, table)
        draw_over_training(training, table, {"early_of_largest": "-"})
    distance = table.head["settings"].get("distance", "") if table else ""
    label = f"contribution by {distance},\npart of the largest block's"
    bars.set(xlabel="block (from 0)", ylabel=label, title="At the end")
    training.set(ylabel="mean over the first half of the blocks", title="Early blocks over training")
    legend_below(figure, bars)
    return figure


def _bars(axes: Axes, table: Table) -> None:
    """Means over seeds, from the least to the greatest seed."""
    ends = table.ended[table.ended["end"] == True]  # noqa: E712  # the column holds gaps
    colors, width = colors_of(table.arms), 0.8 / len(table.arms)
    for i, arm in enumerate(table.arms):
        blocks = ends[ends["arm"] == arm].groupby("block")["of_largest"]
        mean, low, high = blocks.mean(), blocks.min(), blocks.max()
        places = mean.index + (i + 0.5) * width - 0.4
        axes.bar(places, mean, width, yerr=(mean - low, high - mean), capsize=2, color=colors[arm], label=arm)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)


def draw_over_training(axes: Axes, table: Table, metrics: dict[str, str]) -> None:
    """Metrics of a diagnostic by step: a colour per arm, a line style per metric, mean and range over seeds."""
    found = metrics_of(str(table.head["diagnostic"]), table.rows).dropna(subset=["step"])
    colors = colors_of(table.arms)
    for arm in table.arms:
        for metric, style in metrics.items():
            seeds = found[found["arm"] == arm].pivot_table(index="step", columns="seed", values=metric)
            label = arm if len(metrics) == 1 else f"{arm}, {metric.rpartition('_')[2]} images"
            axes.plot(seeds.index, seeds.mean(axis=1), style, marker="o", markersize=3, color=colors[arm], label=label)
            axes.fill_between(
                seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=colors[arm], alpha=0.12, linewidth=0
            )
    axes.set_xlabel("iterations")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def draw_alignment(source: Source) -> Figure:
    """CKNNA of D over training: with and without alignment, and of the four sizes."""
    figure, axes = panels(2, sharey=True)
    for panel, sweep in zip(axes, ("repa", "model_size"), strict=True):
        table = source.table(sweep, "cknna")
        if usable(panel, table):
            assert table is not None
            draw_over_training(panel, table, {f"cknna_{side}": style for side, style in SIDES.items()})
            settings = table.head["settings"]
            panel.set_ylabel(f"CKNNA with {settings['teacher']}\n(n = {settings['alignment_samples']:,})")
            panel.axhline(0, color="grey", linewidth=0.6)
            panel.legend(ncols=2, fontsize="x-small", handlelength=4)
        panel.set_title(sweep)
    return figure


def draw_pictures(source: Source, pictures: dict[str, str]) -> Figure:
    """PNGs of ``results/STUDY/pictures`` under each other, by title."""
    files = {title: source.picture(name) for title, name in pictures.items()}
    sizes = [_height_in(file) for file in files.values()]
    figure = Figure(figsize=(SHEET_IN, sum(sizes) + 0.3 * len(sizes)), layout="constrained")
    axes = figure.subplots(len(files), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for panel, (title, file) in zip(axes, files.items(), strict=True):
        panel.set_title(title, loc="left")
        panel.axis("off")
        if file is None:
            say(panel, "no picture")
        else:
            panel.imshow(Image.open(file), interpolation="nearest")
    return figure


def _height_in(file: Path | None) -> float:
    if file is None:
        return 1.0
    with Image.open(file) as image:
        return SHEET_IN * image.height / image.width


def draw_features(source: Source) -> Figure:
    """PCA maps with and without MNG."""
    return draw_pictures(source, _named("mng", "pca_features", ("exponential", "none"), "MNG: {}"))


def draw_interpolation(source: Source) -> Figure:
    """Paths in w of the paper's arm."""
    return draw_pictures(source, _named("mng", "interpolation", ("exponential",), "MNG: {}"))


def draw_samples(source: Source) -> Figure:
    """Sample grids of the four sizes."""
    return draw_pictures(source, _named("model_size", "samples", ("S", "B", "L", "XL"), "{}"))


def _named(sweep: str, diagnostic: str, arms: Sequence[str], title: str) -> dict[str, str]:
    return {title.format(arm): picture_name(sweep, diagnostic, arm) for arm in arms}
