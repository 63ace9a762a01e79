"""One training iteration: a discriminator step, then a generator step, on the same real batch and the same z.

The generator does not change between the two, so its images are computed once (the release computes them twice).
Shapes: K stages, B batch, C channels, H latent side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from gat.models import Discriminator, Generator
from gat.objective.adversarial import (
    Objective,
    TeacherTokens,
    discriminator_loss,
    generator_loss,
)
from gat.training.noise import StepNoise
from gat.training.optimizer import update_ema


@dataclass
class Networks:
    """What a step changes: both networks, the averaged generator, both optimizers."""

    generator: Generator
    discriminator: Discriminator
    ema: Generator
    generator_optimizer: AdamW
    discriminator_optimizer: AdamW


@dataclass(frozen=True)
class Batch:
    """Real latents (B, C, H, H), labels (B,), and the teacher's tokens of the real images (None: no alignment)."""

    real: Tensor
    labels: Tensor
    teacher: TeacherTokens | None


@dataclass(frozen=True)
class StepSettings:
    """Constants of the step. ``bf16``: run the networks under autocast."""

    objective: Objective
    clip_norm: float
    ema_decay: float
    bf16: bool


def training_step(networks: Networks, batch: Batch, noise: StepNoise, settings: StepSettings) -> dict[str, Tensor]:
    """Advance ``networks`` by one iteration; returns scalar metrics still on the device (nothing waits for it)."""
    device = batch.real.device.type
    with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
        w = networks.generator.style(noise.z, batch.labels)
        fake = networks.generator.synthesize(w)
        metrics = discriminator_step(networks, batch, fake, noise, settings)
        metrics |= generator_step(networks, batch, fake, noise, settings)
    networks.generator.update_mean_w(w.detach(), batch.labels)
    update_ema(networks.ema, networks.generator, settings.ema_decay)
    return metrics


def discriminator_step(
    networks: Networks, batch: Batch, fake: Tensor, noise: StepNoise, settings: StepSettings
) -> dict[str, Tensor]:
    """Update D on real latents and fake stages (K, B, C, H, W)."""
    loss = discriminator_loss(
        networks.discriminator,
        batch.real,
        fake,
        batch.labels,
        noise.discriminator,
        noise.penalty,
        settings.objective,
        batch.teacher,
    )
    norm = _descend(loss.total, networks.discriminator, networks.discriminator_optimizer, settings.clip_norm)
    terms = {"d_adversarial": loss.adversarial, "ar1": loss.ar1, "ar2": loss.ar2}
    if loss.alignment is not None:
        terms["alignment"] = loss.alignment
    means = {name: term.detach().mean() for name, term in terms.items()}
    gap = (loss.real_logits - loss.fake_logits).detach().mean()
    return means | {"d_loss": loss.total.detach().mean(), "logit_gap": gap, "d_grad_norm": norm}


def generator_step(
    networks: Networks, batch: Batch, fake: Tensor, noise: StepNoise, settings: StepSettings
) -> dict[str, Tensor]:
    """Update G through fake stages (K, B, C, H, W), which carry its graph. D's weights take no gradient."""
    networks.discriminator.requires_grad_(False)
    loss = generator_loss(networks.discriminator, batch.real, fake, batch.labels, noise.generator, settings.objective)
    norm = _descend(loss.total, networks.generator, networks.generator_optimizer, settings.clip_norm)
    networks.discriminator.requires_grad_(True)
    return {"g_loss": loss.total.detach().mean(), "g_grad_norm": norm}


def _descend(loss: Tensor, model: nn.Module, optimizer: AdamW, clip_norm: float) -> Tensor:
    """Backward of the mean loss, clip, step. Returns the gradient norm before clipping."""
    loss.float().mean().backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return norm.detach()
