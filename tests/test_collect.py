"""Tables of sweeps: which runs they hold, their rows, and that every column is explained."""

import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import experiments.collect
from experiments.settings import SWEEPS
from experiments.study.records import newest_runs, split
from gat.models.sizes import discriminator_dims, generator_dims
from tests.conftest import compose_config
from tests.submissions import numbers_line, submission_of, write_run
from tests.test_protocol import ONE

README = SWEEPS.parent / "results" / "README.md"


def record_of(status: str = "finished", **changes: Any) -> dict[str, Any]:
    """A record as :func:`gat.training.run.write_record` makes it."""
    shared = {"patch": 4, "num_classes": 3, "latent_side": 8}
    return {
        "identity": "abc",
        "numerics": 2,
        "run_folder": "runs/x",
        "status": status,
        "diverged": {"step": 3, "reason": "d_loss is nan"} if status == "diverged" else None,
        "config": asdict(compose_config("training.batch_size=4", "training.total_steps=4")),
        "model": {
            "generator": asdict(generator_dims("mini", "S", **shared)),
            "discriminator": asdict(discriminator_dims("mini", "B", teacher_width=6, **shared)),
            **dict.fromkeys(("generator_parameters", "discriminator_parameters"), 7),
            **dict.fromkeys(("generator_gflops", "discriminator_gflops"), 0.5),
        },
        "hardware": {"gpus": [], "cpu": "some CPU", "device": "cpu", "processes": 1},
        "seconds_since_start": 1.5,
        "ended_at": "2026-01-01T00:00:00+00:00",
        "git": {"commit": "beef", "dirty": True},
        "final_metrics": LINES[-1],
        "protocols": {ONE.id: ONE.as_record()},
    } | changes


LINES: list[dict[str, Any]] = [
    {"step": 1, "images": 4, "g_loss": 1.0},
    {"step": 2, "images": 8, "g_loss": 0.9} | numbers_line({"FD-x-8": 20.0, "FD-x-8-reconstruction": 5.0}, ONE.id),
    {"step": 4, "images": 16, "g_loss": 0.8} | numbers_line({"FD-x-8": 10.0, "FD-x-8-reconstruction": 5.0}, ONE.id),
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def collect(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> pd.DataFrame:
    monkeypatch.setattr(sys, "argv", ["collect.py", *arguments])
    experiments.collect.main()
    return pd.read_csv("results/mini/test.csv")


def test_a_row_per_evaluation_and_every_run_has_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submission_of(runs, *[""] * 3, launcher="local")
    write_run(runs / "run-0", LINES, record_of())
    write_run(runs / "run-1", LINES[:1], record_of("diverged", final_metrics=LINES[0], protocols={}))
    table = collect(monkeypatch)
    assert list(table["arm"]) == ["arm0", "arm0", "arm1", "arm2"]
    kept = {file.name: json.loads(file.read_text()) for file in Path("results/mini/records").iterdir()}
    assert kept.keys() == {"run-0.json", "run-1.json"}
    config = record_of()["config"]
    del config["paths"]  # of the machine that made it
    assert kept["run-0.json"] == record_of() | {"run_folder": "run-0", "config": config}
    assert list(table["status"]) == ["finished", "finished", "diverged", "failed"]
    assert list(table["step"][:3]) == [2, 4, 1]
    assert list(table["distance"][:2]) == [20.0, 10.0]
    assert list(table["end"][:3]) == [False, True, False]
    assert table["distance"][2:].isna().all()
    assert list(table["reconstruction_distance"][:2]) == [5.0, 5.0]
    assert (table["diverged_step"][2], table["detail"][2]) == (3, "d_loss is nan")
    assert (table["git_commit"][0], table["submitted_commit"][0]) == ("beef", "c0ffee")
    assert table["training_gflops"][1] == pytest.approx(2 * table["training_gflops"][0])
    assert pd.isna(table["step"][3])
    told = capsys.readouterr().out
    assert "4 rows of 3 runs here, 1 missing" in told
    assert "missing: arm2, seed 0: failed died without a word" in told
    head = json.loads(Path("results/mini/test.json").read_text())
    assert head["missing"] == ["arm2, seed 0"]
    assert head["protocols"] == {ONE.id: ONE.as_record()}
    assert list(table["protocol"][:2]) == [ONE.id, ONE.id]


def test_numbers_of_different_protocols_make_no_table(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submission_of(runs, "", "", launcher="local")
    other = replace(ONE, truncation=0.3)
    line = LINES[-1] | numbers_line({"FD-x-8": 10.0}, other.id)
    write_run(runs / "run-0", LINES, record_of())
    write_run(runs / "run-1", [line], record_of(final_metrics=line, protocols={other.id: other.as_record()}))
    with pytest.raises(SystemExit) as stopped:
        collect(monkeypatch)
    assert stopped.value.code == 2
    assert "the table of test: numbers of different protocols are not comparable (truncation 0.0 and 0.3)" in (
        capsys.readouterr().err
    )
    assert not Path("results/mini/test.csv").exists()


def test_a_longer_run_gives_the_rows_of_the_shorter(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for two steps; the run went four, or diverged at the third."""
    submission_of(runs, "", "", launcher="local", total_steps=2)
    write_run(runs / "run-0", LINES, record_of())
    write_run(runs / "run-1", LINES[:2], record_of("diverged", final_metrics=LINES[1]))
    table = collect(monkeypatch)
    for column, values in {"step": 2, "distance": 20.0, "end": True, "status": "finished", "total_steps": 2}.items():
        assert table[column].tolist() == [values] * 2, column
    assert table["diverged_step"].isna().all()


def test_steps_where_the_claim_asks_for_them(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission_of(runs, "", launcher="local", claim={"at": "steps"})
    write_run(runs / "run-0", LINES, record_of())
    assert list(collect(monkeypatch)["step"]) == [1, 2, 4]


def test_other_settings_stay_out_unless_asked_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = submission_of(runs, "", launcher="local", base="short")
    submission_of(runs, "", "", launcher="local")
    write_run(runs / "run-0", LINES, record_of())
    assert len(collect(monkeypatch)) == 3
    assert f"other settings, not in the table: submission={trial.id} of 1 runs" in capsys.readouterr().out
    assert len(collect(monkeypatch, f"submission={trial.id}")) == 2


def test_of_an_arm_and_seed_the_newest_run_counts(runs: Path) -> None:
    old, other, new = submission_of(runs, "", ""), submission_of(runs, "", base="other"), submission_of(runs, "")
    mine, others = split([old, other, new], new)
    assert (mine, others) == ([old, new], [other])
    assert [(s.id, entry.arm) for s, entry in newest_runs(mine)] == [(new.id, "arm0"), (old.id, "arm1")]


def test_nothing_to_collect_and_mistyped_arguments(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([], "no submission of any sweep under runs"),
        (["swep=x"], "'swep=x' is not understood"),
    ):
        with pytest.raises(SystemExit) as stopped:
            collect(monkeypatch, *arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_every_column_is_explained(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission_of(runs, "", launcher="local", total_steps=400)
    demo = json.loads((README.parent / "demo" / "metrics.jsonl").read_text().splitlines()[-1])
    protocols = json.loads((README.parent / "demo" / "record.json").read_text())["protocols"]
    write_run(runs / "run-0", [demo], record_of(protocols=protocols, final_metrics=demo))
    section = README.read_text().split("| column | what |")[1]
    cells = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `")]
    explained = set(re.findall(r"`(\w+)`", " ".join(cells))) | {"stage2_rms", "stage3_rms"}
    assert set(collect(monkeypatch).columns) <= explained
    optional = {"logit_centering", "consistency", "generator_alignment"}
    assert explained - set(pd.read_csv("results/mini/test.csv").columns) == optional
