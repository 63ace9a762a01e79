"""A run's folder: paths of its files, checks that they belong to the run, and its metrics file."""

import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from gat.checkpoint_file import DamagedCheckpointError, checkpoints_in, read_head
from gat.config import Config
from gat.errors import UserError
from gat.evaluation.features import FOLDER
from gat.evaluation.numbers import Number
from gat.files import SAVING, lock, reading, remove_leftover, replacing, told, write_json
from gat.numerics import NUMERICS, version_named
from gat.training.checkpoint import HostState, load_checkpoint, save_checkpoint
from gat.training.results import (
    LOCK,
    METRICS,
    PROTOCOLS,
    RECORD,
    any_record,
    diverged_by,
    numbers_of,
    numerics_of,
    reaches,
    read_metrics,
    read_protocols,
    read_record,
)
from gat.training.run_identity import evaluation_id, identity, run_name, same_settings
from gat.training.step import Networks

CHECKPOINTS_KEPT = 2
WRITTEN = r"config\.yaml|metrics\.jsonl|record\.json|protocols\.json|samples\.png|step-\d{8}\.safetensors"
HALF_WRITTEN = re.compile(rf"\.({WRITTEN})\.[0-9a-f]{{8}}({re.escape(SAVING)})?")  # by gat.files.replacing, gat.tensors
FEATURES = re.compile(rf"{re.escape(FOLDER)}[0-9a-f]{{12}}")


class RunFolder:
    """Files of one run. Created with its resolved configuration when the run begins."""

    def __init__(self, config: Config) -> None:
        paths = config.paths
        self.path = Path(paths.run) if paths.run else Path(paths.runs) / run_name(config)
        self.config, self.identity = config, identity(config)
        self.evaluation, self.total_steps = evaluation_id(config), config.training.total_steps
        self.eval_steps = config.training.eval_steps
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / METRICS
        self.record_file = self.path / RECORD
        self.logged = 0
        """The last step in the metrics that this process has written or read."""
        self.grid_file = self.path / "samples.png"
        self.checkpoints = self.path / "checkpoints"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and hold its lock for the block.

        Raises :class:`UserError` if it cannot be written, or another process holds the lock. The lock is released when the
        process ends, however it ends.
        """
        with self.told():
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            stream = (self.path / LOCK).open("w", encoding="utf-8")
        with stream:
            if not lock(stream, wait=False):
                raise UserError(
                    f"run folder {self.path}: another process is working on it: wait for that one, or stop it"
                )
            with self.told():
                self._remove_leftovers()
            yield

    def write_config(self, config: Config) -> None:
        """Write ``config.yaml``, the resolved configuration."""
        with self.told(), replacing(self.config_file) as file:
            file.write(OmegaConf.to_yaml(OmegaConf.structured(config)).encode())

    def _remove_leftovers(self) -> None:
        """Remove what a process that died left half-written, and features of an evaluation that is repeated; nothing else."""
        for file in (*self.path.glob(".*"), *self.checkpoints.glob(".*")):
            if HALF_WRITTEN.fullmatch(file.name):
                remove_leftover(file)
            elif FEATURES.fullmatch(file.name) and file.is_dir():
                shutil.rmtree(file)

    def told(self) -> AbstractContextManager[None]:
        """Within, an error of the file system is one line (:func:`gat.files.told`)."""
        return told(f"run folder {self.path}", "start the same command again, or set another paths.runs or paths.run")

    def ended_record(self) -> dict[str, Any] | None:
        """Return the record of this very run if it has ended: diverged, or went as many steps as asked for, or more."""
        record = read_record(self.path, self.identity)
        return record if record is not None and reaches(record, self.total_steps) else None

    def require_free(self) -> None:
        """Raise :class:`UserError` if another run has ended or goes on in this folder, or this one has gone too far."""
        other = any_record(self.path)
        if other is not None and numerics_of(other) != NUMERICS:
            raise UserError(
                f"run folder {self.path}: holds a run of {version_named(numerics_of(other))}, this code has version "
                f"{NUMERICS}: set another paths.run"
            )
        if other is not None:
            if other.get("identity") != self.identity:
                raise UserError(
                    f"run folder {self.path}: holds an ended run of other settings (see its config.yaml): set another "
                    "paths.run"
                )
            if not self.all_checkpoints():
                raise UserError(
                    f"run folder {self.path}: the run ended after {other['final_metrics']['step']} steps and keeps no "
                    f"checkpoint to go on from to training.total_steps={self.total_steps}: set another paths.run"
                )
        for file in self.all_checkpoints():
            self._require_own(file)
        if other is None and not self.all_checkpoints() and self.read_metrics():
            self._require_own_settings()

    def _require_own_settings(self) -> None:
        """Raise :class:`UserError` if ``config.yaml`` is another run's, for a folder with neither record nor checkpoint."""
        remedy = "set another paths.run, or remove the folder"
        with reading(self.config_file, "the settings of a run", remedy):
            own = same_settings(
                cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(self.config_file))), self.config
            )
        if not own:
            raise UserError(
                f"run folder {self.path}: holds metrics of a run of other settings (see its config.yaml): {remedy}"
            )

    def _require_own(self, file: Path) -> None:
        """Raise :class:`UserError` for another run's checkpoint, or one past the end, which cannot be reached any more."""
        try:
            step, theirs, logged = read_head(file)
        except DamagedCheckpointError:
            return  # passed over by ``restore``
        if theirs != self.identity:
            raise UserError(
                f"{file}: checkpoint of another configuration: set another paths.run, or remove that run's folder"
            )
        lines = {line["step"]: line for line in self.read_metrics()}
        if logged and logged not in lines:
            raise UserError(
                f"{self.metrics_file}: lacks step {logged}, which was logged before {file.name}: restore it from a copy, "
                "remove that checkpoint to continue from an earlier one, or set another paths.run"
            )
        at_end = lines.get(self.total_steps, {})
        unfinished = self.evaluation and not numbers_of(at_end, self.evaluation)
        if step > self.total_steps or (step == self.total_steps and (not at_end or unfinished)):
            raise UserError(
                f"run folder {self.path}: the run has gone on to step {step} without an evaluation at step "
                f"{self.total_steps}: set training.total_steps above {step}, or another paths.run"
            )

    def lacks_numbers(self, record: dict[str, Any]) -> bool:
        """Return whether the ended run of ``record`` lacks numbers of this configuration's evaluation.

        Numbers are due at its length and at every multiple of ``training.eval_steps`` whose checkpoint is kept.

        Raises :class:`UserError` for a longer run whose metrics have no line there.
        """
        if diverged_by(record, self.total_steps):
            return False
        line = next((one for one in self.read_metrics() if one["step"] == self.total_steps), None)
        if line is None:
            raise UserError(
                f"run folder {self.path}: holds a run of {record['final_metrics']['step']} steps without metrics at step "
                f"{self.total_steps}: set training.total_steps to a step of its metrics.jsonl, or another paths.run"
            )
        return bool(self.evaluation) and (not numbers_of(line, self.evaluation) or bool(self.unevaluated()))

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``record.json``."""
        with self.told():
            write_json(self.record_file, record)

    def checkpoint_file(self, step: int) -> Path:
        """Where the state after ``step`` steps is kept."""
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def all_checkpoints(self) -> list[Path]:
        """Return the checkpoints in order of their steps."""
        return checkpoints_in(self.path)

    def save(self, state: HostState, step: int, keep_steps: int | None, logged: int = 0) -> None:
        """Write a checkpoint; then delete :meth:`passing_checkpoints`, except the last two and multiples of ``keep_steps``.

        ``logged``: the last step in the metrics when the state was copied.
        """
        with self.told():
            save_checkpoint(self.checkpoint_file(step), state, step, self.identity, logged)
            for old in self.passing_checkpoints()[:-CHECKPOINTS_KEPT]:
                if not keep_steps or int(old.stem.removeprefix("step-")) % keep_steps:
                    old.unlink()

    def passing_checkpoints(self) -> list[Path]:
        """Return the checkpoints, in order of steps, written since the run last ended; those kept then stay."""
        kept = Path((any_record(self.path) or {}).get("checkpoint") or "").name
        return [file for file in self.all_checkpoints() if file.name > kept]

    def drop(self, checkpoints: Sequence[Path]) -> None:
        """Delete ``checkpoints``."""
        with self.told():
            for file in checkpoints:
                file.unlink()

    def restore(self, networks: Networks) -> int:
        """Load the last good checkpoint and return its step, 0 if there is none; a warning names damaged ones."""
        for file in reversed(self.all_checkpoints()):
            try:
                return load_checkpoint(file, networks, self.identity)
            except DamagedCheckpointError as error:
                warnings.warn(f"{error}: passed over", stacklevel=2)
        return 0

    def require_at_end(self, step: int) -> None:
        """Raise :class:`UserError` if this run has ended past ``step``: going on from there would drop its last numbers."""
        record = any_record(self.path)
        if record is not None and (end := record["final_metrics"]["step"]) > step:
            raise UserError(
                f"run folder {self.path}: the run ended at step {end}, and the checkpoint of that step is damaged or gone, "
                "so the run cannot be extended: set another paths.run to train it again"
            )

    def append_metrics(self, metrics: dict[str, Any], numbers: Sequence[Number] = ()) -> None:
        """Add one line to ``metrics.jsonl``; values that are not finite become null.

        ``numbers`` about samples go with their kinds and protocols (:mod:`gat.training.results`), ``protocols.json`` has the
        protocols by id.
        """
        line = {key: _finite(value) for key, value in metrics.items()}
        if numbers:
            line["evaluations"] = {self.evaluation: self._keep_protocols(numbers)}
        with self.told(), self.metrics_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())  # a checkpoint that relies on this line may follow
        self.logged = metrics["step"]

    def add_numbers(self, step: int, numbers: Sequence[Number]) -> None:
        """Add numbers of a further evaluation to the line of ``step``."""
        added = {self.evaluation: self._keep_protocols(numbers)}
        lines = self.read_metrics()
        for line in lines:
            if line["step"] == step:
                line["evaluations"] = line.get("evaluations", {}) | added
        self._write_metrics(lines)

    def unevaluated(self) -> list[int]:
        """Return the steps of kept checkpoints where an evaluation is due (every ``eval_steps`` and the end) and missing."""
        kept = {int(file.stem.removeprefix("step-")) for file in self.all_checkpoints()}
        lines = self.read_metrics()
        due = [one for one in lines if one["step"] % self.eval_steps == 0 or one["step"] == self.total_steps]
        due = [one for one in due if one["step"] <= self.total_steps]
        return [line["step"] for line in due if line["step"] in kept and not numbers_of(line, self.evaluation)]

    def _keep_protocols(self, numbers: Sequence[Number]) -> dict[str, dict[str, Any]]:
        """Write the protocols of ``numbers``; return the numbers in the form of a line of metrics."""
        known = read_protocols(self.path)
        given = {number.protocol.id: number.protocol.as_record() for number in numbers}
        if not given.keys() <= known.keys():
            with self.told():
                write_json(self.path / PROTOCOLS, known | given)
        lines = {n.name: {"kind": n.kind, "value": _finite(n.value), "protocol": n.protocol.id} for n in numbers}
        for number in numbers:
            if number.estimate is not None:
                lines[number.name]["interval"] = [_finite(bound) for bound in number.estimate.interval]
        return lines

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``; a last line cut short by a crash is left out."""
        return read_metrics(self.path)

    def cut_metrics(self, step: int) -> None:
        """Delete lines after ``step``: a resumed run writes them again."""
        lines = [line for line in self.read_metrics() if line["step"] <= step]
        self._write_metrics(lines)
        self.logged = lines[-1]["step"] if lines else 0

    def _write_metrics(self, lines: Sequence[dict[str, Any]]) -> None:
        with self.told(), replacing(self.metrics_file) as stream:
            stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
