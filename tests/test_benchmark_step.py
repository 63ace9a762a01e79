"""The step benchmark: its arithmetic, its parts, its tables, and the command at a hundredth of its length."""

import math
import mmap
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import experiments.benchmark
from experiments.benchmarks import costs
from experiments.benchmarks.bench import Bench, bench_of
from experiments.benchmarks.feeding import random_feed
from experiments.benchmarks.memory import largest_batch, peak_gib, start_peak
from experiments.benchmarks.step import (
    Running,
    Step,
    bench_that_fits,
    counted_share,
    data_sheet_tflops,
    flops_of,
    matrix_tflops,
    measure_all,
    median_seconds,
    row_of,
    variants_of,
)
from experiments.benchmarks.tables import measured_by
from experiments.settings import BenchmarkConfig, StudyConfig, surroundings
from gat.config import Config
from gat.errors import UserError
from gat.models.flops import iteration_flops
from gat.platform import git_state
from gat.teachers import CachedTokens, Teacher
from tests.conftest import compose_config, composed

CPU = torch.device("cpu")
TYPED = ("study=mini", "model.size=S", "training.batch_size=4", "training.compile=off")
SETTINGS = BenchmarkConfig(0.01, 300.0, None, release=None, warmup_steps=1, out="")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return bench_of(compose_config(*TYPED), surroundings(composed(*TYPED)).study)


def test_median_of_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which each step takes a second, but for one that takes ten."""
    now = 0.0
    calls: list[int] = []

    def step(number: int) -> None:
        nonlocal now
        calls.append(number)
        now += 10 if number == 2 else 1

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert median_seconds(step, 14.0, CPU) == 1
    assert calls == list(range(5))
    calls.clear()
    median_seconds(step, 30.0, CPU)
    assert len(calls) == 21  # 30 seconds, ten of which are the slow one


def test_inputs_are_random_and_repeatable(bench: Bench) -> None:
    (batch, noise), (again, _), (other, _) = bench.inputs(0, 4), bench.inputs(0, 4), bench.inputs(1, 4)
    assert torch.equal(batch.real, again.real)
    assert not torch.equal(batch.real, other.real)
    assert batch.real.std() > 0.8
    assert batch.teacher is not None
    assert batch.teacher.patches.shape == (4, bench.dims[1].tokens, 112)
    assert noise.z.shape == (4, 64)


def test_pytorch_counts_what_the_formula_says(bench: Bench) -> None:
    assert counted_share(bench) == pytest.approx(1.0, abs=0.01)


def test_a_row_by_hand(bench: Bench) -> None:
    flops = iteration_flops(*bench.dims, 4)
    assert flops_of(bench, 4) == flops
    row = row_of(bench, "ours", 0.5, 1.0, peak_tflops=flops / 1e12 * 8)
    assert (row["images/s"], row["of product"]) == (8.0, pytest.approx(0.25))


def test_the_command_is_shown_without_this_machines_folders() -> None:
    typed = [
        "step",
        "study=nano",
        "benchmark.release=/home/me/GAT",
        "paths.runs=/scratch",
        "benchmark.out=/tmp",
        "a='b c'",
    ]
    shown = """step study=nano benchmark.release=FOLDER 'a='"'"'b c'"'"''` on """
    assert measured_by(typed).startswith(f"`python experiments/benchmark.py {shown}")


def test_rate_of_the_data_sheet() -> None:
    assert data_sheet_tflops(["NVIDIA H200"], "bf16") == 989.0
    for gpus, precision in (([], "bf16"), (["NVIDIA L4"], "bf16"), (["NVIDIA H200"], "fp32")):
        assert math.isnan(data_sheet_tflops(gpus, precision))


def names_of(bench: Bench, compile_blocks: str, folder: str | None) -> list[str]:
    training = replace(bench.config.training, compile=compile_blocks)
    return list(
        variants_of(replace(bench, config=replace(bench.config, training=training)), replace(SETTINGS, release=folder))
    )


def test_variants(bench: Bench) -> None:
    assert names_of(bench, "off", None) == ["ours"]
    assert names_of(bench, "on", "GAT") == ["ours", "ours, not compiled", "the release"]


def nothing() -> Step:
    return lambda *_: None


def everything() -> Step:
    return lambda *given: given


def test_variants_take_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of each at a time, until the fastest too has had its five steps and its seconds."""
    order: list[float] = []

    def step(self: Running) -> float:
        assert self.once is not None
        order.append(1.0 if self.once(*self.bench.inputs(0, 1)) is None else 3.0)
        return order[-1]

    monkeypatch.setattr(Running, "step", step)
    found = measure_all(
        bench, {"ours": nothing, "the release": everything}, replace(SETTINGS, seconds=7.0, warmup_steps=2)
    )
    assert order == [1.0, 1.0, 3.0, 3.0] + 7 * [1.0, 3.0]
    assert {name: one.times for name, one in found.items()} == {"ours": [1.0] * 7, "the release": [3.0] * 7}


def test_a_matrix_product_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.benchmarks.step.MATRIX_SIDE", {"cpu": 100})
    monkeypatch.setattr("experiments.benchmarks.step.median_seconds", lambda *_: 2.0)
    assert matrix_tflops(CPU, torch.float32) == pytest.approx(1e-6)


def test_peak_of_memory() -> None:
    """Pages of their own, as freed memory may be kept and used again; gone when the peak is looked at."""
    start_peak(CPU)
    before = peak_gib(CPU)
    with mmap.mmap(-1, 2**29) as pages:
        for _ in range(2**9):
            pages.write(bytes(2**20))
    after = peak_gib(CPU)
    assert after - before == pytest.approx(0.5, abs=0.05)
    start_peak(CPU)
    assert peak_gib(CPU) < after - 0.4


def test_largest_batch_that_fits() -> None:
    def once(size: int) -> None:
        if size > 37:
            raise torch.OutOfMemoryError

    assert [largest_batch(CPU, once, start) for start in (1, 32, 256, 6)] == [32, 32, 32, 24]
    assert largest_batch(CPU, lambda _: once(99), 4) == 0


def test_what_does_not_fit_has_no_times(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU variants stand alone: the others are measured all the same."""

    def too_large() -> Step:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Running, "step", lambda _: 1.0)
    monkeypatch.setattr("experiments.benchmarks.step.start_peak", lambda _: None)
    monkeypatch.setattr("experiments.benchmarks.step.peak_gib", lambda _: 2.0)
    on_gpu = replace(bench, device=torch.device("cuda"))
    found = measure_all(on_gpu, {"the release": too_large, "ours": nothing}, SETTINGS)
    assert math.isnan(found["the release"].seconds)
    assert found["ours"].seconds == 1.0


def test_the_batch_is_made_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    study = surroundings(composed(*TYPED)).study

    def bench_on_gpu(config: Config, study: StudyConfig) -> Bench:
        return replace(bench_of(config, study), device=torch.device("cuda"))

    monkeypatch.setattr("experiments.benchmarks.step.bench_of", bench_on_gpu)
    for most, batch, largest in ((5, 4, 4), (2, 2, 2), (40, 4, 32)):

        def once(_: Bench, size: int, most: int = most) -> None:
            if size > most:
                raise torch.OutOfMemoryError

        monkeypatch.setattr("experiments.benchmarks.step.measure_once", once)
        monkeypatch.setattr("experiments.benchmarks.memory.start_peak", lambda _: None)
        found, fits = bench_that_fits(compose_config(*TYPED), study)
        assert (found.config.training.batch_size, fits) == (batch, largest)
    monkeypatch.setattr("experiments.benchmarks.step.measure_once", lambda *_: once(found, 99))
    with pytest.raises(UserError, match="a step of one sample does not fit"):
        bench_that_fits(compose_config(*TYPED), study)


def test_without_a_study() -> None:
    with pytest.raises(UserError, match=r"benchmark\.py step and evaluation need study=mini, cifar10 or imagenet256"):
        bench_of(compose_config(), surroundings(composed()).study)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("benchmark.seconds=0.01", f"benchmark.out={tmp_path}")
    monkeypatch.setattr("experiments.benchmarks.step.MATRIX_SECONDS", 0.01)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "step", *TYPED, *settings])
    experiments.benchmark.main()
    (file,) = tmp_path.glob("step-mini-S2-b4-*-variants.csv")
    table = pd.read_csv(file)
    assert list(table["step"]) == ["ours"]
    assert (table["images/s"] > 0).all()
    split = pd.read_csv(str(file).replace("variants", "split"))
    assert split["share"].sum() == pytest.approx(1.0)
    assert {"draws", "latents of the batch", "teacher", "D backward"} <= set(split["part"])
    printed = capsys.readouterr().out
    assert "PyTorch counts" in printed
    assert f"at commit {git_state()['commit'][:7]}" in printed


def test_a_teacher_is_timed_with_the_step(bench: Bench) -> None:
    """mini's tokens are cached: looked up; a teacher that is not runs on images; without alignment there is none."""
    noise = bench.inputs(0, 4)[1]
    cached = random_feed(bench)
    live = random_feed(replace(bench, config=compose_config(*TYPED, "teacher.cache=false")))
    assert isinstance(cached.teacher, CachedTokens)
    assert isinstance(live.teacher, Teacher)
    for feed in (cached, live):
        tokens = feed.tokens(noise)
        assert tokens is not None
        assert (tokens.cls.shape, tokens.patches.shape) == ((4, 112), (4, 16, 112))
        assert feed.latents(noise).shape == (4, 4, 8, 8)
    typed = (*TYPED, "teacher=none")
    without = random_feed(bench_of(compose_config(*typed), surroundings(composed(*typed)).study))
    assert without.tokens(noise) is None


def test_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sweeps of S that share an arm: as many runs of each arm as seeds, and the shared arm is counted as new once."""
    monkeypatch.setattr(costs, "SWEEPS", tmp_path / "sweeps")
    (tmp_path / "sweeps").mkdir()
    for name in ("consistency", "logit_centering"):
        (tmp_path / "sweeps" / f"{name}.yaml").touch()
    study = ("study=mini", "study.effect=1.3", "study.scatter=0.17")  # eight seeds
    costs.benchmark_costs(lambda overrides: composed(*study, *overrides), tmp_path)
    table = pd.read_csv(tmp_path / "costs-mini.csv")
    assert list(table["seeds at each look"]) == [8, 8]
    assert list(table["finds a ratio of"]) == [1.29] * 2
    assert list(table["runs"]) == [16, 16]
    assert list(table["not in those above"]) == [16, 8]
    one_run = flops_of(bench_of(compose_config("study=mini"), surroundings(composed("study=mini")).study), 64) * 1500
    assert table["EFLOP"].tolist() == pytest.approx([16 * one_run / 1e18] * 2)
    assert table["device-hours"][0] == pytest.approx(16 * one_run / 0.03e12 / 3600)
