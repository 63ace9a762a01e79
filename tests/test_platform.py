"""What is recorded of the machine, and the choice of device."""

import os

import pytest
import torch

from gat.errors import UserError
from gat.platform import choose_device, git_state, hardware, versions


def test_unknown_and_absent_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="PyTorch sees no GPU: use training.device=cpu"):
        choose_device("cuda")
    with pytest.raises(UserError, match="training.device='tpu' is unknown: choose one of auto, cpu, cuda"):
        choose_device("tpu")


def test_record_of_the_machine() -> None:
    facts = hardware()
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["threads"] == torch.get_num_threads()
    assert facts["cpu"]
    assert facts["memory_gib"] > 0.5
    assert versions()["torch"] == torch.__version__.split("+")[0]


def test_git_state_outside_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert git_state() == {"commit": None, "dirty": None}
