"""What the analyses look at: a checkpoint, a run, or, if neither is named, the newest finished run."""

import copy
import functools
import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from experiments.checkpoints import DECODERS, asked_for
from experiments.settings import CONF, plain_settings, register, typed
from gat.checkpoint_file import checkpoints_in
from gat.config import Config
from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.data.prepared import PreparedSet
from gat.errors import UserError, first_line
from gat.evaluation.subject import Subject, open_data, open_subject
from gat.pretrained import Pretrained
from gat.training.results import RECORD

WHICH = {
    "checkpoint": "a run's folder or checkpoint, the release's .pt, a pipeline folder or a hub name",
    "run": "a run's folder",
    "runs": "folder whose newest finished run is taken if neither is given (default: runs)",
    "training.device": "auto, cpu or cuda (default: auto)",
    "evaluation.decoder": "autoencoder to decode with, by hub name or folder (default: the run's)",
    "evaluation.truncation": "psi of the pull of w towards its class mean (default: the run's)",
    "paths.prepared": "folder of prepared data (default: the run's, if beside the run or in the current folder)",
    "autoencoder.path": "the run's own autoencoder, if only its config.yaml names that folder",
}
SETTINGS = ("evaluation.decoder", "evaluation.truncation", "paths.prepared", "autoencoder.path")


@dataclass(frozen=True)
class Opened:
    """A generator with its decoder, the settings of its evaluation, and its data (None: of weights that are no run's)."""

    pretrained: Pretrained
    config: Config
    subject: Subject
    data: PreparedSet | None

    @property
    def device(self) -> torch.device:
        """Where the generator lies."""
        return next(self.subject.generator.parameters()).device

    @property
    def mng_schedule(self) -> str | None:
        """``objective.mng_schedule`` of a run; None of other weights."""
        return settings_of(self.pretrained).objective.mng_schedule if self.pretrained.kind == "run" else None

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, H, H) -> uint8 images (B, 3, P, P), converted as the run's evaluation says."""
        images = decode(self.subject.decoder, latents, self.subject.scale)
        return to_uint8(images, self.config.evaluation.to_uint8)


def which(values: dict[str, str], *, needs_checkpoint: bool = True) -> str:
    """The one that arguments (see ``WHICH``) name; :class:`UserError` if they name two or there is none."""
    named = [values[name] for name in ("checkpoint", "run") if name in values]
    if len(named) > 1:
        raise UserError("checkpoint= and run= are both given: give one")
    return named[0] if named else str(newest_finished(Path(values.get("runs", "runs")), needs_checkpoint))


def newest_finished(runs: Path, needs_checkpoint: bool = True) -> Path:
    """The run's folder under ``runs`` that finished last by its record; :class:`UserError` if there is none.

    Diverged runs are passed over, and so are records without the time at which they ended and unreadable ones, and, if a
    checkpoint is needed, runs that kept none.
    """
    ended = {}
    for file in runs.glob(f"*/{RECORD}"):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        usable = not needs_checkpoint or bool(checkpoints_in(file.parent))
        if usable and isinstance(record, dict) and record.get("status") == "finished" and "ended_at" in record:
            ended[file.parent] = str(record["ended_at"])
    if not ended:
        what = "no finished run with a checkpoint" if needs_checkpoint else "no finished run"
        raise UserError(
            f"{runs}: holds {what}: train one by python experiments/run.py, or give checkpoint= or run=FOLDER"
        )
    return max(ended, key=lambda folder: (ended[folder], folder.name))


def checkpoints_of(where: str) -> list[Path]:
    """All checkpoints of the run's folder ``where``, in order; :class:`UserError` if there are none."""
    files = checkpoints_in(Path(where))
    if not files:
        raise UserError(f"{where}: has no checkpoints/step-*.safetensors: give a run's folder")
    return files


def opened(where: str, device: torch.device, values: dict[str, str] | None = None) -> Opened:
    """The generator at ``where`` on ``device``, under its run's own settings and those of ``SETTINGS`` that ``values`` hold.

    Raises :class:`UserError` as evaluate.py does.
    """
    given = {name: value for name, value in (values or {}).items() if name in SETTINGS}
    settings = defaults()
    settings.checkpoint = where
    for name, value in given.items():
        try:
            OmegaConf.update(settings, name, value)
        except OmegaConfBaseException as error:
            raise UserError(f"{name}={value}: {first_line(error)}") from error
    pretrained, config = asked_for(settings, [f"{name}={value}" for name, value in given.items()], DECODERS)
    data = open_data(pretrained, config)
    return Opened(pretrained, config, open_subject(pretrained, config, data, device), data)


def settings_of(pretrained: Pretrained) -> Config:
    """All settings of a run, from its folder; fields that are newer than the run have their defaults.

    Raises :class:`UserError` for a file that does not fit this version.
    """
    assert pretrained.home is not None
    file = pretrained.home / "config.yaml"
    base = OmegaConf.masked_copy(defaults(), [f.name for f in fields(Config)])
    try:
        return typed(OmegaConf.merge(base, plain_settings(file)))
    except Exception as error:  # YAML and OmegaConf each raise their own kinds
        raise UserError(f"{file}: not the settings of a run of this version ({first_line(error)})") from error


def defaults() -> DictConfig:
    """The settings of the commands where nothing is typed; a copy of one's own."""
    return copy.deepcopy(_composed())


@functools.cache
def _composed() -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config")
