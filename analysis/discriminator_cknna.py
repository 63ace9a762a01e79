"""How D's blocks align with a vision network: ``python analysis/discriminator_cknna.py [run=FOLDER] [name=value ...]``.

    checkpoint=PATH | run=FOLDER          what to look at; without either the newest finished run under runs/ (or runs=FOLDER)
    checkpoints=all                       over all checkpoints of the run
    against=OTHER_RUN                     two runs, e.g. with and without alignment of D
    teacher=dinov2-g|efficientnet-lite0   whose features; the latter needs no download
    weights=FILE                          the teacher's timm state dict (default: from the hub)
    samples=1000 k=10 seed=0              of real images, and as many fake ones
    out=FOLDER                            default: analysis/ in the run's folder

analysis/alignment.py says what is measured, analysis/cknna.py what CKNNA is. Writes a CSV (a row per checkpoint and block), a
figure (PNG, PDF), and what made them as JSON. There are no intervals: the spread over training seeds is the one to look at.
Fake images of few kinds may be easier to agree on than real ones: real and fake compare with this in mind.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from analysis import alignment, style
from analysis.alignment import (
    TEACHERS,
    BlockAlignment,
    block_alignment,
    prepared_of,
    real_teacher_features,
    teacher_called,
)
from analysis.cknna import K_NEAREST
from analysis.command import facts_of, name_of, positive, run_command, sample_of
from analysis.opening import Opened
from analysis.series import SEVERAL, Row, by_run, each_opened, stem_of, unique, write_table
from analysis.series_figure import LEGEND_COLUMNS, comparison, looks
from gat.data.workers import told_plainly
from gat.errors import UserError, require_choice
from gat.platform import choose_device, full_precision, keep_freed_memory
from gat.teachers import Teacher

KNOWN = SEVERAL | {
    "teacher": " or ".join(TEACHERS),
    "weights": "file of the teacher's weights (default: from the hub)",
    "samples": "number of real, and of fake images (default: 1000)",
    "k": f"nearest neighbours (default: {K_NEAREST})",
    "seed": "of the draws (default: 0)",
}
SAMPLES = 1000
TEACHER = "dinov2-g"
SIDES = {"real": "-", "fake": "--"}
RUN_COLORS = (style.COLORS[6], style.COLORS[7])  # of means over blocks: no checkpoint's colours
PANEL_IN = 4.0


@dataclass(frozen=True)
class Series:
    """The alignment of one checkpoint's blocks, and what it is a checkpoint of."""

    run: str
    step: int
    blocks: list[BlockAlignment]
    facts: dict[str, Any]
    place: Path
    """Where to write by default."""

    @property
    def name(self) -> str:
        """For legends."""
        return f"{self.run}, step {self.step:,}"

    @property
    def rows(self) -> list[Row]:
        """Of the table."""
        return [asdict(one) for one in self.blocks]

    def mean(self, side: str) -> float:
        """Over blocks, on ``real`` or ``fake`` images."""
        return sum(getattr(one, side) for one in self.blocks) / len(self.blocks)


def rows_of_checkpoint(
    it: Opened, teacher: Teacher, *, samples: int, seed: int, k: int, real_features: Tensor | None = None
) -> list[Row]:
    """A row per block of D: ``block`` (from 0) and CKNNA on ``real`` and on ``fake`` images.

    ``real_features`` and errors: as of :func:`analysis.alignment.block_alignment`.
    """
    found = block_alignment(it, teacher, samples=samples, seed=seed, k=k, real_features=real_features)
    return [asdict(one) for one in found]


def all_measured(values: dict[str, str]) -> list[Series]:
    """Of every checkpoint asked for. :class:`UserError` for every mistake in the arguments.

    The teacher sees the real images once for each prepared set, not once for each checkpoint.
    """
    samples, _, seed = sample_of(values, SAMPLES)
    k, device = positive("k", values, K_NEAREST), choose_device(values.get("training.device", "auto"))
    if not 2 <= k < samples:
        raise UserError(f"k={k} must lie between 2 and samples-1 = {samples - 1}: the usual one is {K_NEAREST}")
    found: list[Series] = []
    teacher, known = None, dict[Path, Tensor]()
    for it in each_opened(values, device):
        began = time.perf_counter()
        teacher = teacher or teacher_of(values, device)
        folder = prepared_of(it).folder.resolve()
        if folder not in known:
            known[folder] = real_teacher_features(it, teacher, samples=samples, seed=seed)
        rows = rows_of_checkpoint(it, teacher, samples=samples, seed=seed, k=k, real_features=known[folder])
        blocks, facts = [BlockAlignment(**row) for row in rows], facts_of(it, time.perf_counter() - began)
        found.append(Series(name_of(it), it.pretrained.facts["step"], blocks, facts, it.pretrained.place))
    return found


def teacher_of(values: dict[str, str], device: torch.device) -> Teacher:
    """The one asked for; :class:`UserError` for an unknown one, or weights that cannot be had."""
    name, weights = values.get("teacher", TEACHER), values.get("weights")
    require_choice("teacher", name, tuple(TEACHERS))
    try:
        return teacher_called(name, device, weights)
    except UserError as error:
        raise UserError(f"{error} (to this command: weights=FILE or teacher=efficientnet-lite0)") from error


def measure(values: dict[str, str]) -> list[str]:
    """Measure and write; lines that say what came out. :class:`UserError` for every mistake in the arguments."""
    keep_freed_memory()
    with told_plainly(), full_precision():
        series = all_measured(values)
    teacher = values.get("teacher", TEACHER)
    stem = stem_of(f"discriminator_cknna-{{}}-{teacher}", values, series, series[0].facts["generator"]["checkpoint"])
    how = {
        "measured": "CKNNA of each block of D with a teacher",
        "definition": alignment.__doc__,
        "teacher": asdict(TEACHERS[teacher]) | {"weights": values.get("weights")},
        "samples": int(values.get("samples", SAMPLES)),
        "k": int(values.get("k", K_NEAREST)),
        "seed": int(values.get("seed", 0)),
        "checkpoints": [one.facts for one in series],
    }
    write_table(stem, series, how)
    save_figure(series, f"CKNNA with {teacher} (k = {how['k']}, n = {how['samples']:,})", stem)
    return [shown(one) for one in series] + [f"{stem}.csv, .json, .png, .pdf"]


def save_figure(series: Sequence[Series], label: str, stem: Path) -> list[Path]:
    """Write ``stem``.png and .pdf: by block on real and on fake images, of a run's checkpoints also over training."""
    runs = [[series[i] for i in places] for places in by_run(series)]
    over_training = any(len(run) > 1 for run in runs)
    figure, panels = comparison(3 if over_training else 2, len(series), width_in=PANEL_IN, sharey=True)
    drawn = list(zip(series, looks(series, unique([one.name for one in series])), strict=True))
    for axes, side in zip(panels, SIDES, strict=False):
        draw_blocks(axes, drawn, side)
    if over_training:
        draw_training(panels[2], runs)
    panels[0].set_ylabel(label, fontsize="small")
    for axes in panels:
        axes.axhline(0, color=style.PAPER_COLOR, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    style.legend_below(figure, panels[0], LEGEND_COLUMNS)
    return style.save(figure, stem)


def draw_blocks(axes: Axes, drawn: list[tuple[Series, dict[str, Any]]], side: str) -> None:
    """Block by block, a line per checkpoint."""
    for one, look in drawn:
        axes.plot([row["block"] for row in one.rows], [row[side] for row in one.rows], markersize=3.5, **look)
    axes.set_title(f"On {side} images")
    axes.set_xlabel("block of D (from 0)")


def draw_training(axes: Axes, runs: list[list[Series]]) -> None:
    """The mean over blocks, checkpoint by checkpoint, of each run in a grey of its own."""
    for i, run in enumerate(runs):
        color = RUN_COLORS[min(i, len(RUN_COLORS) - 1)]
        for side, dashes in SIDES.items():
            label = side if len(runs) == 1 else f"{side}, {'against' if i else 'run'}"
            means = [one.mean(side) for one in run]
            axes.plot([one.step for one in run], means, dashes, marker="o", ms=3, color=color, label=label)
    axes.set_title("Mean over blocks")
    axes.set_xlabel("step")
    axes.legend()


def shown(series: Series) -> str:
    """A checkpoint's numbers for the terminal."""
    rows = [{"block": one.block} | {side: f"{getattr(one, side):.4f}" for side in SIDES} for one in series.blocks]
    mean = {"block": "mean"} | {side: f"{series.mean(side):.4f}" for side in SIDES}
    return f"{series.name}\n{pd.DataFrame([*rows, mean]).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, measure)


if __name__ == "__main__":
    main()
