"""A run that takes a second: sixteen random images in two classes, a two-step autoencoder, mini S with four tokens."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gat.config import Config
from gat.training import run as run_module

SmallConfig = Callable[..., Config]
"""Composes the configuration of a small run of overrides, in folder ``run_folder``."""

SMALL = (
    "data=image_folder",
    "model.patch=4",
    "autoencoder.train_images=64",
    "autoencoder.channels=[8,8,8]",
    "training.batch_size=4",
    "training.total_steps=4",
    "training.eval_steps=100",
    "training.log_steps=1",
    "training.checkpoint_steps=2",
    "evaluation.samples=8",
    "evaluation.classifier=false",
    "evaluation.grid_columns=3",
)


def write_images(root: Path) -> None:
    """Two classes of eight random images."""
    generator = np.random.default_rng(0)
    for name in ("apples", "pears"):
        (root / name).mkdir()
        for i in range(8):
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{i}.png")


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl`` without the one that is a time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_s"} for line in lines]


def recorded(config: Config) -> dict[str, Any]:
    """Run in this only process, and return the record."""
    record = run_module.run(config)
    assert record is not None
    return record
