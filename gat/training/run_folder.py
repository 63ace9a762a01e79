"""A run's folder: where its files lie, what identifies it, and its metrics file."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gat.config import Config
from gat.errors import UserError
from gat.training.checkpoint import write_atomically, write_json

WITHOUT_EFFECT = {
    "paths": None,
    "training": ("device", "log_steps", "checkpoint_steps"),
    "evaluation": ("batch_size", "grid_columns", "grid_classes"),
}


def identity(config: Config) -> str:
    """Hash of the settings less those that cannot change the result (``WITHOUT_EFFECT``)."""
    settings: dict[str, Any] = asdict(config)
    for group, names in WITHOUT_EFFECT.items():
        if names is None:
            del settings[group]
        else:
            settings[group] = {key: value for key, value in settings[group].items() if key not in names}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def run_name(config: Config) -> str:
    """Data, generator size and patch, seed and identity, e.g. ``digits-mini-S2-seed0-1a2b3c4d``."""
    model = config.model
    size = f"{model.family}-{model.size}{model.patch}"
    return f"{config.data.source}-{size}-seed{config.training.seed}-{identity(config)[:8]}"


class RunFolder:
    """Files of one run. Created with its resolved configuration when the run begins."""

    def __init__(self, config: Config) -> None:
        paths = config.paths
        self.path = Path(paths.run) if paths.run else Path(paths.runs) / run_name(config)
        self.identity = identity(config)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.record_file = self.path / "record.json"
        self.grid_file = self.path / "samples.png"
        self.checkpoints = self.path / "checkpoints"

    def create(self, config: Config) -> None:
        """Make the folder and write the resolved configuration; :class:`UserError` if it cannot be written."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config_file, OmegaConf.to_yaml(OmegaConf.structured(config)).encode())
        except OSError as error:
            raise UserError(
                f"run folder {self.path}: cannot be written ({error.strerror}): set another paths.runs"
            ) from error

    def finished_record(self) -> dict[str, Any] | None:
        """The record of this very run if it has finished."""
        if not self.record_file.exists():
            return None
        record: dict[str, Any] = json.loads(self.record_file.read_text())
        return record if record.get("identity") == self.identity else None

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``record.json``."""
        write_json(self.record_file, record)

    def checkpoint_file(self, step: int) -> Path:
        """Where the state after ``step`` steps is kept."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint of the highest step."""
        return max(self.checkpoints.glob("step-*.safetensors"), default=None)

    def keep_latest(self, count: int) -> None:
        """Delete all but the last ``count`` checkpoints."""
        for old in sorted(self.checkpoints.glob("step-*.safetensors"))[:-count]:
            old.unlink()

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        with self.metrics_file.open("a") as stream:
            stream.write(json.dumps(metrics) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``; a last line cut short by a crash is left out."""
        if not self.metrics_file.exists():
            return []
        text = self.metrics_file.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def cut_metrics(self, step: int) -> None:
        """Drop lines after ``step``: a resumed run writes them again."""
        kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["step"] <= step]
        write_atomically(self.metrics_file, "".join(kept).encode())
