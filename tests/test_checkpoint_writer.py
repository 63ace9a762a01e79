"""Checkpoints written while training continues: each of its own step, whole, in order, with no error lost."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gat.errors import UserError
from gat.training.checkpoint_writer import CheckpointWriter
from gat.training.run import run
from gat.training.run_folder import RunFolder
from tests.small_run import SmallConfig, metrics_of
from tests.small_sweep import until


def test_training_goes_on_while_a_checkpoint_of_its_step_is_written(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small(run_folder="whole"))
    save = RunFolder.save

    def after_step_3(self: RunFolder, *given: Any) -> None:
        until(lambda: metrics_of(self.path)[-1]["step"] > 2, patience_s=30)
        save(self, *given)

    monkeypatch.setattr(RunFolder, "save", after_step_3)
    run(small(run_folder="slow"))
    for step in (2, 4):
        name = f"checkpoints/step-{step:08d}.safetensors"
        expected, ours = load_file(tmp_path / "whole" / name), load_file(tmp_path / "slow" / name)
        assert expected.keys() == ours.keys()
        assert all(torch.equal(expected[key], ours[key]) for key in expected)


def test_a_failed_checkpoint_ends_the_run(small: SmallConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise UserError("disk full")

    monkeypatch.setattr(RunFolder, "save", full)
    with pytest.raises(UserError, match="disk full"):
        run(small())


def test_errors_are_raised_once_the_write_has_failed() -> None:
    go = threading.Event()

    def fail() -> None:
        go.wait(30)
        raise UserError("disk full")

    def checked() -> bool:
        writer.check()
        return False

    with CheckpointWriter() as writer:
        writer.start(fail)
        writer.check()  # no error yet
        go.set()
        with pytest.raises(UserError, match="disk full"):
            until(checked, patience_s=30)
        writer.finish()  # raised only once


class Slow:
    """Slow writes, and a list of those that are done."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def write(self, step: int) -> None:
        time.sleep(0.3)
        self.done.append(step)


def test_one_at_a_time_in_order_and_the_last_is_waited_for() -> None:
    slow = Slow()
    with CheckpointWriter() as writer:
        writer.start(lambda: slow.write(1))
        assert slow.done == []
        writer.start(lambda: slow.write(2))
        assert slow.done == [1]
    assert slow.done == [1, 2]


def test_an_error_of_the_training_waits_for_the_write_too() -> None:
    slow = Slow()

    def train() -> None:
        with CheckpointWriter() as writer:
            writer.start(lambda: slow.write(1))
            raise KeyError

    with pytest.raises(KeyError):
        train()
    assert slow.done == [1]
