"""The runs of a sweep before they are submitted: composed, checked, each once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.settings import run_config
from gat.config import Config
from gat.errors import UserError
from gat.training.check import check
from gat.training.run_identity import identity, run_name

Compose = Callable[[Sequence[str]], DictConfig]


@dataclass(frozen=True)
class Planned:
    """A run to be: its ``arm``, the ``overrides`` that make it, its resolved ``config`` with absolute paths."""

    arm: str
    overrides: list[str]
    config: Config

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config.paths.runs) / run_name(self.config)


def plan(points: Sequence[Sequence[str]], compose: Compose) -> list[Planned]:
    """The runs of ``points``, each once. :class:`UserError` for settings that cannot be right, or arms that do not differ."""
    runs: dict[str, Planned] = {}
    for overrides in points:
        settings = compose(overrides)
        config = run_config(settings)
        if config.paths.run is not None:
            raise UserError(f"paths.run={config.paths.run} cannot hold many runs: set paths.runs")
        check(config)
        paths = replace(config.paths, runs=_absolute(config.paths.runs), prepared=_absolute(config.paths.prepared))
        run = Planned(settings.sweep.arm, list(overrides), replace(config, paths=paths))
        same = runs.setdefault(identity(config), run)
        if same.config.training.total_steps != config.training.total_steps:
            raise UserError(f"arms {same.arm!r} and {run.arm!r} are one run at two lengths: launch the longer alone")
        if same.arm != run.arm:
            raise UserError(f"arms {same.arm!r} and {run.arm!r} are the same run: nothing would be compared")
    return list(runs.values())


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    items: dict[str, Any] = {}
    for key, value in values.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return items
