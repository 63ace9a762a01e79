"""Names, identity and metrics file of a run."""

import dataclasses
import json
from pathlib import Path

import pytest

from gat.config import Config
from gat.errors import UserError
from gat.training.run_folder import RunFolder, identity, run_name


def changed(config: Config, group: str, **values: object) -> Config:
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **values)})


def test_identity_follows_what_changes_the_result(default_config: Config) -> None:
    base = identity(default_config)
    without_effect: dict[str, dict[str, object]] = {
        "training": {"device": "cpu", "log_steps": 3, "checkpoint_steps": 7},
        "evaluation": {"batch_size": 1, "grid_columns": 2},
        "paths": {"runs": "/elsewhere", "prepared": "x"},
    }
    for group, values in without_effect.items():
        assert identity(changed(default_config, group, **values)) == base
    different = {
        identity(changed(default_config, "training", seed=1)),
        identity(changed(default_config, "training", total_steps=7)),
        identity(changed(default_config, "objective", mng_schedule="linear")),
        identity(changed(default_config, "model", patch=4)),
        identity(changed(default_config, "evaluation", samples=7)),
    }
    assert len(different | {base}) == 6


def test_name_says_data_size_and_seed(default_config: Config) -> None:
    assert run_name(default_config).startswith("digits-mini-S2-seed0-")


def test_metrics_survive_a_cut_off_line_and_are_cut_at_a_step(default_config: Config, tmp_path: Path) -> None:
    folder = RunFolder(changed(default_config, "paths", run=str(tmp_path / "run")))
    folder.create(default_config)
    for step in (1, 2, 3):
        folder.append_metrics({"step": step, "loss": 0.5})
    with folder.metrics_file.open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [line["step"] for line in folder.read_metrics()] == [1, 2, 3]
    folder.cut_metrics(2)
    assert folder.metrics_file.read_text() == "".join(json.dumps({"step": s, "loss": 0.5}) + "\n" for s in (1, 2))


def test_only_the_same_run_counts_as_finished(default_config: Config, tmp_path: Path) -> None:
    folder = RunFolder(changed(default_config, "paths", run=str(tmp_path)))
    assert folder.finished_record() is None
    folder.write_record({"identity": "other"})
    assert folder.finished_record() is None
    folder.write_record({"identity": folder.identity, "status": "finished"})
    assert folder.finished_record() == {"identity": folder.identity, "status": "finished"}


def test_unwritable_folder_is_told(default_config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = RunFolder(changed(default_config, "paths", run=str(tmp_path / "file" / "run")))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\): set another paths.runs"):
        folder.create(default_config)


def test_latest_checkpoints(default_config: Config, tmp_path: Path) -> None:
    folder = RunFolder(changed(default_config, "paths", run=str(tmp_path)))
    folder.create(default_config)
    assert folder.latest_checkpoint() is None
    for step in (5, 100, 20):
        folder.checkpoint_file(step).touch()
    folder.keep_latest(2)
    assert sorted(f.name for f in folder.checkpoints.iterdir()) == [
        "step-00000020.safetensors",
        "step-00000100.safetensors",
    ]
    assert folder.latest_checkpoint() == folder.checkpoint_file(100)
