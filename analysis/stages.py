"""What each stage of a generator draws: ``python analysis/stages.py [run=FOLDER] [name=value ...]``.

    checkpoint=PATH | run=FOLDER    what to look at; without either the newest finished run under runs/ (or runs=FOLDER)
    samples=200 classes=0,3 seed=0  samples that the numbers are of: classes in turn (default: all of them)
    rows=8                          how many of them, the first ones, are in the picture
    checkpoints=all                 over all checkpoints of the run
    against=OTHER_RUN               two runs, e.g. with and without MNG: the same z and classes above each other
    out=FOLDER                      default: analysis/ in the run's folder

Stage k is the image that the heads 1 to k have drawn together, S_k = R_1 + ... + R_k; the sample is S_K. No source says how
to tell what a stage does; ours, in the generator's latents, for each sample:

    rewrite    rms(R_k): how much head k writes, be it a correction or a drawing anew
    to_final   rms(S_k - S_K): what is still missing after stage k; of the last stage 0

rms: root of the mean square over channels and positions. Both are averaged over samples, with 95% intervals by a bootstrap
over samples (gat.evaluation.intervals): of one training run; the spread over training seeds is not in them. Latents have a
mean square of about 1, so that a rewrite of 1 is as large as a whole image.

The picture has a row per sample and a column per stage, the sample last. The decoder has learned from finished latents
alone: what it makes of a small S_k is flat and grey, also where S_k has structure. Judge early stages by the numbers, too.
Of several checkpoints the pictures stand above each other, and a figure (PNG, PDF) shows the numbers.
Shapes: n samples, B batch, K stages, C latent channels, H latent side, P image side in pixels.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis import style
from analysis.blocks import BATCH, inputs_of
from analysis.command import circumstances, positive, run_command, sample_of
from analysis.opening import Opened
from analysis.series import SEVERAL, Row, Series, each_opened, generators_in, series_of, stem_of, unique, write_table
from analysis.series_figure import LEGEND_COLUMNS, comparison, draw_intervals, looks
from analysis.sheets import Sheet, save_sheets
from gat.data.workers import told_plainly
from gat.errors import UserError
from gat.evaluation.intervals import by_bootstrap
from gat.platform import choose_device, full_precision, keep_freed_memory
from gat.progress import Progress

KNOWN = SEVERAL | {
    "samples": "number (default: 200)",
    "classes": "numbers, as 0,3,7 (default: all)",
    "seed": "of the samples (default: 0)",
    "rows": "samples in the picture (default: 8)",
    "batch": f"samples at a time (default: {BATCH})",
}
SAMPLES = 200
ROWS = 8


@dataclass(frozen=True)
class Wanted:
    """Which samples, and how many of them are shown."""

    samples: int
    seed: int
    classes: list[int] | None = None
    """None: all."""
    rows: int = ROWS
    batch: int = BATCH


@dataclass(frozen=True)
class Stage:
    """Numbers of one stage (from 1), as above, each with its 95% interval."""

    stage: int
    rewrite: float
    rewrite_low: float
    rewrite_high: float
    to_final: float
    to_final_low: float
    to_final_high: float


def stage_sizes(stages: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sizes of the rewrites, and distances to the final latents, (B, K) each, of stages (K, B, C, H, H)."""
    images = stages.detach().double().cpu()
    rewrites = torch.cat([images[:1], images.diff(dim=0)])
    return _rms(rewrites), _rms(images - images[-1])


def _rms(images: Tensor) -> NDArray[np.float64]:
    """(K, B, C, H, H) -> (B, K)."""
    return images.square().mean(dim=(2, 3, 4)).sqrt().T.numpy()


def summary(rewrites: NDArray[np.float64], to_final: NDArray[np.float64]) -> list[Stage]:
    """The numbers of sizes and distances (n, K), stage by stage."""
    pairs = zip(rewrites.T, to_final.T, strict=True)
    return [Stage(k, *_mean(rewrite), *_mean(missing)) for k, (rewrite, missing) in enumerate(pairs, 1)]


def _mean(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of values (n,), with its interval."""
    estimate = by_bootstrap(float(values.mean()), values)
    return (estimate.value, *estimate.interval)


@torch.no_grad()
def drawn(it: Opened, z: Tensor, labels: Tensor, batch: int, rows: int) -> tuple[list[Stage], Tensor]:
    """Numbers of samples of z (n, z_dim), labels (n,); decoded stages (rows, K, 3, P, P), uint8, of the first ``rows``.

    Raises :class:`UserError` for samples that are not finite.
    """
    generator, truncation = it.subject.generator, it.config.evaluation.truncation
    sizes, images, seen = [], [], 0
    chunks = list(zip(z.split(batch), labels.split(batch), strict=True))
    for some_z, some_labels in Progress(chunks, desc="stages", unit="batch", leave=False):
        stages = generator(some_z.to(it.device), some_labels.to(it.device), truncation=truncation)
        if not bool(stages.isfinite().all()):
            raise UserError("the generator's stages are not finite: the run has diverged, choose an earlier checkpoint")
        sizes.append(stage_sizes(stages))
        for one in stages[:, : max(0, rows - seen)].unbind(dim=1):
            images.append(it.decode(one).cpu())
        seen += len(some_z)
    rewrites, to_final = (np.concatenate(parts) for parts in zip(*sizes, strict=True))
    return summary(rewrites, to_final), torch.stack(images)


def rows_of_checkpoint(it: Opened, *, samples: int, seed: int) -> tuple[list[Row], Callable[[Path], None]]:
    """A row per stage, the fields of :class:`Stage`, all classes in turn; what saves the picture as PNG.

    Raises :class:`UserError` for no samples, and for stages that are not finite.
    """
    rows, sheet, _ = looked_at(it, Wanted(samples, seed))
    return rows, sheet.save


def looked_at(it: Opened, wanted: Wanted) -> tuple[list[Row], Sheet, list[int]]:
    """The same as ``wanted``, the picture itself, and the classes of its rows."""
    z, labels = inputs_of(wanted.samples, it.subject.generator.dims, wanted.classes, wanted.seed)
    stages, images = drawn(it, z, labels, wanted.batch, wanted.rows)
    headings = [f"stage {one.stage}\n{one.to_final:.2g} from last" for one in stages[:-1]]
    sheet = Sheet(images.flatten(0, 1), [*headings, f"stage {len(stages)}\nthe sample"])
    return [asdict(one) for one in stages], sheet, labels[: len(images)].tolist()


def look(values: dict[str, str]) -> list[str]:
    """Measure, draw and write; lines that say what came out. :class:`UserError` for every mistake in the arguments."""
    samples, classes, seed = sample_of(values, SAMPLES)
    wanted = Wanted(samples, seed, classes, positive("rows", values, ROWS), positive("batch", values, BATCH))
    device = choose_device(values.get("training.device", "auto"))
    keep_freed_memory()
    began = time.perf_counter()
    series: list[Series] = []
    sheets: list[Sheet] = []
    labels: list[int] = []
    with told_plainly(), full_precision():
        for it in each_opened(values, device):
            rows, sheet, labels = looked_at(it, wanted)
            series.append(series_of(it, rows))
            sheets.append(sheet)
    stem = stem_of("stages-{}", values, series, series[0].facts["checkpoint"])
    how = {
        "measured": "what each stage of the generator draws",
        "definition": __doc__,
        "samples": samples,
        "classes": classes or "all, balanced",
        "seed": seed,
        "rows_of_picture": labels,
    }
    write_table(stem, series, how | generators_in(series) | circumstances(device, time.perf_counter() - began))
    return [shown(one) for one in series] + [f"{stem}.csv, .json, {saved(series, sheets, stem)}"]


def saved(series: list[Series], sheets: list[Sheet], stem: Path) -> str:
    """Write the picture, and of several checkpoints the figure; the files' endings."""
    file = stem.with_name(f"{stem.name}.png")
    if len(series) == 1:
        sheets[0].save(file)
        return ".png"
    names = unique([one.name for one in series])
    save_sheets(list(zip(names, sheets, strict=True)), file)
    save_figure(series, names, stem.with_name(f"{stem.name}-sizes"))
    return ".png, -sizes.png, -sizes.pdf"


def save_figure(series: Sequence[Series], names: Sequence[str], stem: Path) -> list[Path]:
    """Write ``stem``.png and .pdf: rewrites beside what is still missing, by stage, with 95% intervals; the files."""
    figure, panels = comparison(2, len(series))
    both = [(one.rows, look) for one, look in zip(series, looks(series, names), strict=True)]
    titles = {"rewrite": "How much the stage's head writes", "to_final": "What is still missing after the stage"}
    for axes, (field, title) in zip(panels, titles.items(), strict=True):
        draw_intervals(axes, both, "stage", field)
        axes.set_title(title)
        axes.set_xlabel("stage (from 1)")
        axes.set_ylabel(f"{field} (rms of latents)")
    style.legend_below(figure, panels[0], LEGEND_COLUMNS)
    return style.save(figure, stem)


def shown(series: Series) -> str:
    """A checkpoint's numbers for the terminal."""
    rows = [
        {
            "stage": row["stage"],
            "rewrite": f"{row['rewrite']:.4g}",
            "its 95% interval": f"{row['rewrite_low']:.4g} to {row['rewrite_high']:.4g}",
            "to final": f"{row['to_final']:.4g}",
            "95% interval": f"{row['to_final_low']:.4g} to {row['to_final_high']:.4g}",
        }
        for row in series.rows
    ]
    return f"{series.name}\n{pd.DataFrame(rows).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, look)


if __name__ == "__main__":
    main()
