"""What is kept less of when a step does not fit, and what is told when nothing helps."""

from typing import Any

import pytest

from gat.config import TrainingConfig
from gat.training.memory import first_mode, next_mode, too_little_memory
from tests.conftest import compose_config


def training(**changes: Any) -> TrainingConfig:
    return compose_config(*(f"training.{key}={value}" for key, value in changes.items())).training


def test_auto_begins_with_none() -> None:
    assert [first_mode(choice) for choice in ("auto", "none", "selective", "full")] == [
        "none",
        "none",
        "selective",
        "full",
    ]


@pytest.mark.parametrize(
    ("mode", "compiled", "following"),
    [
        ("none", False, "selective"),
        ("selective", False, "full"),
        ("full", False, None),
        ("none", True, "full"),  # a compiled block chooses for itself, much as selective does
        ("full", True, None),
    ],
)
def test_what_keeps_less(mode: str, *, compiled: bool, following: str | None) -> None:
    assert next_mode(mode, compiled=compiled) == following


def test_too_little_memory_is_told_with_what_helps() -> None:
    assert too_little_memory(training(batch_size=256), "selective") == (
        "a step of training.batch_size=256 does not fit the GPU's memory: try training.accumulation=2, "
        "training.activation_checkpointing=selective, or more processes"
    )
    told = too_little_memory(training(accumulation=4), None)
    assert told.endswith("try training.accumulation=8, or more processes")
