"""Shared fixtures."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor

from experiments.settings import CONF, register, run_config
from gat.config import Config
from gat.training.run import run
from tests.small_run import SMALL, SmallConfig, write_images

register()
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def reference() -> dict[str, Tensor]:
    """Numbers computed by the authors' release in float64 (see tests/data/README.md)."""
    return load_file(DATA / "gat_release.safetensors")


def section(vectors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Copies of the entries under ``prefix``, with it removed: a test may change them."""
    return {key.removeprefix(prefix): value.clone() for key, value in vectors.items() if key.startswith(prefix)}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((ours - theirs).detach().norm() / theirs.norm())


def composed(*overrides: str) -> DictConfig:
    """The settings that a command makes of ``overrides``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def compose_config(*overrides: str) -> Config:
    """The configuration that ``python experiments/run.py`` makes of ``overrides``."""
    return run_config(composed(*overrides))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run/ (8 samples, truncation 0.25) and its prepared/ data of two classes."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "images").mkdir()
    write_images(folder / "images")
    paths = (f"data.root={folder}/images", f"paths.prepared={folder}/prepared", f"paths.run={folder}/run")
    off = ("teacher=none", "objective.alignment_weight=0", "evaluation.truncation=0.25")
    run(compose_config(*SMALL, *off, *paths))
    return folder


@pytest.fixture(scope="session")
def default_config() -> Config:
    """The configuration of the demo."""
    return compose_config()


# small runs, of a module


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight random images."""
    root = tmp_path_factory.mktemp("images")
    write_images(root)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def small(images: Path, prepared: Path, tmp_path: Path) -> SmallConfig:
    def compose(*overrides: str, run_folder: str = "run") -> Config:
        paths = (f"data.root={images}", f"paths.prepared={prepared}", f"paths.run={tmp_path / run_folder}")
        return compose_config(*SMALL, "training.eval_steps=4", *paths, *overrides)

    return compose
