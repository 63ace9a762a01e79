"""At which rate a process trains, for estimates: stated by the cluster, measured on a GPU, or assumed by the study."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.settings import ClusterConfig, StudyConfig
from gat.config import Config

MEASURED = Path(__file__).parents[2] / "results" / "benchmarks"
OURS = "ours"


@dataclass(frozen=True)
class Rate:
    """TFLOP/s per process, and where that is from."""

    tflops: float
    source: str


def rate_of(config: Config, study: StudyConfig, cluster: ClusterConfig, measured: Path = MEASURED) -> Rate | None:
    """Return a run's rate, None if none is stated. Measured rates count only on GPUs: on CPUs they depend on the cores."""
    if cluster.sustained_tflops is not None:
        return Rate(cluster.sustained_tflops, "stated by the cluster")
    found = measured_rate(config, measured) if study.on_gpu else None
    if found is not None:
        return found
    return Rate(study.sustained_tflops, "assumed by the study") if study.sustained_tflops is not None else None


def measured_rate(config: Config, folder: Path) -> Rate | None:
    """The fastest that ``experiments/benchmark.py step`` found for this model and precision on a GPU."""
    model = f"{config.model.size}/{config.model.patch}"
    best = None
    for file in sorted(folder.glob("step-*-variants.csv")):
        table = pd.read_csv(file)
        mine = (table["family"] == config.model.family) & (table["model"] == model) & (table["device"] == "cuda")
        mine &= (table["precision"] == config.training.precision) & (table["step"] == OURS)
        for row in table[mine].to_dict("records"):
            if best is None or row["TFLOP/s"] > best.tflops:
                best = Rate(float(row["TFLOP/s"]), f"measured on {row['hardware']}")
    return best
