"""Checkpoints: everything that the next step depends on, in one safetensors file that other code can read.

Keys: ``generator.*``, ``discriminator.*``, ``ema.*`` (state dicts; class means of w are ``mean_w``), ``ema@DECAY.*`` of
further averages, and ``{generator,discriminator}_optimizer.<index>.<moment>``. The metadata holds the step, the last step
logged in the metrics, the run's identity, a checksum, and the generator's dimensions (JSON), which its tensors do not
determine. Data position and random draws are functions of seed and step, so there is nothing else to keep.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from gat.checkpoint_file import LOGGED, checksum, read_checkpoint, under
from gat.errors import UserError
from gat.models.generator import GeneratorDims
from gat.tensors import save_tensors
from gat.training.step import Networks

MODULES = ("generator", "discriminator", "ema")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")


@dataclass(frozen=True)
class HostState:
    """A copy on the host of a checkpoint's tensors, which later steps do not change."""

    tensors: dict[str, Tensor]
    generator: GeneratorDims


def on_host(networks: Networks) -> HostState:
    """Copy the state of ``networks`` to the host; waits for the device."""
    tensors = {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in state_tensors(networks).items()
    }
    return HostState(tensors, networks.generator.dims)


def state_tensors(networks: Networks) -> dict[str, Tensor]:
    """Every tensor of ``networks`` by its key in a checkpoint."""
    tensors = {
        f"{part}.{key}": value
        for part, module in _modules(networks).items()
        for key, value in module.state_dict().items()
    }
    for part in OPTIMIZERS:
        for index, moments in getattr(networks, part).state_dict()["state"].items():
            tensors |= {f"{part}.{index}.{name}": value for name, value in moments.items()}
    return tensors


def save_checkpoint(file: Path, state: HostState, step: int, identity: str, logged: int = 0) -> None:
    """Write the ``state`` after ``step`` steps: to a temporary file, flushed to disk, then renamed.

    ``logged``: the last step in the metrics when the state was copied; 0 if there is none.
    """
    metadata = {
        "step": str(step),
        "identity": identity,
        LOGGED: str(logged),
        "generator": json.dumps(asdict(state.generator)),
    }
    save_tensors(file, state.tensors, metadata | {"checksum": checksum(state.tensors, metadata)})


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
    for part, module in _modules(networks).items():
        module.load_state_dict(under(tensors, f"{part}."))
    for part in OPTIMIZERS:
        _load_optimizer(getattr(networks, part), under(tensors, f"{part}."))
    return int(metadata["step"])


def average_key(decay: float) -> str:
    """Return the name of a further average of the generator in a checkpoint."""
    return f"ema@{decay!r}"


def _modules(networks: Networks) -> dict[str, nn.Module]:
    averages = {average_key(decay): average for decay, average in networks.also_ema.items()}
    return {part: getattr(networks, part) for part in MODULES} | averages


def _load_optimizer(optimizer: AdamW, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, moment = key.split(".")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
