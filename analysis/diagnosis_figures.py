"""Figures of diagnostics of sweeps' runs (analysis/diagnose.py), from tables and pictures in ``results/`` alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from analysis.drawing import EVERY_LOST, all_lost, named_with_lost, say, setting_of, usable
from analysis.metrics import RUN, metrics_of
from analysis.style import colors_of, legend_below, panels
from analysis.tables import Source, Table, picture_name

SHEET_IN = 11.0
SIDES = {"real": "-", "fake": "--"}


def draw_blocks(source: Source) -> Figure:
    """Contributions block by block at the end of training, those of the first half over training, and its features' part."""
    table, of_features = source.table("mng", "layer_lpips"), source.table("mng", "pca_features")
    figure, (bars, training, features) = panels(3)
    columns, label = ("step", "end", "block", "of_largest", "share"), "contribution"
    if drawable(bars, table, *columns) & drawable(training, table, *columns):
        assert table is not None
        _bars(bars, table)
        draw_over_training(training, table, {"early_of_largest": "-"})
        label = f"contribution by {setting_of(table, 'distance')},\npart of the largest block's"
    if drawable(features, of_features, "step", "end", "layer", "variance_of_sample_share"):
        assert of_features is not None
        _seeds(features, of_features, "early_of_sample")
    bars.set(xlabel="block (from 0)", ylabel=label, title="At the end")
    training.set(ylabel="mean over the first half of the blocks", title="Early blocks over training")
    features.set(
        ylabel="share of variance that is the sample's", title="Features of the first half of the blocks, at the end"
    )
    legend_below(figure, bars)
    return figure


def drawable(axes: Axes, table: Table | None, *columns: str) -> bool:
    """As :func:`usable`; a diverged run has no numbers of a diagnostic, so that there are none if every run is one."""
    if table is not None and all_lost(table):
        say(axes, EVERY_LOST)
        return False
    return usable(axes, table, *columns)


def last_rows(table: Table) -> pd.DataFrame:
    """Rows of the last checkpoints; infinite numbers are gaps."""
    ends = table.ended[table.ended["end"] == True]  # noqa: E712  # the column holds gaps
    return ends.replace([np.inf, -np.inf], np.nan)


def metrics_in(table: Table, rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Metrics of some rows of a diagnostic's table; without rows an empty table."""
    return metrics_of(str(table.head.get("diagnostic")), rows).reindex(columns=[*RUN, *metrics])


def _bars(axes: Axes, table: Table) -> None:
    """Means over seeds, from the least to the greatest seed."""
    ends, names = last_rows(table), named_with_lost(table)
    colors, width = colors_of(table.arms), 0.8 / len(table.arms)
    for i, arm in enumerate(table.arms):
        blocks = ends[ends["arm"] == arm].groupby("block")["of_largest"]
        mean, low, high = blocks.mean(), blocks.min(), blocks.max()
        places = mean.index + (i + 0.5) * width - 0.4
        look: dict[str, Any] = {"color": colors[arm], "label": names[arm]}
        if mean.empty:  # every run of it diverged: it stands in the legend alone
            axes.bar([0], [np.nan], width, **look)
        else:
            axes.bar(places, mean, width, yerr=(mean - low, high - mean), capsize=2, **look)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)


def _seeds(axes: Axes, table: Table, metric: str) -> None:
    """A metric at the end: a dot per seed, and the mean of the arm."""
    found = metrics_in(table, last_rows(table), [metric])
    colors, names = colors_of(table.arms), named_with_lost(table)
    for place, arm in enumerate(table.arms):
        values = found.loc[found["arm"] == arm, metric].dropna()
        axes.plot([place - 0.12] * len(values), values, "o", color=colors[arm], alpha=0.7)
        if len(values):
            axes.plot([place + 0.12], [values.mean()], "_", color=colors[arm], markersize=14, markeredgewidth=2)
    labels = [names[arm].replace("_", "\n").replace(" (", "\n(") for arm in table.arms]
    axes.set_xticks(range(len(labels)), labels, fontsize="small")
    axes.set(xlim=(-0.6, len(labels) - 0.4), ylim=(0, 1))


def draw_over_training(axes: Axes, table: Table, metrics: dict[str, str]) -> None:
    """Metrics of a diagnostic by step: a colour per arm, a line style per metric, mean and range over seeds."""
    found = metrics_in(table, table.rows.replace([np.inf, -np.inf], np.nan), list(metrics))
    colors, names = colors_of(table.arms), named_with_lost(table)
    for arm in table.arms:
        rows = found[(found["arm"] == arm) & found["step"].notna()]
        for metric, style in metrics.items():
            seeds = rows.pivot_table(index="step", columns="seed", values=metric)
            label = names[arm] if len(metrics) == 1 else f"{names[arm]}, {metric.rpartition('_')[2]} images"
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
        if drawable(panel, table, "step", "end", "real", "fake"):
            assert table is not None
            draw_over_training(panel, table, {f"cknna_{side}": style for side, style in SIDES.items()})
            teacher, samples = setting_of(table, "teacher"), setting_of(table, "alignment_samples")
            panel.set_ylabel(f"CKNNA with {teacher}\n(n = {samples:,})")
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
