"""The adversarial objective: relativistic pairs with approximate gradient penalties (paper section 3; method, section 4).

Every random draw is an argument. The terms of GAT's successors are off by default: consistency of the stages (CAT, arXiv
2605.26449), centred logits and penalties on a share of the batch (Adversarial Flow Models), REPA on G.
Shapes: K stages, B batch, C channels, H = W latent side, N patch tokens, T teacher width, 1/k share of the penalties.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gat.errors import UserError
from gat.mng import perturb
from gat.models.discriminator import DiscriminatorOutput
from gat.objective.alignment import alignment_loss, patch_alignment_loss
from gat.objective.augment import AugmentParams, augment

DiscriminatorCall = Callable[..., DiscriminatorOutput]
WHOLE_TOLERANCE = 1e-6  # of 1/fraction, which is typed in decimals


@dataclass(frozen=True)
class Objective:
    """The switches of the objective that the losses read.

    ``mng_*``: see :func:`gat.mng.perturb`. ``penalty_weight``: gamma, weighs each of aR1 and aR2 by gamma/2.
    ``penalty_sigma``: s, the step of the finite difference. ``penalty_fraction``: 1/k, the share of the samples penalised.
    ``alignment_weight``, ``generator_alignment_weight``: of REPA on D and on G (0: no teacher). ``consistency_weight``,
    ``logit_centering_weight``: of these terms in G's and D's loss (0: off).
    """

    mng_schedule: str = "exponential"
    mng_nested: bool = True
    mng_form: str = "released"
    penalty_weight: float = 0.1
    penalty_sigma: float = 0.01
    penalty_fraction: float = 1.0
    logit_centering_weight: float = 0.0
    alignment_weight: float = 1.0
    generator_alignment_weight: float = 0.0
    consistency_weight: float = 0.0

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
    """A teacher's ``cls`` (B, T) and ``patches`` (B, M, T) of images."""

    cls: Tensor
    patches: Tensor


@dataclass(frozen=True)
class DiscriminatorLoss:
    """Per-sample terms (B,), the weighted ``total`` (B,), and the logits (B,).

    ``ar1``, ``ar2`` (B/k,): of the penalised samples. ``alignment`` is None without a teacher, ``centering`` where it is off.
    """

    total: Tensor
    adversarial: Tensor
    ar1: Tensor
    ar2: Tensor
    alignment: Tensor | None
    centering: Tensor | None
    real_logits: Tensor
    fake_logits: Tensor


@dataclass(frozen=True)
class GeneratorLoss:
    """Per-sample terms (B,), the weighted ``total`` (B,), and the logits (B,). Terms that are off are None."""

    total: Tensor
    adversarial: Tensor
    consistency: Tensor | None
    alignment: Tensor | None
    real_logits: Tensor
    fake_logits: Tensor


def penalty_stride(fraction: float) -> int:
    """k of ``fraction`` = 1/k: every k-th sample is penalised. :class:`UserError` if there is no such whole number."""
    stride = round(1 / fraction) if 0 < fraction <= 1 else 0
    if not stride or abs(stride - 1 / fraction) > WHOLE_TOLERANCE:
        raise UserError(
            f"objective.penalty_fraction={fraction} is no 1/k with a whole k: choose 1, 0.5, 0.25 or the like"
        )
    return stride


def relativistic(winner: Tensor, loser: Tensor) -> Tensor:
    """softplus(-(winner - loser)) of logits (B,): D wants real over fake, G fake over real."""
    return F.softplus(loser - winner)


def _augmented(images: Tensor, params: AugmentParams | None, means_of: Tensor) -> Tensor:
    return images if params is None else augment(images, params, means_of)


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

    Real, fake and the perturbed copies of every k-th of each go through D as one batch of (2 + 2/k) B; the copies share the
    augmentation and the MNG noise of their originals. The penalties of the samples that have copies count k times in
    ``total``. Raises :class:`UserError` if alignment is weighted but there is no teacher.
    """
    if teacher is None and objective.alignment_weight:
        raise UserError("objective.alignment_weight > 0 needs a teacher: choose one, or set it to 0")
    stride, batch = penalty_stride(objective.penalty_fraction), len(real)
    shown = torch.cat(_shown(real, fake.detach(), noise, penalty_noise, objective, slice(None, None, stride)), dim=1)
    copied = labels[::stride]
    aligned_rows = batch if teacher is not None and objective.alignment_weight else 0
    output = discriminator(shown, torch.cat([labels, labels, copied, copied]), project_rows=aligned_rows)
    real_logits, fake_logits, *moved = output.logits.split([batch, batch, len(copied), len(copied)])
    adversarial = relativistic(real_logits, fake_logits)
    ar1, ar2 = (
        ((logits[::stride] - copies) / objective.penalty_sigma).square()
        for logits, copies in zip((real_logits, fake_logits), moved, strict=True)
    )
    penalty = stride * (objective.penalty_weight / 2 * (ar1 + ar2))
    total = adversarial + F.pad(penalty[:, None], (0, stride - 1)).flatten()  # 0 for the samples between
    alignment = centering = None
    if aligned_rows:
        assert teacher is not None
        alignment = alignment_loss(output.cls, output.patches, teacher.cls, teacher.patches)
        total = total + objective.alignment_weight * alignment
    if objective.logit_centering_weight:
        centering = (real_logits + fake_logits).square()
        total = total + objective.logit_centering_weight * centering
    return DiscriminatorLoss(total, adversarial, ar1, ar2, alignment, centering, real_logits, fake_logits)


def _shown(
    real: Tensor, fake: Tensor, noise: PairNoise, penalty_noise: PenaltyNoise, objective: Objective, copied: slice
) -> list[Tensor]:
    """Return what D sees: real and fake stages (K, B, C, H, W), and perturbed copies of the rows ``copied`` of both.

    Colour augmentation takes a sample's means from one image: the real one, or the last stage of the fake.
    """
    stages, sigma, of_copies, steps = len(fake), objective.penalty_sigma, noise.rows(copied), penalty_noise.rows(copied)
    moved_real, moved_fake = real[copied] + sigma * steps.real, fake[:, copied] + sigma * steps.fake
    shown_real = _augmented(real, noise.augment_real, real)
    shown_moved_real = _augmented(moved_real, of_copies.augment_real, real[copied])
    return [
        objective.perturb(_all_stages(shown_real, stages), noise.real),
        objective.perturb(_augmented(fake, noise.augment_fake, fake[-1]), noise.fake),
        objective.perturb(_all_stages(shown_moved_real, stages), of_copies.real),
        objective.perturb(_augmented(moved_fake, of_copies.augment_fake, fake[-1, copied]), of_copies.fake),
    ]


def _all_stages(image: Tensor, stages: int) -> Tensor:
    """Repeat real images (B, C, H, W) for every stage: (K, B, C, H, W)."""
    return image.expand(stages, *image.shape)


def generator_loss(
    discriminator: DiscriminatorCall,
    real: Tensor,
    fake: Tensor,
    labels: Tensor,
    noise: PairNoise,
    objective: Objective,
    projected: Tensor | None = None,
    teacher: TeacherTokens | None = None,
) -> GeneratorLoss:
    """Loss of one generator step: real latents (B, C, H, W), fake stages (K, B, C, H, W) with their graph, labels (B,).

    D(real) carries no gradient. ``projected`` (B, N, T): G's tokens in the teacher's space; ``teacher``: its tokens of the
    decoded samples. Raises :class:`UserError` if G's alignment is weighted but these are missing.
    """
    with torch.no_grad():
        shown_real = _all_stages(_augmented(real, noise.augment_real, real), len(fake))
        real_logits = discriminator(objective.perturb(shown_real, noise.real), labels, project_rows=0).logits
    shown_fake = objective.perturb(_augmented(fake, noise.augment_fake, fake[-1]), noise.fake)
    fake_logits = discriminator(shown_fake, labels, project_rows=0).logits
    total = adversarial = relativistic(fake_logits, real_logits)
    consistency = alignment = None
    if objective.consistency_weight:
        consistency = consistency_loss(fake)
        total = total + objective.consistency_weight * consistency
    if objective.generator_alignment_weight:
        if projected is None or teacher is None:
            raise UserError("objective.generator_alignment_weight > 0 needs a teacher: choose one, or set it to 0")
        alignment = patch_alignment_loss(projected, teacher.patches)
        total = total + objective.generator_alignment_weight * alignment
    return GeneratorLoss(total, adversarial, consistency, alignment, real_logits, fake_logits)


def consistency_loss(stages: Tensor) -> Tensor:
    """1/(K-1) * sum over k < K of 1/(K-k) * mean squared x_k - x_K, per sample (B,), of stages (K, B, C, H, W); K > 1.

    CAT, arXiv 2605.26449. Gradients flow to both sides.
    """
    distances = (stages[:-1] - stages[-1]).square().mean(dim=(2, 3, 4))  # (K-1, B)
    steps_left = torch.arange(len(distances), 0, -1, device=stages.device)
    return (distances / steps_left[:, None]).mean(dim=0)
