"""Golden settings of every sweep in every study: ``python -m tests.golden.update`` rewrites them.

``STUDY/base.yaml`` holds the study's resolved settings in full, ``STUDY/SWEEP.yaml`` what each arm and point changes in them
(seed 0): together they are the resolved configuration of every run.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from experiments.settings import CONF, SWEEPS, register, run_config
from experiments.study.plan import flat
from experiments.study.points import expand
from hydra_plugins.gat_study.sweeper import typed_axes

GOLDEN = Path(__file__).parent
STUDIES = ("imagenet256", "cifar10", "mini", "nano")
NAMES = sorted(file.stem for file in SWEEPS.glob("*.yaml"))
Settings = dict[str, dict[str, Any]]


def composed(overrides: Sequence[str]) -> DictConfig:
    """The settings that the command composes of ``overrides``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def resolved(settings: DictConfig) -> dict[str, Any]:
    """A run's settings by dotted name."""
    return flat(asdict(run_config(settings)))


def base_of(study: str) -> list[str]:
    """What a user types of a study: images have a place."""
    return [f"study={study}", "data.root=/images"]


def points_of(sweep: str, *typed: str) -> list[list[str]]:
    """Overrides of every run of a sweep, as the command expands what is ``typed``."""
    overrides = [f"sweep={sweep}", *typed]
    axes = typed_axes(OverridesParser.create().parse_overrides(overrides))
    return expand(composed([o for o in overrides if "," not in o]).sweep, axes)


@functools.cache
def study_settings(study: str) -> dict[str, Any]:
    """A study's settings by dotted name."""
    return resolved(composed(base_of(study)))


def sweep_settings(sweep: str, study: str) -> Settings:
    """By arm what its run with seed 0 changes in the study's settings."""
    base, changes = study_settings(study), {}
    for point in points_of(sweep, *base_of(study), "training.seed=0"):
        settings = composed(point)
        changes[settings.sweep.arm] = {key: v for key, v in resolved(settings).items() if base[key] != v}
    return changes


def main() -> None:
    """Rewrite all golden files."""
    register()
    for study in STUDIES:
        (GOLDEN / study).mkdir(exist_ok=True)
        for name, settings in [
            ("base", study_settings(study)),
            *((s, sweep_settings(s, study)) for s in NAMES),
        ]:
            (GOLDEN / study / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=True, width=120))


if __name__ == "__main__":
    main()
