"""What analysis/diagnose.py can measure on a sweep's runs.

Of all kept checkpoints: block contributions (``layer_lpips``) and alignment (``cknna``); of the last one: the rest.
``evaluations`` gathers what experiments/evaluate.py left in the run's folder, ``samples`` its last sample grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis import alignment, discriminator_cknna, interpolation, layer_lpips, pca_features, stages
from analysis.alignment import teacher_called
from analysis.cknna import K_NEAREST
from analysis.opening import Opened
from analysis.perceptual import PerceptualDistance, load_distance
from experiments.settings import DiagnosticsConfig
from gat.files import json_object, reading, replacing
from gat.teachers import Teacher

Row = dict[str, Any]
Save = Callable[[Path], None]
SEED = 0  # of all draws
PCA_SAMPLES = 64


@dataclass
class Tools:
    """Networks that measure, loaded when they are first used and then kept, with what they said of the real images."""

    config: DiagnosticsConfig
    device: torch.device
    given: dict[str, str] = field(default_factory=dict)
    """Settings for opening a run, from :data:`analysis.opening.SETTINGS`."""
    real: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def distance(self) -> PerceptualDistance:
        """The perceptual distance."""
        return load_distance(self.config.distance, self.device)

    @cached_property
    def teacher(self) -> Teacher:
        """The vision network."""
        return teacher_called(self.config.teacher, self.device)

    def real_features(self, it: Opened) -> Tensor:
        """The teacher's of the real images of the run's data."""
        assert it.data is not None
        key = str(it.data.folder)
        if key not in self.real:
            samples = self.config.alignment_samples
            self.real[key] = alignment.real_teacher_features(it, self.teacher, samples=samples, seed=SEED)
        return self.real[key]


@dataclass(frozen=True)
class Diagnostic:
    """``measure`` gives rows of one checkpoint and, where there is a picture, what saves it as a PNG."""

    measure: Callable[[Opened, Tools], tuple[list[Row], Save | None]]
    all_checkpoints: bool = False
    settings: Sequence[str] = ()
    """Which of the study's settings change its numbers."""
    kept: bool = True
    """Whether a result stays true: not of files that may change."""


def of_blocks(it: Opened, tools: Tools) -> tuple[list[Row], None]:
    """Contributions of the generator's blocks."""
    rows = layer_lpips.rows_of_checkpoint(it, samples=tools.config.samples, seed=SEED, distance=tools.distance)
    return rows, None


def of_alignment(it: Opened, tools: Tools) -> tuple[list[Row], None]:
    """CKNNA of the discriminator's blocks."""
    samples, real = tools.config.alignment_samples, tools.real_features(it)
    rows = discriminator_cknna.rows_of_checkpoint(
        it, tools.teacher, samples=samples, seed=SEED, k=K_NEAREST, real_features=real
    )
    return rows, None


def of_features(it: Opened, tools: Tools) -> tuple[list[Row], Save]:  # noqa: ARG001
    """Principal components of the generator's tokens."""
    return pca_features.rows_of_checkpoint(it, samples=PCA_SAMPLES, seed=SEED)


def of_stages(it: Opened, tools: Tools) -> tuple[list[Row], Save]:
    """What each stage draws."""
    return stages.rows_of_checkpoint(it, samples=tools.config.samples, seed=SEED)


def of_paths(it: Opened, tools: Tools) -> tuple[list[Row], Save]:
    """Paths in w."""
    return interpolation.rows_of_checkpoint(it, paths=tools.config.paths, seed=SEED, distance=tools.distance)


def of_evaluations(it: Opened, tools: Tools) -> tuple[list[Row], None]:  # noqa: ARG001
    """Numbers that experiments/evaluate.py left of this very checkpoint; :class:`UserError` for a damaged record."""
    folder, checkpoint = it.pretrained.place / "evaluations", it.pretrained.facts["sha256"]
    rows = []
    for file in sorted(folder.glob("*.json")):
        with reading(file, "a record of experiments/evaluate.py", "remove it"):
            record = json_object(file)
            if record["checkpoint"]["sha256"] == checkpoint and record["checkpoint"]["weights"] == "ema":
                rows += [number_row(name, number) for name, number in record["numbers"].items()]
    return rows, None


def number_row(name: str, number: dict[str, Any]) -> Row:
    """Of a number in a record."""
    low, high = number.get("interval", (None, None))
    protocol = number["protocol"]
    return {"number": name, "kind": number["kind"], "value": number["value"], "low": low, "high": high} | {
        "protocol_id": protocol["id"],
        "truncation": protocol["truncation"],
        "decoder": protocol["decoder"],
    }


def of_samples(it: Opened, tools: Tools) -> tuple[list[Row], Save | None]:  # noqa: ARG001
    """The run's sample grid as it is."""
    grid = it.pretrained.place / "samples.png"

    def save(file: Path) -> None:
        with replacing(file) as stream:
            stream.write(grid.read_bytes())

    return [], save if grid.is_file() else None


DIAGNOSTICS = {
    "layer_lpips": Diagnostic(of_blocks, all_checkpoints=True, settings=("distance", "samples")),
    "cknna": Diagnostic(of_alignment, all_checkpoints=True, settings=("teacher", "alignment_samples")),
    "pca_features": Diagnostic(of_features),
    "stages": Diagnostic(of_stages, settings=("samples",)),
    "interpolation": Diagnostic(of_paths, settings=("distance", "paths")),
    "evaluations": Diagnostic(of_evaluations, kept=False),
    "samples": Diagnostic(of_samples, kept=False),
}
