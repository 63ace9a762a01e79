"""Shared fixtures."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import Tensor

from experiments.settings import CONF, register, run_config
from gat.config import Config

register()
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def reference() -> dict[str, Tensor]:
    """Numbers computed by the authors' release in float64 (see tests/data/README.md)."""
    return load_file(DATA / "gat_release.safetensors")


def section(vectors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under ``prefix``, with it removed."""
    return {key.removeprefix(prefix): value for key, value in vectors.items() if key.startswith(prefix)}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((ours - theirs).detach().norm() / theirs.norm())


def compose_config(*overrides: str) -> Config:
    """The configuration that ``python experiments/run.py`` makes of ``overrides``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return run_config(compose("config", overrides=list(overrides)))


@pytest.fixture(scope="session")
def default_config() -> Config:
    """The configuration of the demo."""
    return compose_config()
