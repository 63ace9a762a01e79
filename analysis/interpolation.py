"""Whether moving from sample to sample morphs the image smoothly: ``python analysis/interpolation.py [run=FOLDER] [...]``.

    checkpoint=PATH | run=FOLDER    what to look at; without either the newest finished run under runs/ (or runs=FOLDER)
    paths=64 seed=0                 straight lines, half of them within a class and half between two
    frames=16                       steps of each
    space=w|z                       what is straight: the style vector, or the mapping network's inputs
    distance=efficientnet-lite0     of a step; offline. Or lpips-alex
    checkpoints=all                 over all checkpoints of the run
    against=OTHER_RUN               two runs, e.g. with and without MNG: the same seeds and classes
    out=FOLDER                      default: analysis/ in the run's folder

The project page claims that moving in w between classes and seeds morphs the image smoothly, and gives no number.
analysis/paths.py says what is measured. Writes a CSV (a row per run, checkpoint and path), the means and what made them as
JSON, a sheet of the first paths of each kind (PNG: every second image), and a figure (PNG, PDF) of the size of a step along
the path: its mean over paths, and between which values 80% of them lie.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis import paths, style
from analysis.command import circumstances, positive, run_command, sample_of
from analysis.opening import Opened
from analysis.paths import BATCH, FRAMES, KINDS, NUMBERS, SPACES, Steps, draw_pairs, kind_of, measure_paths, summary
from analysis.perceptual import DISTANCES, PerceptualDistance, load_distance
from analysis.series import SEVERAL, Row, Series, each_opened, generators_in, series_of, stem_of, unique, write_table
from analysis.series_figure import LEGEND_COLUMNS, comparison, looks
from analysis.sheets import Sheet, save_sheets
from gat.data.workers import told_plainly
from gat.errors import require_choice
from gat.platform import choose_device, full_precision, keep_freed_memory

KNOWN = SEVERAL | {
    "paths": "number (default: 64)",
    "frames": f"steps of a path (default: {FRAMES})",
    "seed": "of the samples at their ends (default: 0)",
    "space": " or ".join(SPACES),
    "distance": " or ".join(DISTANCES),
    "batch": f"images at a time (default: {BATCH})",
}
PATHS = 64
SHOWN = 4  # paths of each kind in the picture
EVERY = 2  # frames of a path from one to the next in the picture
BAND = (10, 90)  # percentiles
NAME_CHARACTERS = 24  # of a class, in the picture


@dataclass(frozen=True)
class Wanted:
    """Which paths, and how they are measured."""

    paths: int
    seed: int
    frames: int = FRAMES
    space: str = SPACES[0]
    batch: int = BATCH


def rows_of_checkpoint(
    it: Opened, *, paths: int, seed: int, distance: PerceptualDistance
) -> tuple[list[Row], Callable[[Path], None]]:
    """A row per path (:func:`analysis.paths.rows_of`), in w, 16 steps each; what saves the picture as PNG.

    Raises :class:`UserError` for samples that are not finite.
    """
    rows, sheets, _ = looked_at(it, Wanted(paths, seed), distance)
    return rows, lambda file: save_sheets(sheets, file)


def looked_at(
    it: Opened, wanted: Wanted, distance: PerceptualDistance
) -> tuple[list[Row], list[tuple[str, Sheet]], Steps]:
    """The same as ``wanted``; the picture's sheets with their titles, and the steps themselves."""
    pairs = draw_pairs(wanted.paths, it.subject.generator.dims.num_classes, wanted.seed)
    chosen = {kind: [i for i, pair in enumerate(pairs) if kind_of(pair) == kind][:SHOWN] for kind in reversed(KINDS)}
    how: dict[str, Any] = {"frames": wanted.frames, "space": wanted.space, "batch_size": wanted.batch}
    found = measure_paths(it, pairs, distance, keep=[i for some in chosen.values() for i in some], **how)
    names = it.subject.class_names or [str(label) for label in range(it.subject.generator.dims.num_classes)]
    sheets = [(f"{kind} classes", sheet_of(found, some, names)) for kind, some in chosen.items() if some]
    return paths.rows_of(found), sheets, found


def sheet_of(found: Steps, chosen: Sequence[int], names: Sequence[str]) -> Sheet:
    """Every second image of the paths ``chosen``, a row for each, under their places from 0 to 1."""
    frames = len(found.images[chosen[0]]) - 1
    images = torch.cat([found.images[i][::EVERY] for i in chosen])
    short = [name.split(",")[0][:NAME_CHARACTERS] for name in names]
    labels = ["\nto ".join(short[end.label] for end in found.pairs[i]) for i in chosen]
    return Sheet(images, [f"{place / frames:.3g}" for place in range(0, frames + 1, EVERY)], labels)


def wanted_of(values: dict[str, str]) -> Wanted:
    """From the arguments; :class:`UserError` for a number that is none, or an unknown choice."""
    require_choice("space", values.get("space", SPACES[0]), SPACES)
    _, _, seed = sample_of(values, 0)
    return Wanted(
        paths=positive("paths", values, PATHS),
        seed=seed,
        frames=positive("frames", values, FRAMES),
        space=values.get("space", SPACES[0]),
        batch=positive("batch", values, BATCH),
    )


def look(values: dict[str, str]) -> list[str]:
    """Measure, draw and write; lines that say what came out. :class:`UserError` for every mistake in the arguments."""
    wanted, device = wanted_of(values), choose_device(values.get("training.device", "auto"))
    keep_freed_memory()
    distance = load_distance(values.get("distance", DISTANCES[0]), device)
    began = time.perf_counter()
    series: list[Series] = []
    sheets: list[list[tuple[str, Sheet]]] = []
    steps: list[Steps] = []
    with told_plainly(), full_precision():
        for it in each_opened(values, device):
            rows, pictures, found = looked_at(it, wanted, distance)
            series.append(series_of(it, rows))
            sheets.append(pictures)
            steps.append(found)
    name = f"interpolation-{{}}-{wanted.space}-{values.get('distance', DISTANCES[0])}"
    stem = stem_of(name, values, series, series[0].facts["checkpoint"])
    write_table(stem, series, facts_of(series, wanted, distance) | circumstances(device, time.perf_counter() - began))
    names = unique([one.name for one in series])
    titled = [(f"{name}: {title}", sheet) for name, some in zip(names, sheets, strict=True) for title, sheet in some]
    save_sheets(titled, stem.with_name(f"{stem.name}.png"))
    save_figure(series, names, steps, distance.name, stem.with_name(f"{stem.name}-steps"))
    return [shown(one) for one in series] + [f"{stem}.csv, .json, .png, -steps.png, -steps.pdf"]


def facts_of(series: list[Series], wanted: Wanted, distance: PerceptualDistance) -> dict[str, Any]:
    """What is kept beside the numbers, and their means."""
    return {
        "measured": "steps of the image along straight lines between samples",
        "definition": paths.__doc__,
        "distance": distance.name,
        "space": wanted.space,
        "paths": wanted.paths,
        "frames": wanted.frames,
        "seed": wanted.seed,
        "even_step_share": 1 / wanted.frames,
        "summary": [{"run": one.run, "step": one.step, "kinds": summary(one.rows)} for one in series],
    } | generators_in(series)


def save_figure(
    series: Sequence[Series], names: Sequence[str], steps: Sequence[Steps], distance: str, stem: Path
) -> list[Path]:
    """Write ``stem``.png and .pdf: steps by place on the path, mean and 10% to 90%, a panel per kind; the files."""
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in series[0].rows)]
    figure, panels = comparison(len(kinds), len(series), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        for found, look in zip(steps, looks(series, names), strict=True):
            sizes = found.steps[[kind_of(pair) == kind for pair in found.pairs]]
            places = (np.arange(sizes.shape[1]) + 0.5) / sizes.shape[1]
            axes.plot(places, sizes.mean(axis=0), **look)
            low, high = np.percentile(sizes, BAND, axis=0)
            axes.fill_between(places, low, high, color=look["color"], alpha=0.15, linewidth=0)
        axes.set_title(f"{kind} classes: mean and 10% to 90% of paths")
        axes.set_xlabel("place on the path, from one end to the other")
        axes.set_xlim(0, 1)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(f"{distance} of a step")
    style.legend_below(figure, panels[0], LEGEND_COLUMNS)
    return style.save(figure, stem)


def shown(series: Series) -> str:
    """A checkpoint's means for the terminal."""
    lines = []
    for one in summary(series.rows):
        line = {key: one[key] for key in ("kind", "paths", "left_out")}
        for name in NUMBERS:
            low, high = one[f"{name}_low"], one[f"{name}_high"]
            line[name] = "none" if one[name] is None else f"{one[name]:.4g} ({low:.4g} to {high:.4g})"
        lines.append(line)
    return f"{series.name}\n{pd.DataFrame(lines).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, look)


if __name__ == "__main__":
    main()
