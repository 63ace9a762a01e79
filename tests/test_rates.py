"""Rates for estimates: what the cluster states, what was measured on a GPU, what the study assumes."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments.settings import ClusterConfig, StudyConfig, surroundings
from experiments.study.rates import Rate, rate_of
from gat.config import Config
from tests.conftest import compose_config, composed

TYPED = ("study=imagenet256", "data.root=/images")
ROW = {
    "hardware": "NVIDIA H200",
    "device": "cuda",
    "family": "gat",
    "model": "S/2",
    "precision": "bf16",
    "step": "ours",
}


@pytest.fixture(scope="module")
def around() -> tuple[Config, StudyConfig, ClusterConfig]:
    settings = surroundings(composed(*TYPED))
    return compose_config(*TYPED), settings.study, settings.cluster


def write(folder: Path, *rows: dict[str, object]) -> None:
    pd.DataFrame([ROW | row for row in rows]).to_csv(folder / "step-gat-S2-b256-nvidia-h200-variants.csv", index=False)


def test_assumed_until_it_is_measured(tmp_path: Path, around: tuple[Config, StudyConfig, ClusterConfig]) -> None:
    config, study, cluster = around
    assert rate_of(config, study, cluster, tmp_path) == Rate(300.0, "assumed by the study")
    write(tmp_path, {"TFLOP/s": 210.0}, {"TFLOP/s": 230.0}, {"TFLOP/s": 90.0, "step": "as released"})
    assert rate_of(config, study, cluster, tmp_path) == Rate(230.0, "measured on NVIDIA H200")
    stated = replace(cluster, sustained_tflops=5.0)
    assert rate_of(config, study, stated, tmp_path) == Rate(5.0, "stated by the cluster")
    nothing = replace(study, sustained_tflops=None, on_gpu=None)
    assert rate_of(config, nothing, cluster, tmp_path) is None


@pytest.mark.parametrize("other", [{"model": "B/2"}, {"precision": "fp32"}, {"device": "cpu"}, {"family": "mini"}])
def test_measurements_of_something_else_do_not_count(
    tmp_path: Path, around: tuple[Config, StudyConfig, ClusterConfig], other: dict[str, object]
) -> None:
    write(tmp_path, {"TFLOP/s": 230.0} | other)
    assert rate_of(*around, tmp_path) == Rate(300.0, "assumed by the study")
