"""What each block of a generator contributes to the image: ``python analysis/layer_lpips.py [run=FOLDER] [name=value ...]``.

    checkpoint=PATH | run=FOLDER    what to look at; without either the newest finished run under runs/ (or runs=FOLDER)
    checkpoints=all                 over all checkpoints of the run
    against=OTHER_RUN               two runs side by side, e.g. with and without MNG
    samples=200 classes=0,3 seed=0  images: classes in turn (default: all of them)
    removal=zeroed|cumulative       each block alone, or the first ones together
    distance=efficientnet-lite0     offline; or lpips-alex
    out=FOLDER                      default: analysis/ in the run's folder

analysis/blocks.py says what is measured. Writes a CSV (a row per run, checkpoint and block), a figure (PNG, PDF), and what
made them as JSON.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch

from analysis import blocks
from analysis.blocks import BATCH, REMOVALS, block_contributions, inputs_of, summary
from analysis.command import circumstances, positive, run_command, sample_of
from analysis.layer_figure import save_figure
from analysis.opening import Opened
from analysis.perceptual import DISTANCES, PerceptualDistance, load_distance
from analysis.series import SEVERAL, Row, Series, each_opened, series_of, stem_of, unique, write_table
from gat.data.workers import told_plainly
from gat.errors import require_choice
from gat.platform import choose_device, full_precision, keep_freed_memory

KNOWN = SEVERAL | {
    "samples": "number (default: 200)",
    "classes": "numbers, as 0,3,7 (default: all)",
    "seed": "of the samples (default: 0)",
    "removal": " or ".join(REMOVALS),
    "distance": " or ".join(DISTANCES),
    "batch": f"samples at a time (default: {BATCH})",
}
SAMPLES = 200


@dataclass(frozen=True)
class Wanted:
    """How it is measured."""

    samples: int
    seed: int
    classes: list[int] | None = None
    """None: all."""
    removal: str = REMOVALS[0]
    batch: int = BATCH


def wanted_of(values: dict[str, str]) -> Wanted:
    """From the arguments; :class:`UserError` for a number that is none or an unknown choice."""
    require_choice("removal", values.get("removal", REMOVALS[0]), REMOVALS)
    samples, classes, seed = sample_of(values, SAMPLES)
    return Wanted(samples, seed, classes, values.get("removal", REMOVALS[0]), positive("batch", values, BATCH))


def rows_of_checkpoint(it: Opened, *, samples: int, seed: int, distance: PerceptualDistance) -> list[Row]:
    """A row per block, the fields of :class:`analysis.blocks.Contribution`, each block taken out alone; all classes in turn.

    Raises :class:`UserError` for no samples, and for samples that are not finite.
    """
    return measured(it, Wanted(samples, seed), distance)


def measured(it: Opened, wanted: Wanted, distance: PerceptualDistance) -> list[Row]:
    """The same as ``wanted``."""
    generator, rules = it.subject.generator, it.config.evaluation
    z, labels = inputs_of(wanted.samples, generator.dims, wanted.classes, wanted.seed)
    how: dict[str, Any] = {"removal": wanted.removal, "truncation": rules.truncation, "batch_size": wanted.batch}
    distances = block_contributions(generator, it.decode, distance, z, labels, **how)
    return [asdict(one) for one in summary(distances, generator.dims.num_stages, wanted.removal)]


def facts_of(
    series: list[Series], wanted: Wanted, distance: PerceptualDistance, device: torch.device, seconds: float
) -> dict[str, Any]:
    """What is kept beside the numbers."""
    return {
        "measured": "contribution of each generator block to the image",
        "definition": blocks.__doc__,
        "distance": distance.name,
        "removal": wanted.removal,
        "samples": wanted.samples,
        "classes": wanted.classes or "all, balanced",
        "seed": wanted.seed,
        "generators": [one.facts for one in series],
    } | circumstances(device, seconds)


def contribute(values: dict[str, str]) -> list[str]:
    """Measure and write; lines that say what came out. :class:`UserError` for every mistake in the arguments."""
    wanted, device = wanted_of(values), choose_device(values.get("training.device", "auto"))
    keep_freed_memory()
    distance = load_distance(values.get("distance", DISTANCES[0]), device)
    began = time.perf_counter()
    with told_plainly(), full_precision():
        series = [series_of(it, measured(it, wanted, distance)) for it in each_opened(values, device)]
    name = f"layer_lpips-{{}}-{wanted.removal}-{values.get('distance', DISTANCES[0])}"
    stem = stem_of(name, values, series, series[0].facts["checkpoint"])
    write_table(stem, series, facts_of(series, wanted, distance, device, time.perf_counter() - began))
    figures = save_figure(series, unique([one.name for one in series]), wanted.removal, distance.name, stem)
    return [shown(one, distance) for one in series] + [f"{stem}.csv, .json, {', '.join(f.suffix for f in figures)}"]


def shown(series: Series, distance: PerceptualDistance) -> str:
    """A checkpoint's numbers for the terminal."""
    rows = [
        {
            "block": row["block"],
            "stage": row["stage"],
            distance.name: f"{row['raw']:.4g}",
            "95% interval": f"{row['raw_low']:.4g} to {row['raw_high']:.4g}",
            "share": f"{row['share']:.1%}",
        }
        for row in series.rows
    ]
    return f"{series.name}\n{pd.DataFrame(rows).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, contribute)


if __name__ == "__main__":
    main()
