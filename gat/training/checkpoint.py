"""Checkpoints: everything that the next step depends on, in one safetensors file that other code can read.

Keys: ``generator.*``, ``discriminator.*``, ``ema.*`` (state dicts; class means of w are ``mean_w``), and
``{generator,discriminator}_optimizer.<index>.<moment>``. The metadata holds the step, the run's identity, a checksum, and
the dimensions of the generator (JSON), of which its tensors do not tell all. Data position and random draws are functions of
seed and step, so there is nothing else to keep.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import AdamW

from gat.errors import UserError
from gat.tensors import save_tensors
from gat.training.step import Networks

MODULES = ("generator", "discriminator", "ema")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")


class DamagedCheckpointError(UserError):
    """A file that is no whole checkpoint of ours."""


def state_tensors(networks: Networks) -> dict[str, Tensor]:
    """Every tensor of ``networks`` by its key in a checkpoint."""
    tensors = {
        f"{part}.{key}": value for part in MODULES for key, value in getattr(networks, part).state_dict().items()
    }
    for part in OPTIMIZERS:
        for index, moments in getattr(networks, part).state_dict()["state"].items():
            tensors |= {f"{part}.{index}.{name}": value for name, value in moments.items()}
    return tensors


def checksum(tensors: dict[str, Tensor], step: str, identity: str) -> str:
    """SHA-256 over step, identity, and every tensor's key and bytes in order of the keys."""
    digest = hashlib.sha256(f"{step} {identity}".encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(file: Path, networks: Networks, step: int, identity: str) -> None:
    """Write the state after ``step`` steps: to a temporary file, flushed to disk, then renamed."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state_tensors(networks).items()}
    metadata = {
        "step": str(step),
        "identity": identity,
        "checksum": checksum(tensors, str(step), identity),
        "generator": json.dumps(asdict(networks.generator.dims)),
    }
    save_tensors(file, tensors, metadata)


def read_checkpoint(file: Path, prefix: str = "") -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a checkpoint (all must be read for its checksum; those under ``prefix`` are returned).

    Raises :class:`DamagedCheckpointError` for a file that is cut off, altered or not ours.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{file}: not a whole checkpoint ({error})") from error
    if not {"step", "identity", "checksum"} <= metadata.keys():
        raise DamagedCheckpointError(f"{file}: no checkpoint of a run (its metadata lack step, identity and checksum)")
    if metadata["checksum"] != checksum(tensors, metadata["step"], metadata["identity"]):
        raise DamagedCheckpointError(f"{file}: its content does not match its checksum")
    return metadata, under(tensors, prefix)


def load_checkpoint(file: Path, networks: Networks, identity: str) -> int:
    """Restore ``networks`` in place and return the step.

    Raises :class:`DamagedCheckpointError` for a file that is cut off, altered or not ours, and :class:`UserError` for a good
    one of another configuration; ``networks`` are untouched then.
    """
    metadata, tensors = read_checkpoint(file)
    if metadata["identity"] != identity:
        raise UserError(
            f"{file}: checkpoint of another configuration: set another paths.run, or remove that run's folder"
        )
    for part in MODULES:
        getattr(networks, part).load_state_dict(under(tensors, f"{part}."))
    for part in OPTIMIZERS:
        _load_optimizer(getattr(networks, part), under(tensors, f"{part}."))
    return int(metadata["step"])


def _load_optimizer(optimizer: AdamW, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, moment = key.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose keys begin with ``prefix``, which is taken off."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
