"""The training step with the habits of the authors' release: the same mathematics, done the way its code does it.

Each habit can be put back alone. Left as ours are the layers themselves (the release's norms, rotation and modulation are not
fused as ours are), so that ratios to it are rather too small than too large.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from gat.models import Generator
from gat.models.discriminator import DiscriminatorOutput
from gat.training.noise import StepNoise
from gat.training.optimizer import update_ema
from gat.training.step import (
    Batch,
    Networks,
    Part,
    StepSettings,
    discriminator_step,
    generator_step,
    make_fakes,
)


@dataclass(frozen=True)
class Habits:
    """Which of the release's habits a step has."""

    checkpointing: bool = False
    """Every block's activations are computed again in the backward pass."""
    separate_calls: bool = False
    """D is called for real, fake and each one's perturbed copies apart."""
    fakes_twice: bool = False
    """Fakes are generated for D's step and again for G's."""
    plain_optimizers: bool = False
    """AdamW not fused, the average of G in a loop over its parameters."""
    class_loop: bool = False
    """Class means of w in a loop over labels, each of which waits for the device."""
    not_compiled: bool = False
    """Blocks are not compiled."""


NONE = Habits()
ALL = Habits(**{field.name: True for field in fields(Habits)})


class SeparateCalls:
    """A discriminator that sees real, fake and perturbed copies (rows in this order) one after the other."""

    def __init__(self, discriminator: Callable[..., DiscriminatorOutput], batch_size: int) -> None:
        self.discriminator, self.batch_size = discriminator, batch_size

    def __call__(self, stages: Tensor, labels: Tensor, *, project_rows: int) -> DiscriminatorOutput:
        """As the discriminator's; the projected rows must be the real ones, or none."""
        copies = (len(labels) - 2 * self.batch_size) // 2
        sizes = [self.batch_size, self.batch_size, copies, copies]
        outputs = [
            self.discriminator(some, of_some, project_rows=0 if i else project_rows)
            for i, (some, of_some) in enumerate(zip(stages.split(sizes, dim=1), labels.split(sizes), strict=True))
        ]
        return DiscriminatorOutput(torch.cat([one.logits for one in outputs]), outputs[0].cls, outputs[0].patches)


class LoopedClassSums:
    """:meth:`gat.models.Generator.class_sums` in a Python loop that fetches every label."""

    def __init__(self, generator: Generator) -> None:
        self.mean_w = generator.mean_w

    def __call__(self, w: Tensor, labels: Tensor) -> Tensor:
        """Sums and counts (classes, d + 1) of w (B, d) by labels (B,)."""
        sums = self.mean_w.new_zeros(len(self.mean_w), w.shape[1] + 1)
        for label in labels.unique():
            chosen = labels == label
            sums[label.item(), :-1] = w[chosen].sum(dim=0)
            sums[label.item(), -1] = chosen.sum().item()
        return sums


def with_habits(networks: Networks, habits: Habits) -> Networks:
    """The networks made ready for a step with ``habits`` (in place where that is possible)."""
    if habits.checkpointing:
        networks.generator.checkpointing = networks.discriminator.checkpointing = "full"
    if habits.class_loop:
        networks.generator.class_sums = LoopedClassSums(networks.generator)  # type: ignore[method-assign]
    if not habits.plain_optimizers:
        return networks
    return replace(
        networks,
        generator_optimizer=plain(networks.generator_optimizer),
        discriminator_optimizer=plain(networks.discriminator_optimizer),
    )


def plain(optimizer: AdamW) -> AdamW:
    """A new optimizer of the same settings, as PyTorch chooses its implementation."""
    group = optimizer.param_groups[0]
    settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
    return AdamW(group["params"], **settings)


def step_with_habits(
    networks: Networks, batch: Batch, noise: StepNoise, settings: StepSettings, habits: Habits
) -> dict[str, Tensor]:
    """As :func:`gat.training.step.training_step` (whose results it has), on networks made ready by :func:`with_habits`."""
    with torch.autocast(batch.real.device.type, torch.bfloat16, enabled=settings.bf16):
        fakes = None if habits.fakes_twice else make_fakes(networks, batch, noise, settings)
        parts = [Part(batch, noise, fakes)]
        separate = SeparateCalls(networks.discriminator_calls, len(batch.labels))
        # not a module: nothing asks it for more than calls, as it stands alone and not under DistributedDataParallel
        of_discriminator = replace(networks, discriminator_calls=separate) if habits.separate_calls else networks  # type: ignore[arg-type]
        metrics = discriminator_step(of_discriminator, parts, settings) | generator_step(networks, parts, settings)
    if habits.plain_optimizers:
        looped_ema(networks.ema, networks.generator, settings.ema_decay)
    else:
        update_ema(networks.ema, networks.generator, settings.ema_decay)
    return metrics


@torch.no_grad()
def looped_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """:func:`gat.training.optimizer.update_ema`, parameter by parameter."""
    for average, value in zip(ema.parameters(), model.parameters(), strict=True):
        average.mul_(decay).add_(value, alpha=1 - decay)
    for kept, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        kept.copy_(buffer)
