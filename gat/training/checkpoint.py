"""Checkpoints: everything that the next step depends on, in one safetensors file that other code can read.

Keys: ``generator.*``, ``discriminator.*``, ``ema.*`` (state dicts; class means of w are ``mean_w``), and
``{generator,discriminator}_optimizer.<index>.<moment>``. The metadata holds the step and the run's identity. Data position
and random draws are functions of seed and step, so there is nothing else to keep.
"""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW

from gat.errors import UserError
from gat.training.step import Networks

MODULES = ("generator", "discriminator", "ema")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")


def state_tensors(networks: Networks) -> dict[str, Tensor]:
    """Every tensor of ``networks`` by its key in a checkpoint."""
    tensors = {
        f"{part}.{key}": value for part in MODULES for key, value in getattr(networks, part).state_dict().items()
    }
    for part in OPTIMIZERS:
        for index, moments in getattr(networks, part).state_dict()["state"].items():
            tensors |= {f"{part}.{index}.{name}": value for name, value in moments.items()}
    return tensors


def save_checkpoint(file: Path, networks: Networks, step: int, identity: str) -> None:
    """Write the state after ``step`` steps: to a temporary file, flushed, then renamed."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state_tensors(networks).items()}
    data = save(tensors, metadata={"step": str(step), "identity": identity})
    write_atomically(file, data)


def write_atomically(file: Path, data: bytes) -> None:
    """The file holds either what it held or all of ``data``, also after a power cut."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def write_json(file: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_atomically(file, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def load_checkpoint(file: Path, networks: Networks, identity: str) -> int:
    """Restore ``networks`` in place and return the step; :class:`UserError` for a damaged file or one of another run."""
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: not a whole checkpoint ({error}): delete it") from error
    if metadata.get("identity") != identity:
        raise UserError(f"{file}: checkpoint of another configuration: set another paths.run")
    for part in MODULES:
        getattr(networks, part).load_state_dict(_under(tensors, f"{part}."))
    for part in OPTIMIZERS:
        _load_optimizer(getattr(networks, part), _under(tensors, f"{part}."))
    return int(metadata["step"])


def _load_optimizer(optimizer: AdamW, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, moment = key.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
