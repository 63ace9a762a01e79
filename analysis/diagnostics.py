"""What analysis/diagnose.py can measure on a sweep's runs, and the metrics that claims and figures take from it.

diagnostic     of which checkpoints   metrics, one value per run and checkpoint
layer_lpips    all                    early_of_largest, early_share: of the first half of the blocks (analysis/blocks.py),
                                      mean of ``of_largest`` and sum of ``share``
cknna          all                    cknna_real, cknna_fake: means over D's blocks; cknna_fake_minus_real
pca_features   last                   early_of_sample: mean over the first half of G's blocks of the share of their tokens'
                                      variance that is the sample's (analysis/pca_features.py)
stages         last                   first_to_final: what is missing after the first stage (analysis/stages.py)
interpolation  last                   largest_step_share, straightness: means over paths (analysis/interpolation.py)
evaluations    last                   every number of experiments/evaluate.py under its name, as FID-50K
samples        last                   none: the run's last sample grid
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import alignment, discriminator_cknna, interpolation, layer_lpips, pca_features, stages
from analysis.alignment import teacher_called
from analysis.cknna import K_NEAREST
from analysis.opening import Opened
from analysis.perceptual import PerceptualDistance, load_distance
from experiments.settings import DiagnosticsConfig
from gat.errors import UserError, first_line
from gat.files import replacing
from gat.teachers import Teacher

Row = dict[str, Any]
Save = Callable[[Path], None]
SEED = 0  # of all draws
PCA_SAMPLES = 64
RUN = ["arm", "seed", "status", "step", "end"]


@dataclass
class Tools:
    """Networks that measure, loaded when they are first used and then kept, with what they said of the real images."""

    config: DiagnosticsConfig
    device: torch.device
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
    summarize: Callable[[pd.DataFrame], Row]
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
        try:
            record = json.loads(file.read_text())
            if record["checkpoint"]["sha256"] == checkpoint and record["checkpoint"]["weights"] == "ema":
                rows += [number_row(name, number) for name, number in record["numbers"].items()]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: is no record of experiments/evaluate.py ({first_line(error)}): remove it"
            ) from error
    return rows, None


def number_row(name: str, number: dict[str, Any]) -> Row:
    """Of a number in a record."""
    low, high = number.get("interval", (None, None))
    protocol = number["protocol"]
    return {"number": name, "value": number["value"], "low": low, "high": high} | {
        "protocol_name": protocol["name"],
        "protocol_id": protocol["id"],
    }


def of_samples(it: Opened, tools: Tools) -> tuple[list[Row], Save | None]:  # noqa: ARG001
    """The run's sample grid as it is."""
    grid = it.pretrained.place / "samples.png"

    def save(file: Path) -> None:
        with replacing(file) as stream:
            stream.write(grid.read_bytes())

    return [], save if grid.is_file() else None


def blocks_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a block each."""
    early = rows[2 * rows["block"] < len(rows)]
    return {"early_of_largest": early["of_largest"].mean(), "early_share": early["share"].sum(min_count=1)}


def alignment_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a block each."""
    real, fake = rows["real"].mean(), rows["fake"].mean()
    return {"cknna_real": real, "cknna_fake": fake, "cknna_fake_minus_real": fake - real}


def features_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a layer and colour each."""
    blocks = rows[rows["layer"].str.startswith("block_")].drop_duplicates("layer")
    number = blocks["layer"].str.removeprefix("block_").astype(int)
    return {"early_of_sample": blocks[2 * number < len(blocks)]["variance_of_sample_share"].mean()}


def stages_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a stage each."""
    return {"first_to_final": rows.loc[rows["stage"].idxmin(), "to_final"]}


def paths_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a path each; paths along which nothing changes count for nothing."""
    return {name: rows[name].mean() for name in ("largest_step_share", "straightness")}


def evaluations_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a number each. :class:`UserError` for one name by several protocols, which do not compare."""
    for name, same in rows.groupby("number"):
        if same["protocol_id"].nunique() > 1:
            raise UserError(
                f"{name} was measured by several protocols: keep the records of one in the run's evaluations/"
            )
    return dict(zip(rows["number"], rows["value"], strict=True))


def nothing(rows: pd.DataFrame) -> Row:  # noqa: ARG001
    """No metric."""
    return {}


DIAGNOSTICS = {
    "layer_lpips": Diagnostic(of_blocks, blocks_summary, all_checkpoints=True, settings=("distance", "samples")),
    "cknna": Diagnostic(
        of_alignment, alignment_summary, all_checkpoints=True, settings=("teacher", "alignment_samples")
    ),
    "pca_features": Diagnostic(of_features, features_summary),
    "stages": Diagnostic(of_stages, stages_summary, settings=("samples",)),
    "interpolation": Diagnostic(of_paths, paths_summary, settings=("distance", "paths")),
    "evaluations": Diagnostic(of_evaluations, evaluations_summary, kept=False),
    "samples": Diagnostic(of_samples, nothing, kept=False),
}


def metrics_of(diagnostic: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The metrics of a table of rows: a row per run and checkpoint; runs without numbers (diverged) are kept without."""
    summarize = DIAGNOSTICS[diagnostic].summarize
    found = []
    for key, same in rows.groupby(RUN, dropna=False, sort=False):
        numbers = same.dropna(subset=["step"])
        found.append(dict(zip(RUN, key, strict=True)) | (summarize(numbers) if len(numbers) else {}))
    return pd.DataFrame(found)
