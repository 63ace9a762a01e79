"""The adversarial objective: relativistic pairs with approximate gradient penalties (paper section 3; method, section 4).

Every random draw is an argument. Shapes: K stages, B batch, C channels, H = W latent side, T teacher width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gat.errors import UserError
from gat.mng import perturb
from gat.models.discriminator import DiscriminatorOutput
from gat.objective.alignment import alignment_loss
from gat.objective.augment import AugmentParams, augment

DiscriminatorCall = Callable[..., DiscriminatorOutput]


@dataclass(frozen=True)
class Objective:
    """The switches of the objective that the losses read.

    ``mng_*``: see :func:`gat.mng.perturb`. ``penalty_weight``: gamma, weighs each of aR1 and aR2 by gamma/2.
    ``penalty_sigma``: s, the step of the finite difference. ``alignment_weight``: of REPA on D (0: no teacher).
    """

    mng_schedule: str = "exponential"
    mng_nested: bool = True
    mng_form: str = "released"
    penalty_weight: float = 0.1
    penalty_sigma: float = 0.01
    alignment_weight: float = 1.0

    def perturb(self, stages: Tensor, noise: Tensor) -> Tensor:
        """MNG's E of stages (K, B, C, H, W)."""
        return perturb(stages, noise, schedule=self.mng_schedule, nested=self.mng_nested, form=self.mng_form)


@dataclass(frozen=True)
class PairNoise:
    """Draws that show one pair of real and fake to D: MNG unit normals (K, B, C, H, W) and augmentation (None: off)."""

    real: Tensor
    fake: Tensor
    augment_real: AugmentParams | None = None
    augment_fake: AugmentParams | None = None

    def rows(self, selection: slice) -> "PairNoise":
        """The draws of some of the samples."""
        augments = (a.rows(selection) if a else None for a in (self.augment_real, self.augment_fake))
        return PairNoise(self.real[:, selection], self.fake[:, selection], *augments)


@dataclass(frozen=True)
class PenaltyNoise:
    """Unit normals of the penalties: ``real`` (B, C, H, W), one for all stages; ``fake`` (K, B, C, H, W), per stage."""

    real: Tensor
    fake: Tensor

    def rows(self, selection: slice) -> "PenaltyNoise":
        """The draws of some of the samples."""
        return PenaltyNoise(self.real[selection], self.fake[:, selection])


@dataclass(frozen=True)
class TeacherTokens:
    """A teacher's ``cls`` (B, T) and ``patches`` (B, M, T) of the real images."""

    cls: Tensor
    patches: Tensor


@dataclass(frozen=True)
class DiscriminatorLoss:
    """Per-sample terms (B,), the weighted ``total`` (B,), and the logits (B,). ``alignment`` is None without a teacher."""

    total: Tensor
    adversarial: Tensor
    ar1: Tensor
    ar2: Tensor
    alignment: Tensor | None
    real_logits: Tensor
    fake_logits: Tensor


@dataclass(frozen=True)
class GeneratorLoss:
    """Per-sample adversarial loss ``total`` (B,) and the logits (B,)."""

    total: Tensor
    real_logits: Tensor
    fake_logits: Tensor


def relativistic(winner: Tensor, loser: Tensor) -> Tensor:
    """softplus(-(winner - loser)) of logits (B,): D wants real over fake, G fake over real."""
    return F.softplus(loser - winner)


def _augmented(stages: Tensor, params: AugmentParams | None) -> Tensor:
    return stages if params is None else augment(stages, params)


def discriminator_loss(
    discriminator: DiscriminatorCall,
    real: Tensor,
    fake: Tensor,
    labels: Tensor,
    noise: PairNoise,
    penalty_noise: PenaltyNoise,
    objective: Objective,
    teacher: TeacherTokens | None = None,
) -> DiscriminatorLoss:
    """Loss of one discriminator step: real latents (B, C, H, W), fake stages (K, B, C, H, W), labels (B,).

    Real, fake and their two perturbed copies go through D as one batch of 4B; the copies share the augmentation and the
    MNG noise of their originals. Raises :class:`UserError` if alignment is weighted but there is no teacher.
    """
    if teacher is None and objective.alignment_weight:
        raise UserError("objective.alignment_weight > 0 needs a teacher: choose one, or set it to 0")
    sigma, batch = objective.penalty_sigma, len(real)
    real_stages, fake = real.expand(len(fake), *real.shape), fake.detach()
    real_pair = torch.stack([real_stages, real_stages + sigma * penalty_noise.real])  # (2, K, B, C, H, W)
    fake_pair = torch.stack([fake, fake + sigma * penalty_noise.fake])
    shown_real = _augmented(real_pair, noise.augment_real)
    shown_fake = _augmented(fake_pair, noise.augment_fake)
    shown = [
        objective.perturb(shown_real[0], noise.real),
        objective.perturb(shown_fake[0], noise.fake),
        objective.perturb(shown_real[1], noise.real),
        objective.perturb(shown_fake[1], noise.fake),
    ]
    aligned_rows = batch if teacher is not None and objective.alignment_weight else 0
    output = discriminator(torch.cat(shown, dim=1), labels.repeat(4), project_rows=aligned_rows)
    real_logits, fake_logits, real_moved, fake_moved = output.logits.chunk(4)
    adversarial = relativistic(real_logits, fake_logits)
    ar1 = ((real_logits - real_moved) / sigma).square()
    ar2 = ((fake_logits - fake_moved) / sigma).square()
    total = adversarial + objective.penalty_weight / 2 * (ar1 + ar2)
    alignment = None
    if aligned_rows:
        assert teacher is not None
        alignment = alignment_loss(output.cls, output.patches, teacher.cls, teacher.patches)
        total = total + objective.alignment_weight * alignment
    return DiscriminatorLoss(total, adversarial, ar1, ar2, alignment, real_logits, fake_logits)


def generator_loss(
    discriminator: DiscriminatorCall,
    real: Tensor,
    fake: Tensor,
    labels: Tensor,
    noise: PairNoise,
    objective: Objective,
) -> GeneratorLoss:
    """Loss of one generator step: real latents (B, C, H, W), fake stages (K, B, C, H, W) with their graph, labels (B,).

    D(real) carries no gradient.
    """
    with torch.no_grad():
        shown_real = _augmented(real.expand(len(fake), *real.shape), noise.augment_real)
        real_logits = discriminator(objective.perturb(shown_real, noise.real), labels, project_rows=0).logits
    shown_fake = objective.perturb(_augmented(fake, noise.augment_fake), noise.fake)
    fake_logits = discriminator(shown_fake, labels, project_rows=0).logits
    return GeneratorLoss(relativistic(fake_logits, real_logits), real_logits, fake_logits)
