"""Trackers receive the metrics; a missing package is one line."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gat.config import TrackerConfig
from gat.errors import UserError
from gat.training.trackers import NoTracker, open_tracker


def test_tensorboard_files_replace_steps_after_a_resume(tmp_path: Path) -> None:
    config = TrackerConfig("tensorboard", "p")
    first = open_tracker(config, tmp_path, "id", 1, {})
    for step in (1, 2, 3):
        first.log(step, {"d_loss": float(step)})
    first.close()
    again = open_tracker(config, tmp_path, "id", 3, {})
    again.explain({"abc": {"truncation": 0.3}})
    again.log(3, {"d_loss": 30.0})
    again.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("d_loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    (text,) = events.Tensors("protocols/text_summary")
    assert json.loads(text.tensor_proto.string_val[0]) == {"abc": {"truncation": 0.3}}


def test_wandb_run_goes_on_under_the_runs_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    kept = SimpleNamespace(update=lambda values, allow_val_change: calls.append((values, allow_val_change)))
    run = SimpleNamespace(
        log=lambda m, step: calls.append((step, m)), finish=lambda: calls.append("finished"), config=kept
    )

    def init(**arguments: object) -> SimpleNamespace:
        calls.append(arguments)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    tracker = open_tracker(TrackerConfig("wandb", "study"), tmp_path, "0a1b", 5, {"seed": 1})
    tracker.explain({"abc": {}})
    tracker.log(5, {"d_loss": 0.5})
    tracker.close()
    started, explained, logged, ended = calls
    assert isinstance(started, dict)
    assert (started["project"], started["id"], started["resume"]) == ("study", "0a1b", "allow")
    assert started["config"] == {"seed": 1}
    assert explained == ({"protocols": {"abc": {}}}, True)
    assert (logged, ended) == ((5, {"d_loss": 0.5}), "finished")


def test_unknown_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_tracker(TrackerConfig("none", ""), tmp_path, "id", 1, {}), NoTracker)
    with pytest.raises(UserError, match="tracker.kind='mlflow' is unknown"):
        open_tracker(TrackerConfig("mlflow", ""), tmp_path, "id", 1, {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="tracker=wandb needs the package wandb"):
        open_tracker(TrackerConfig("wandb", ""), tmp_path, "id", 1, {})
