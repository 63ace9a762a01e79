"""A run's folder: where its files lie, what identifies it, and its metrics file."""

import fcntl
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gat.checkpoint_file import DamagedCheckpointError
from gat.config import Config
from gat.errors import UserError
from gat.evaluation.numbers import Number, needs_protocol
from gat.files import replacing, told, write_json
from gat.training.checkpoint import load_checkpoint, save_checkpoint
from gat.training.results import METRICS, PROTOCOLS, RECORD, read_metrics, read_protocols, read_record
from gat.training.step import Networks

CHECKPOINTS_KEPT = 2
WITHOUT_EFFECT = {
    "paths": None,
    "tracker": None,
    "loader": None,
    "training": (
        *("accumulation", "activation_checkpointing", "compile", "device"),
        *("log_steps", "checkpoint_steps", "keep_steps", "keep_checkpoints"),
    ),
    "evaluation": ("batch_size", "grid_columns", "grid_classes"),
}


def identity(config: Config) -> str:
    """Hash of the :func:`effective` settings."""
    return hashlib.sha256(json.dumps(effective(config), sort_keys=True).encode()).hexdigest()[:12]


def effective(config: Config) -> dict[str, Any]:
    """The settings less those that cannot change the result (``WITHOUT_EFFECT``).

    A discriminator_size of null is the same as the generator's size by name.
    """
    settings: dict[str, Any] = asdict(config)
    settings["model"]["discriminator_size"] = config.model.discriminator_size or config.model.size
    for group, names in WITHOUT_EFFECT.items():
        if names is None:
            del settings[group]
        else:
            settings[group] = {key: value for key, value in settings[group].items() if key not in names}
    return settings


def has_effect(setting: str) -> bool:
    """Whether a setting, by its dotted name, can change the result of a run."""
    group, _, name = setting.partition(".")
    names = WITHOUT_EFFECT.get(group, ())
    return names is not None and name not in names


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
        self.metrics_file = self.path / METRICS
        self.record_file = self.path / RECORD
        self.grid_file = self.path / "samples.png"
        self.checkpoints = self.path / "checkpoints"

    @contextmanager
    def held(self, config: Config) -> Iterator[None]:
        """Make the folder, hold its lock, and write the resolved configuration.

        :class:`UserError` if it cannot be written, another process holds it, or it holds a checkpoint of another
        configuration. The lock goes with the process, however that ends.
        """
        with self.told():
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            stream = (self.path / ".lock").open("w")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"run folder {self.path}: another process is working on it: let it, or stop it"
                ) from error
            with self.told():
                killed = (*self.path.glob(".*.????????"), *self.checkpoints.glob(".*.????????"))
                for partial in killed:  # of a process that died in the middle of writing
                    partial.unlink()
                with replacing(self.config_file) as file:
                    file.write(OmegaConf.to_yaml(OmegaConf.structured(config)).encode())
            yield

    def told(self) -> AbstractContextManager[None]:
        """Within, an error of the file system is one line (:func:`gat.files.told`)."""
        return told(f"run folder {self.path}", "start the same command again, or set another paths.runs")

    def ended_record(self) -> dict[str, Any] | None:
        """The record of this very run if it has ended (finished or diverged)."""
        return read_record(self.path, self.identity)

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``record.json``."""
        with self.told():
            write_json(self.record_file, record)

    def checkpoint_file(self, step: int) -> Path:
        """Where the state after ``step`` steps is kept."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def all_checkpoints(self) -> list[Path]:
        """Checkpoints in order of their steps."""
        return sorted(self.checkpoints.glob("step-*.safetensors"))

    def save(self, networks: Networks, step: int, keep_steps: int | None) -> None:
        """Write a checkpoint; then delete all but the last two and those at multiples of ``keep_steps``."""
        with self.told():
            save_checkpoint(self.checkpoint_file(step), networks, step, self.identity)
            for old in self.all_checkpoints()[:-CHECKPOINTS_KEPT]:
                if not keep_steps or int(old.stem.removeprefix("step-")) % keep_steps:
                    old.unlink()

    def drop_checkpoints(self) -> None:
        """Delete all of them."""
        with self.told():
            for file in self.all_checkpoints():
                file.unlink()

    def restore(self, networks: Networks) -> int:
        """Load the last good checkpoint and return its step, 0 if there is none; a warning names damaged ones."""
        for file in reversed(self.all_checkpoints()):
            try:
                return load_checkpoint(file, networks, self.identity)
            except DamagedCheckpointError as error:
                warnings.warn(f"{error}: passed over", stacklevel=2)
        return 0

    def append_metrics(self, metrics: dict[str, Any], numbers: Sequence[Number] = ()) -> None:
        """Add one line to ``metrics.jsonl``; values that are not finite become null.

        ``numbers`` about samples come with their protocols: the line's ``protocol`` has their ids by name, ``protocols.json``
        the protocols by id. ValueError for such a number among the other metrics.
        """
        naked = [name for name in metrics if needs_protocol(name)]
        if naked:
            raise ValueError(f"{naked[0]} cannot be stored without its protocol")
        line = metrics | {number.name: number.value for number in numbers}
        line = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}
        if numbers:
            line["protocol"] = {number.name: number.protocol.id for number in numbers}
            self._keep_protocols(numbers)
        with self.told(), self.metrics_file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _keep_protocols(self, numbers: Sequence[Number]) -> None:
        known = read_protocols(self.path)
        given = {number.protocol.id: number.protocol.as_record() for number in numbers}
        if not given.keys() <= known.keys():
            with self.told():
                write_json(self.path / PROTOCOLS, known | given)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``; a last line cut short by a crash is left out."""
        return read_metrics(self.path)

    def cut_metrics(self, step: int) -> None:
        """Drop lines after ``step``: a resumed run writes them again."""
        kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["step"] <= step]
        with self.told(), replacing(self.metrics_file) as stream:
            stream.write("".join(kept).encode())
