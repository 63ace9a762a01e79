"""When a training step does not fit the GPU's memory: what to keep less of, and what to tell."""

import torch
from torch import Tensor

from gat.config import TrainingConfig
from gat.models.recompute import MODES
from gat.training.step import Networks

AUTO = "auto"
CHOICES = (AUTO, *MODES)


def first_mode(choice: str) -> str:
    """The activation checkpointing that a run begins with; ``auto`` begins with none."""
    return MODES[0] if choice == AUTO else choice


def next_mode(mode: str, *, compiled: bool) -> str | None:
    """What keeps less than ``mode``; None: nothing does. A compiled block treats ``selective`` as ``none``."""
    modes = [m for m in MODES[MODES.index(mode) + 1 :] if not (compiled and m == "selective")]
    return modes[0] if modes else None


def room_for_later_steps(networks: Networks) -> list[Tensor]:
    """Memory that later steps need and the first does not, taken so that a step beside it fits then too.

    That is AdamW's two moments of every parameter, which come with the first update, and the copy of the weights that logged
    steps compare. None on a CPU, where nothing is tried.
    """
    parameters = [p for model in (networks.generator, networks.discriminator) for p in model.parameters()]
    on_gpu = parameters[0].is_cuda
    return [torch.empty_like(p, requires_grad=False) for p in parameters for _ in range(3)] if on_gpu else []


def too_little_memory(training: TrainingConfig, better: str | None) -> str:
    """What to tell when a step does not fit the GPU, and what helps, the cheapest first. ``better``: what keeps less."""
    helps = [f"training.accumulation={2 * training.accumulation}"]
    helps += [f"training.activation_checkpointing={better}"] if better else []
    helps += ["or more processes"]
    return f"a step of training.batch_size={training.batch_size} does not fit the GPU's memory: try {', '.join(helps)}"
