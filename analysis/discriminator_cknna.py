"""How D's blocks align with a vision network: ``python analysis/discriminator_cknna.py [run=FOLDER] [name=value ...]``.

    checkpoint=PATH | run=FOLDER          what to look at; without either the newest finished run under runs/ (or runs=FOLDER)
    checkpoints=all                       over all checkpoints of the run
    teacher=dinov2-g|efficientnet-lite0   whose features; the latter needs no download
    weights=FILE                          the teacher's timm state dict (default: from the hub)
    samples=1000 k=10 seed=0              of real images, and as many fake ones
    out=FOLDER                            default: analysis/ in the run's folder

analysis/alignment.py says what is measured, analysis/cknna.py what CKNNA is. Writes a CSV (a row per checkpoint and block), a
figure (PNG, PDF), and what made them as JSON. There are no intervals: the spread over training seeds is the one to look at.
Fake images of few kinds may be easier to agree on than real ones: real and fake compare with this in mind.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import alignment
from analysis.alignment import TEACHERS, BlockAlignment, block_alignment, teacher_called
from analysis.cknna import K_NEAREST
from analysis.command import REMEDY, facts_of, name_of, positive, run_command, sample_of
from analysis.layer_figure import PAIR
from analysis.opening import WHICH, checkpoints_of, opened, which
from gat.data.workers import told_plainly
from gat.errors import UserError, require_choice
from gat.files import replacing, told, write_json
from gat.platform import choose_device, full_precision, keep_freed_memory
from gat.teachers import Teacher

KNOWN = WHICH | {
    "checkpoints": "all: of the run; last (default)",
    "teacher": " or ".join(TEACHERS),
    "weights": "file of the teacher's weights (default: from the hub)",
    "samples": "number of real, and of fake images (default: 1000)",
    "k": f"nearest neighbours (default: {K_NEAREST})",
    "seed": "of the draws (default: 0)",
    "out": "folder to write into (default: analysis/ in the run's)",
}
SAMPLES = 1000
TEACHER = "dinov2-g"
SIDES = ("real", "fake")


@dataclass(frozen=True)
class Series:
    """The alignment of one checkpoint's blocks, and what it is a checkpoint of."""

    run: str
    step: int
    blocks: list[BlockAlignment]
    facts: dict[str, Any]
    place: Path
    """Where to write by default."""

    def mean(self, side: str) -> float:
        """Over blocks, on ``real`` or ``fake`` images."""
        return sum(getattr(one, side) for one in self.blocks) / len(self.blocks)

    def rows(self) -> list[dict[str, Any]]:
        """Of the table."""
        return [{"run": self.run, "step": self.step} | asdict(one) for one in self.blocks]


def all_measured(values: dict[str, str]) -> list[Series]:
    """Of the checkpoint asked for, or of all of its run. :class:`UserError` for every mistake in the arguments."""
    samples, _, seed = sample_of(values, SAMPLES)
    k, checkpoints = positive("k", values, K_NEAREST), values.get("checkpoints", "last")
    require_choice("checkpoints", checkpoints, ("last", "all"))
    if not 2 <= k < samples:
        raise UserError(f"k={k} must lie between 2 and samples-1 = {samples - 1}: the usual one is {K_NEAREST}")
    where, device = which(values), choose_device(values.get("training.device", "auto"))
    files = checkpoints_of(where) if checkpoints == "all" else [where]
    found: list[Series] = []
    teacher = None
    for file in files:
        began = time.perf_counter()
        it = opened(str(file), device, values)
        teacher = teacher or teacher_of(values, device)
        blocks = block_alignment(it, teacher, samples=samples, seed=seed, k=k)
        facts = facts_of(it, time.perf_counter() - began)
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
    out = Path(values["out"]) if "out" in values else series[0].place / "analysis"
    which_one = "all" if values.get("checkpoints") == "all" else Path(series[0].facts["generator"]["checkpoint"]).stem
    stem = out / f"discriminator_cknna-{which_one}-{teacher}"
    how = {
        "measured": "CKNNA of each block of D with a teacher",
        "definition": alignment.__doc__,
        "teacher": asdict(TEACHERS[teacher]) | {"weights": values.get("weights")},
        "samples": int(values.get("samples", SAMPLES)),
        "k": int(values.get("k", K_NEAREST)),
        "seed": int(values.get("seed", 0)),
        "checkpoints": [one.facts for one in series],
    }
    with told(f"analysis in {out}", REMEDY):
        out.mkdir(parents=True, exist_ok=True)
        with replacing(stem.with_name(f"{stem.name}.csv")) as stream:
            pd.DataFrame([row for one in series for row in one.rows()]).to_csv(stream, index=False)
        write_json(stem.with_name(f"{stem.name}.json"), how)
        save_figure(series, f"CKNNA with {teacher} (k = {how['k']}, n = {how['samples']:,})", stem)
    return [shown(one) for one in series] + [f"{stem}.csv, .json, .png, .pdf"]


def save_figure(series: list[Series], label: str, stem: Path) -> list[Path]:
    """Write ``stem``.png and .pdf: by block on real and on fake images, of several checkpoints also over training."""
    over_training = len(series) > 1
    figure = Figure(figsize=(12 if over_training else 8, 3.8), layout="constrained")
    panels = figure.subplots(1, 3 if over_training else 2, sharey=True)
    for axes, side in zip(panels, SIDES, strict=False):
        draw_blocks(axes, series, side)
    if over_training:
        draw_training(panels[2], series)
    panels[0].set_ylabel(label, fontsize="small")
    for axes in panels:
        axes.axhline(0, color="grey", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=6)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    for file in files:
        with replacing(file) as stream:
            figure.savefig(stream, format=file.suffix[1:], dpi=150)
    return files


def draw_blocks(axes: Axes, series: list[Series], side: str) -> None:
    """Block by block, a line per checkpoint; later ones are brighter."""
    for i, one in enumerate(series):
        color = colormaps["viridis"](0.9 * i / max(1, len(series) - 1))
        values = [getattr(block, side) for block in one.blocks]
        places = [block.block for block in one.blocks]
        axes.plot(places, values, marker="o", ms=3, color=color, label=f"{one.run}, step {one.step:,}")
    axes.set_title(f"On {side} images", fontsize="medium")
    axes.set_xlabel("block of D (from 0)")


def draw_training(axes: Axes, series: list[Series]) -> None:
    """The mean over blocks, checkpoint by checkpoint."""
    for side, color in zip(SIDES, PAIR, strict=True):
        axes.plot([one.step for one in series], [one.mean(side) for one in series], marker="o", ms=3, color=color)
        axes.annotate(f" {side}", (series[-1].step, series[-1].mean(side)), color=color, fontsize="small")
    axes.set_title("Mean over blocks", fontsize="medium")
    axes.set_xlabel("step")
    axes.margins(x=0.15)


def shown(series: Series) -> str:
    """A checkpoint's numbers for the terminal."""
    rows = [{"block": one.block} | {side: f"{getattr(one, side):.4f}" for side in SIDES} for one in series.blocks]
    mean = {"block": "mean"} | {side: f"{series.mean(side):.4f}" for side in SIDES}
    return f"{series.run}, step {series.step:,}\n{pd.DataFrame([*rows, mean]).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, measure)


if __name__ == "__main__":
    main()
