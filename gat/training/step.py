"""One training iteration: a discriminator step, then a generator step, on the same real batch and the same z.

The generator does not change between the two, so its images are computed once (the release computes them twice), unless the
batch is worked through in parts: then they are computed again rather than all their graphs kept.
Shapes: K stages, B batch, C channels, H latent side, N patch tokens, T teacher width.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
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
    """What a step changes: both networks, the averaged generator (and further averages of it), both optimizers.

    ``generator_calls`` and ``discriminator_calls`` are what forward passes go through in training: the networks themselves,
    or their DistributedDataParallel.
    """

    generator: Generator
    discriminator: Discriminator
    ema: Generator
    generator_optimizer: AdamW
    discriminator_optimizer: AdamW
    generator_calls: nn.Module
    discriminator_calls: nn.Module
    also_ema: dict[float, Generator] = field(default_factory=dict)
    """By decay."""


@dataclass(frozen=True)
class Batch:
    """Real latents (B, C, H, W), labels (B,), and the teacher's tokens of the real images (None: no alignment)."""

    real: Tensor
    labels: Tensor
    teacher: TeacherTokens | None

    def rows(self, selection: slice) -> "Batch":
        """Some of the samples."""
        teacher = self.teacher and TeacherTokens(self.teacher.cls[selection], self.teacher.patches[selection])
        return Batch(self.real[selection], self.labels[selection], teacher)


@dataclass(frozen=True)
class StepSettings:
    """Constants of the step. ``bf16``: run the networks under autocast.

    ``accumulation``: parts in which the batch is worked through. ``all_reduce``: sums a tensor over the processes.
    ``sample_tokens``: the teacher's tokens of sample latents (B, C, H, W), decoded; None: no alignment of G.
    """

    objective: Objective
    clip_norm: float
    ema_decay: float
    bf16: bool
    accumulation: int
    all_reduce: Callable[[Tensor], Tensor]
    sample_tokens: Callable[[Tensor], TeacherTokens] | None = None


@dataclass(frozen=True)
class Fakes:
    """``stages`` (K, B, C, H, W) and, if G is aligned, its tokens ``projected`` (B, N, T), both with their graph."""

    stages: Tensor
    projected: Tensor | None


@dataclass(frozen=True)
class Part:
    """One of the parts of a batch, with its draws and its fakes, if they are kept."""

    batch: Batch
    noise: StepNoise
    fakes: Fakes | None


def training_step(networks: Networks, batch: Batch, noise: StepNoise, settings: StepSettings) -> dict[str, Tensor]:
    """Advance ``networks`` by one iteration; returns scalar metrics still on the device (nothing waits for it).

    With several processes ``batch`` and ``noise`` are this process's; gradients and class means are those of all.
    """
    with torch.autocast(batch.real.device.type, torch.bfloat16, enabled=settings.bf16):
        parts = split(networks, batch, noise, settings)
        metrics = discriminator_step(networks, parts, settings) | generator_step(networks, parts, settings)
    for decay, average in {settings.ema_decay: networks.ema, **networks.also_ema}.items():
        update_ema(average, networks.generator, decay)
    return metrics


def split(networks: Networks, batch: Batch, noise: StepNoise, settings: StepSettings) -> list[Part]:
    """Equal parts of a batch. The fakes of a whole batch are computed here, once for both steps."""
    if settings.accumulation == 1:
        return [Part(batch, noise, make_fakes(networks, batch, noise, settings))]
    size = len(batch.labels) // settings.accumulation
    slices = [slice(start, start + size) for start in range(0, len(batch.labels), size)]
    return [Part(batch.rows(rows), noise.rows(rows), None) for rows in slices]


def make_fakes(networks: Networks, batch: Batch, noise: StepNoise, settings: StepSettings) -> Fakes:
    """G's stages for the labels of ``batch``; with their graph, for G's step."""
    if settings.sample_tokens is None:
        return Fakes(networks.generator_calls(noise.z, batch.labels), None)
    record: dict[str, Tensor] = {}
    stages = networks.generator_calls(noise.z, batch.labels, record=record)
    return Fakes(stages, record["aligned"])


def discriminator_step(networks: Networks, parts: list[Part], settings: StepSettings) -> dict[str, Tensor]:
    """Update D on the real latents and fakes of all parts."""
    sums: list[dict[str, Tensor]] = []
    for i, part in enumerate(parts):
        batch, noise = part.batch, part.noise
        with _gradients_stay_here(networks.discriminator_calls, unless=i == len(parts) - 1):
            with torch.no_grad():
                fake = networks.generator(noise.z, batch.labels) if part.fakes is None else part.fakes.stages.detach()
            loss = discriminator_loss(
                networks.discriminator_calls,
                batch.real,
                fake,
                batch.labels,
                noise.discriminator,
                noise.penalty,
                settings.objective,
                batch.teacher,
            )
            (loss.total.mean() / len(parts)).backward()
        terms = {
            "d_loss": loss.total,
            "d_adversarial": loss.adversarial,
            "ar1": loss.ar1,
            "ar2": loss.ar2,
            "alignment": loss.alignment,
            "logit_centering": loss.centering,
            "logit_gap": loss.real_logits - loss.fake_logits,
        }
        logits = torch.cat([loss.real_logits, loss.fake_logits]).detach()
        sums.append(_means(terms) | {"logit_rms": logits.square().mean().sqrt()} | stage_statistics(fake))
    norm = descend(networks.discriminator, networks.discriminator_optimizer, settings.clip_norm)
    return _mean(sums) | {"d_grad_norm": norm}


def generator_step(networks: Networks, parts: list[Part], settings: StepSettings) -> dict[str, Tensor]:
    """Update G and its class means of w through the fakes of all parts. D's weights take no gradient."""
    networks.discriminator.requires_grad_(False)
    losses: list[dict[str, Tensor]] = []
    class_sums = networks.generator.mean_w.new_zeros(())
    for i, part in enumerate(parts):
        batch, noise = part.batch, part.noise
        with _gradients_stay_here(networks.generator_calls, unless=i == len(parts) - 1):
            fakes = part.fakes or make_fakes(networks, batch, noise, settings)
            loss = generator_loss(
                networks.discriminator,
                batch.real,
                fakes.stages,
                batch.labels,
                noise.generator,
                settings.objective,
                fakes.projected,
                settings.sample_tokens(fakes.stages[-1].detach()) if settings.sample_tokens else None,
            )
            (loss.total.mean() / len(parts)).backward()
        terms = {"g_loss": loss.total, "consistency": loss.consistency, "generator_alignment": loss.alignment}
        losses.append(_means(terms))
        with torch.no_grad():
            w = networks.generator.style(noise.z, batch.labels)
        class_sums = class_sums + networks.generator.class_sums(w, batch.labels)
    networks.discriminator.requires_grad_(True)
    networks.generator.move_mean_w(settings.all_reduce(class_sums))
    norm = descend(networks.generator, networks.generator_optimizer, settings.clip_norm)
    return _mean(losses) | {"g_grad_norm": norm}


def stage_statistics(fake: Tensor) -> dict[str, Tensor]:
    """Root mean square of each stage image of fake stages (K, B, C, H, W) by name, and of the sample, the last one."""
    rms = fake.detach().square().mean(dim=(1, 2, 3, 4)).sqrt()
    return {f"stage{k + 1}_rms": value for k, value in enumerate(rms)} | {"sample_rms": rms[-1]}


def _gradients_stay_here(model: nn.Module, *, unless: bool) -> AbstractContextManager[None]:
    """Within, backward passes do not exchange gradients with other processes, ``unless`` this is the last part."""
    return nullcontext() if unless or not isinstance(model, DistributedDataParallel) else model.no_sync()


def descend(model: nn.Module, optimizer: AdamW, clip_norm: float) -> Tensor:
    """Clip the gradients and step. Returns their norm before clipping."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return norm.detach()


def _means(terms: dict[str, Tensor | None]) -> dict[str, Tensor]:
    """Means of per-sample terms (B,), without those that are off."""
    return {name: term.detach().mean() for name, term in terms.items() if term is not None}


def _mean(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
