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
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analysis import blocks
from analysis.blocks import BATCH, REMOVALS, Contribution, block_contributions, inputs_of, summary
from analysis.command import REMEDY, circumstances, generator_facts, name_of, positive, run_command, sample_of
from analysis.layer_figure import save_figure
from analysis.opening import WHICH, checkpoints_of, opened, which
from analysis.perceptual import DISTANCES, PerceptualDistance, load_distance
from gat.data.workers import told_plainly
from gat.errors import require_choice
from gat.files import replacing, told, write_json
from gat.platform import choose_device, full_precision, keep_freed_memory

KNOWN = WHICH | {
    "checkpoints": "all: of the run; last (default)",
    "against": "another run or checkpoint",
    "samples": "number (default: 200)",
    "classes": "numbers, as 0,3,7 (default: all)",
    "seed": "of the samples (default: 0)",
    "removal": " or ".join(REMOVALS),
    "distance": " or ".join(DISTANCES),
    "batch": f"samples at a time (default: {BATCH})",
    "out": "folder to write into (default: analysis/ in the run's)",
}
SAMPLES = 200


@dataclass(frozen=True)
class Wanted:
    """What is measured, and how."""

    samples: int
    classes: list[int] | None
    seed: int
    removal: str
    batch: int
    device: torch.device
    values: dict[str, str]
    """The arguments, for the settings among them."""


@dataclass(frozen=True)
class Series:
    """The contributions of one checkpoint's blocks."""

    run: str
    step: int | None
    contributions: list[Contribution]
    facts: dict[str, Any]
    place: Path
    """Where to write by default."""

    @property
    def name(self) -> str:
        """For legends: the run, and its step and guidance if they are known."""
        guidance = self.facts["mng_schedule"]
        return self.run + ("" if guidance is None else f", step {self.step:,} (MNG: {guidance})")

    def rows(self) -> list[dict[str, Any]]:
        """Of the table."""
        return [{"run": self.run, "step": self.step} | asdict(c) for c in self.contributions]


def wanted_of(values: dict[str, str]) -> Wanted:
    """From the arguments; :class:`UserError` for a number that is none or an unknown choice."""
    require_choice("removal", values.get("removal", REMOVALS[0]), REMOVALS)
    require_choice("checkpoints", values.get("checkpoints", "last"), ("last", "all"))
    samples, classes, seed = sample_of(values, SAMPLES)
    return Wanted(
        samples=samples,
        classes=classes,
        seed=seed,
        removal=values.get("removal", REMOVALS[0]),
        batch=positive("batch", values, BATCH),
        device=choose_device(values.get("training.device", "auto")),
        values=values,
    )


def measured(where: str, wanted: Wanted, distance: PerceptualDistance) -> Series:
    """The contributions of the checkpoint ``where``."""
    it = opened(where, wanted.device, wanted.values)
    generator, rules = it.subject.generator, it.config.evaluation
    z, labels = inputs_of(wanted.samples, generator.dims.num_classes, wanted.classes, wanted.seed)
    how: dict[str, Any] = {"removal": wanted.removal, "truncation": rules.truncation, "batch_size": wanted.batch}
    distances = block_contributions(generator, it.decode, distance, z, labels, **how)
    contributions = summary(distances, generator.dims.num_stages, wanted.removal)
    return Series(name_of(it), it.pretrained.facts["step"], contributions, generator_facts(it), it.pretrained.place)


def all_measured(wanted: Wanted, distance: PerceptualDistance) -> list[Series]:
    """Of the run or checkpoint asked for, and of ``against``; of each all checkpoints if asked for."""
    values = wanted.values
    places = [which(values)] + ([values["against"]] if "against" in values else [])
    if values.get("checkpoints") == "all":
        places = [str(file) for place in places for file in checkpoints_of(place)]
    return [measured(place, wanted, distance) for place in places]


def facts_of(series: list[Series], wanted: Wanted, distance: PerceptualDistance, seconds: float) -> dict[str, Any]:
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
    } | circumstances(wanted.device, seconds)


def contribute(values: dict[str, str]) -> list[str]:
    """Measure and write; lines that say what came out. :class:`UserError` for every mistake in the arguments."""
    wanted = wanted_of(values)
    keep_freed_memory()
    distance = load_distance(values.get("distance", DISTANCES[0]), wanted.device)
    began = time.perf_counter()
    with told_plainly(), full_precision():
        series = all_measured(wanted, distance)
    out = Path(values["out"]) if "out" in values else series[0].place / "analysis"
    stem = out / stem_of(values, series, wanted)
    table = pd.DataFrame([row for one in series for row in one.rows()])
    with told(f"analysis in {out}", REMEDY):
        out.mkdir(parents=True, exist_ok=True)
        with replacing(stem.with_name(f"{stem.name}.csv")) as stream:
            table.to_csv(stream, index=False)
        figures = save_figure([(one.name, one.contributions) for one in series], wanted.removal, distance.name, stem)
        facts = facts_of(series, wanted, distance, time.perf_counter() - began)
        write_json(stem.with_name(f"{stem.name}.json"), facts)
    return [shown(one, distance) for one in series] + [f"{stem}.csv, .json, {', '.join(f.suffix for f in figures)}"]


def stem_of(values: dict[str, str], series: list[Series], wanted: Wanted) -> str:
    """Name of the files: another checkpoint, definition or comparison is another file."""
    which_one = "all" if values.get("checkpoints") == "all" else Path(series[0].facts["checkpoint"]).stem
    against = f"-against-{series[-1].run}" if "against" in values else ""
    return f"layer_lpips-{which_one}-{wanted.removal}-{values.get('distance', DISTANCES[0])}{against}"


def shown(series: Series, distance: PerceptualDistance) -> str:
    """A checkpoint's numbers for the terminal."""
    rows = [
        {
            "block": c.block,
            "stage": c.stage,
            distance.name: f"{c.raw:.4g}",
            "95% interval": f"{c.raw_low:.4g} to {c.raw_high:.4g}",
            "share": f"{c.share:.1%}",
        }
        for c in series.contributions
    ]
    return f"{series.name}\n{pd.DataFrame(rows).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, contribute)


if __name__ == "__main__":
    main()
