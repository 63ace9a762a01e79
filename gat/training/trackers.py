"""Optional trackers beside ``metrics.jsonl``: TensorBoard and Weights & Biases."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from gat.config import TrackerConfig
from gat.errors import UserError, require_choice

KINDS = ("none", "tensorboard", "wandb")


class Tracker(Protocol):
    """Receives what ``metrics.jsonl`` receives."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """One line of metrics."""
        ...

    def explain(self, protocols: dict[str, Any]) -> None:
        """By which protocols the numbers are measured: by id."""
        ...

    def close(self) -> None:
        """Flush and end."""
        ...


class NoTracker:
    """Keeps nothing."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing."""

    def explain(self, protocols: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TensorBoardTracker:
    """Event files under ``tensorboard/`` in the run's folder; steps written again after a resume replace the earlier ones."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Scalars by name."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def explain(self, protocols: dict[str, Any]) -> None:
        """As text."""
        self.writer.add_text("protocols", json.dumps(protocols, indent=2))

    def close(self) -> None:
        """Flush and end."""
        self.writer.close()


class WandbTracker:
    """A run of Weights & Biases under the run's identity, continued where the run continues."""

    def __init__(self, folder: Path, identity: str, project: str, settings: dict[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project=project, id=identity, name=folder.name, dir=str(folder), config=settings, resume="allow"
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Metrics by name at ``step``."""
        self.run.log(metrics, step=step)

    def explain(self, protocols: dict[str, Any]) -> None:
        """In the run's configuration."""
        self.run.config.update({"protocols": protocols}, allow_val_change=True)

    def close(self) -> None:
        """Flush and end."""
        self.run.finish()


def require_tracker(kind: str) -> None:
    """:class:`UserError` for an unknown tracker, or one whose package (of the same name) is not installed."""
    require_choice("tracker.kind", kind, KINDS)
    try:
        if kind != "none":
            import_module(kind)
    except ImportError as error:
        raise UserError(f"tracker={kind} needs the package {kind}: pip install {kind}") from error


def open_tracker(
    config: TrackerConfig, folder: Path, identity: str, first_step: int, settings: dict[str, Any]
) -> Tracker:
    """The tracker of ``config``; :class:`UserError` for an unknown one or a package that is not installed."""
    require_tracker(config.kind)
    if config.kind == "tensorboard":
        return TensorBoardTracker(folder, first_step)
    if config.kind == "wandb":
        return WandbTracker(folder, identity, config.project, settings)
    return NoTracker()
