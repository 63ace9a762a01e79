"""The data benchmark: its arithmetic on known rates, its tables, and the command at a hundredth of its length."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import experiments.benchmark
from experiments.benchmarks import data as module
from experiments.benchmarks.data import flops_per_image, measure_reading, rate, speeds_of, workers_needed
from experiments.benchmarks.tables import keep, markdown
from experiments.settings import BenchmarkConfig
from tests.prepared import fake_prepared


def test_rate_is_the_median_of_samples_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which the n-th call of the work takes a second, but for one stretch that takes ten."""
    now = 0.0
    calls: list[int] = []

    def work(call: int) -> int:
        nonlocal now
        calls.append(call)
        now += 10 if len(calls) == 3 else 1
        return 8

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert rate(work, seconds=5.0) == 8
    assert calls == list(range(6))  # one to warm up, then one for each of five stretches


def settings(**changes: Any) -> BenchmarkConfig:
    return replace(BenchmarkConfig(1.0, 300.0, None, release=None, warmup_steps=1, out="results"), **changes)


def test_workers_needed() -> None:
    """S at 2,000 images/s and workers of 900: three; the memory row and other sets do not count."""
    tflops = 2000 * flops_per_image("S") / 1e12
    read = pd.DataFrame(
        [
            {
                "source": "photos, 256 px, webp lossless",
                "what": "moments",
                "from": "disk",
                "samples/s per worker": 5000.0,
            },
            {
                "source": "photos, 256 px, webp lossless",
                "what": "moments",
                "from": "memory",
                "samples/s per worker": 1.0,
            },
            {
                "source": "photos, 256 px, jpeg 95",
                "what": "moments and images",
                "from": "disk",
                "samples/s per worker": 900.0,
            },
            {"source": "digits", "what": "moments", "from": "disk", "samples/s per worker": 1.0},
        ]
    )
    rows = workers_needed(read, speeds_of(settings(device_tflops=tflops)))
    assert [str(row["GPU"]).split("/")[0] for row in rows] == ["S", "B", "L", "XL"]
    assert rows[0]["images/s"] == pytest.approx(2000)
    assert (rows[0]["workers, moments alone"], rows[0]["workers, jpeg 95"]) == (1, 3)
    assert float(str(rows[3]["images/s"])) < 200  # XL costs more than ten times as much as S


def test_workers_for_a_rate_asked_for() -> None:
    assert speeds_of(settings(images_per_s=1234.0)) == {"as asked for": 1234.0}


def test_reading_is_measured_for_each_kind() -> None:
    rows = measure_reading(fake_prepared(classes=2, latent_side=4, count=32), "fake", seconds=0.05)
    assert [(row["what"], row["from"]) for row in rows] == [
        ("moments", "disk"),
        ("moments and images", "disk"),
        ("moments", "memory"),
    ]
    assert all(float(str(row["samples/s per worker"])) > 0 for row in rows)


def test_tables_are_kept_by_hardware(tmp_path: Path) -> None:
    table = pd.DataFrame([{"what": "a", "rate": 1234.5, "share": 0.12345, "n": 3}])
    assert markdown(table).splitlines() == [
        "| what | rate | share | n |",
        "| --- | --- | --- | --- |",
        "| a | 1234 | 0.123 | 3 |",
    ]
    text, csv = keep(tmp_path / "new", "data", "words\n", {"reading": table})
    assert text.read_text() == "words\n"
    assert text.name.startswith("data-")
    assert text.name.endswith("-cores.md")
    assert pd.read_csv(csv).to_dict("records") == table.to_dict("records")


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "PHOTOS", 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "data", "benchmark.seconds=0.02"])
    experiments.benchmark.main()
    said = capsys.readouterr().out
    assert "| photos, 256 px, webp lossless | moments and images | disk |" in said
    assert "not measured: prepared/digits-32px-tiny" in said
    assert len(list((tmp_path / "results" / "benchmarks").glob("data-*"))) == 4


@pytest.mark.parametrize("arguments", [[], ["speed"], ["data", "benchmark.seconds=0"]])
def test_mistakes(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        experiments.benchmark.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert ("type one of data, step, release, evaluation, costs after benchmark.py" in error) or (
        "benchmark.seconds=0.0" in error
    )
