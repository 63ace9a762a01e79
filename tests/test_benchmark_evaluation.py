"""The evaluation benchmark: what it times, and the command at a hundredth of its length."""

import math
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import experiments.benchmark
from experiments.benchmarks.bench import bench_of
from experiments.benchmarks.evaluation import decoder_like, time_of_samples
from experiments.benchmarks.parts import FEWEST, WARMUP, Stopwatch, median_parts
from experiments.settings import surroundings
from gat.errors import UserError
from tests.conftest import compose_config, composed

TYPED = ("study=mini", "model.size=S", "evaluation.batch_size=4", "evaluation.samples=8")


def test_medians_leave_out_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which a part takes 100 s in the warm-up, then 1, 2 and 6 s."""
    now = 0.0

    def one(watch: Stopwatch, number: int) -> None:
        def work() -> None:
            nonlocal now
            now += [100, 100, 1, 2, 6][number]

        watch("work", work)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert WARMUP + FEWEST == 5
    assert median_parts(torch.device("cpu"), 0.0, one) == {"work": 2}


def test_seconds_are_per_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(compose_config(*TYPED), surroundings(composed(*TYPED)).study)
    monkeypatch.setattr("experiments.benchmarks.evaluation.median_parts", lambda *_: {"decoder": 8.0})
    assert time_of_samples(bench, 0.0)[0] == {"decoder": 2.0}


def test_the_decoder_is_the_configured_one() -> None:
    """Of the tiny one's channels; a pretrained one must be there."""
    decoder = decoder_like(compose_config("autoencoder.channels=[8,16]").autoencoder)
    assert list(decoder.config["block_out_channels"]) == [8, 16]
    with pytest.raises(UserError, match="autoencoder '/nowhere' cannot be loaded"):
        decoder_like(compose_config("autoencoder=sd_vae_mse", "autoencoder.path=/nowhere").autoencoder)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("benchmark.seconds=0.01", f"benchmark.out={tmp_path}", "measure.reference_images=6")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "evaluation", *TYPED, *settings])
    experiments.benchmark.main()
    (file,) = tmp_path.glob("evaluation-mini-S2-8-*-split.csv")
    table = pd.read_csv(file).set_index("part")
    assert list(table.index) == [
        *("generator", "decoder", "features", "features to the host"),
        *("Fréchet distance with its interval", "KID with its interval", "precision and recall"),
    ]
    assert (table["s"] > 0).all()
    assert table["share"].sum() == pytest.approx(1.0)
    assert table["images/s"]["decoder"] == pytest.approx(8 / table["s"]["decoder"])
    assert math.isnan(table["images/s"]["precision and recall"])
    printed = capsys.readouterr().out
    assert "`python experiments/benchmark.py evaluation study=mini" in printed
    assert "nan" not in printed
