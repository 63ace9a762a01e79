"""The losses against hand-computed numbers, and what carries a gradient."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from gat.errors import UserError
from gat.mng import perturb
from gat.models.discriminator import Discriminator, DiscriminatorOutput
from gat.objective.adversarial import (
    Objective,
    PairNoise,
    PenaltyNoise,
    TeacherTokens,
    consistency_loss,
    discriminator_loss,
    generator_loss,
    penalty_stride,
    relativistic,
)
from gat.objective.augment import AugmentRates, augment, draw_params
from tests.helpers import TEACHER_WIDTH, mini_discriminator, mini_generator

B, K = 3, 4


class SumDiscriminator(nn.Module):
    """Logit = slope * sum of all it is shown: penalties can be worked out by hand."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, stages: Tensor, labels: Tensor, *, project_rows: int | None = None) -> DiscriminatorOutput:
        rows = len(labels) if project_rows is None else project_rows
        logits = self.slope * stages.sum(dim=(0, 2, 3, 4))
        return DiscriminatorOutput(logits, torch.ones(rows, 2), torch.ones(rows, 4, 2))


def sum_discriminator(slope: float = 1.0) -> Discriminator:
    return cast(Discriminator, SumDiscriminator(slope))


def draws(seed: int = 0, batch: int = B) -> tuple[Tensor, Tensor, Tensor, PairNoise, PenaltyNoise]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    stages = (K, batch, 4, 8, 8)
    real, fake, labels = normal(*stages[1:]), normal(*stages), torch.arange(batch) % 3
    return (
        real,
        fake,
        labels,
        PairNoise(normal(*stages), normal(*stages)),
        PenaltyNoise(normal(*stages[1:]), normal(*stages)),
    )


def test_relativistic_loss_by_hand() -> None:
    loss = relativistic(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(2)])


def test_penalties_are_squared_directional_derivatives() -> None:
    real, fake, labels, noise, penalty = draws()
    loss = discriminator_loss(
        sum_discriminator(2.0), real, fake, labels, noise, penalty, Objective(alignment_weight=0, mng_schedule="msg")
    )
    # MSG keeps sums; the real image's step is shown in all K stages, the fakes' each in its own.
    assert torch.allclose(loss.ar1, (2 * K * penalty.real.sum(dim=(1, 2, 3))).square())
    assert torch.allclose(loss.ar2, (2 * penalty.fake.sum(dim=(0, 2, 3, 4))).square())
    assert torch.allclose(loss.total, loss.adversarial + 0.05 * (loss.ar1 + loss.ar2))


def test_one_batch_equals_separate_calls_with_shared_augmentation_and_noise() -> None:
    real, fake, labels, noise, penalty = draws()
    discriminator = mini_discriminator()
    generator = torch.Generator().manual_seed(5)
    augments = [draw_params(B, 8, AugmentRates(), generator) for _ in range(2)]
    noise = PairNoise(noise.real, noise.fake, *augments)
    teacher = TeacherTokens(torch.randn(B, TEACHER_WIDTH).double(), torch.randn(B, 4, TEACHER_WIDTH).double())
    loss = discriminator_loss(discriminator, real, fake, labels, noise, penalty, Objective(), teacher)

    def logits(stages: Tensor, params: int, mng: Tensor) -> Tensor:
        shown = augment(stages, augments[params], (real, fake[-1])[params])
        return discriminator(perturb(shown, mng), labels).logits

    clean = real.expand(K, -1, -1, -1, -1)
    d_real, d_fake = logits(clean, 0, noise.real), logits(fake, 1, noise.fake)
    moved_real = logits(clean + 0.01 * penalty.real, 0, noise.real)
    moved_fake = logits(fake + 0.01 * penalty.fake, 1, noise.fake)
    ar1, ar2 = ((d_real - moved_real) / 0.01) ** 2, ((d_fake - moved_fake) / 0.01) ** 2
    assert torch.allclose(loss.ar1, ar1)
    assert torch.allclose(loss.ar2, ar2)
    assert loss.alignment is not None
    expected = nn.functional.softplus(d_fake - d_real) + 0.05 * (ar1 + ar2) + loss.alignment
    assert torch.allclose(loss.total, expected)


def test_alignment_is_weighted_and_needs_a_teacher() -> None:
    real, fake, labels, noise, penalty = draws()
    teacher = TeacherTokens(torch.ones(B, 2), torch.ones(B, 4, 2) * torch.tensor([1.0, 0.0]))
    args = (sum_discriminator(), real, fake, labels, noise, penalty)
    loss = discriminator_loss(*args, Objective(alignment_weight=0.5), teacher)
    assert loss.alignment is not None
    assert loss.alignment.tolist() == pytest.approx([1 - math.sqrt(0.5)] * B)
    rest = loss.adversarial + 0.05 * (loss.ar1 + loss.ar2)
    assert torch.allclose(loss.total, rest + 0.5 * loss.alignment)
    with pytest.raises(UserError, match="needs a teacher"):
        discriminator_loss(*args, Objective())


def test_penalties_on_every_second_sample_equal_those_of_the_whole_batch_there() -> None:
    real, fake, labels, noise, penalty = draws(batch=6)
    generator = torch.Generator().manual_seed(5)
    augments = [draw_params(6, 8, AugmentRates(), generator) for _ in range(2)]
    noise = PairNoise(noise.real, noise.fake, *augments)
    discriminator, seen = mini_discriminator(), []
    discriminator.register_forward_hook(lambda *call: seen.append(len(call[1][1])))
    whole, half = (
        discriminator_loss(
            discriminator, real, fake, labels, noise, penalty, Objective(alignment_weight=0, penalty_fraction=fraction)
        )
        for fraction in (1.0, 0.5)
    )
    assert seen == [4 * 6, 3 * 6]
    assert torch.allclose(half.real_logits, whole.real_logits)
    assert torch.allclose(half.ar1, whole.ar1[::2])
    assert torch.allclose(half.ar2, whole.ar2[::2])
    added = half.total - half.adversarial
    assert torch.allclose(added[::2], 2 * 0.05 * (whole.ar1 + whole.ar2)[::2])
    assert torch.equal(added[1::2], torch.zeros(3).double())
    assert torch.allclose(added.mean(), 0.05 * (half.ar1.mean() + half.ar2.mean()))


@pytest.mark.parametrize(("fraction", "stride"), [(1.0, 1), (0.5, 2), (0.25, 4), (0.3333333, 3), (0.1, 10)])
def test_share_of_the_penalties(fraction: float, stride: int) -> None:
    assert penalty_stride(fraction) == stride


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, 0.75, 0.3, math.nan])
def test_impossible_share_of_the_penalties(fraction: float) -> None:
    with pytest.raises(UserError, match=f"objective.penalty_fraction={fraction} is no 1/k with a whole k: choose 1,"):
        penalty_stride(fraction)


def test_centred_logits_by_hand() -> None:
    _, _, labels, noise, penalty = draws()
    real = torch.ones(B, 4, 8, 8, dtype=torch.float64)
    fake = torch.tensor([2.0, -1.0, 0.5]).double().view(1, B, 1, 1, 1) * real.expand(K, *real.shape)
    mean = sum_discriminator(1 / (K * 4 * 8 * 8))  # MSG keeps sums: the logit is the mean over stages and cells
    objective = Objective(alignment_weight=0, mng_schedule="msg", logit_centering_weight=0.01)
    loss = discriminator_loss(mean, real, fake, labels, noise, penalty, objective)
    assert loss.centering is not None
    assert loss.centering.tolist() == pytest.approx([9.0, 0.0, 2.25])
    rest = loss.adversarial + 0.05 * (loss.ar1 + loss.ar2)
    assert (loss.total - rest).tolist() == pytest.approx([0.09, 0.0, 0.0225])


def test_consistency_by_hand() -> None:
    stages = torch.tensor([0.0, 1.0, 2.0, 4.0]).view(K, 1, 1, 1, 1) * torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1)
    stages = stages.expand(K, 2, 2, 2, 2).clone().requires_grad_()
    loss = consistency_loss(stages)
    once = (16 / 3 + 9 / 2 + 4 / 1) / 3  # squared distances from the last, over K-k, over K-1
    assert loss.tolist() == pytest.approx([once, 9 * once])
    loss[0].backward()
    assert stages.grad is not None
    per_cell = stages.grad[:, 0, 0, 0, 0] * 8  # of eight cells
    early = [2 / 3 * -4 / 3, 2 / 3 * -3 / 2, 2 / 3 * -2]
    assert per_cell.tolist() == pytest.approx([*early, -sum(early)])
    assert not stages.grad[:, 1].any()


def test_consistency_is_weighted_and_of_images_without_augmentation_and_noise() -> None:
    real, fake, labels, noise, _ = draws()
    loss = generator_loss(mini_discriminator(), real, fake, labels, noise, Objective(consistency_weight=0.1))
    assert loss.consistency is not None
    assert torch.equal(loss.consistency, consistency_loss(fake))
    assert torch.allclose(loss.total, loss.adversarial + 0.1 * loss.consistency)
    plain = generator_loss(mini_discriminator(), real, fake, labels, noise, Objective())
    assert plain.consistency is None
    assert torch.equal(plain.total, loss.adversarial)


def test_generators_alignment_is_weighted_and_needs_a_teacher() -> None:
    real, fake, labels, noise, _ = draws()
    args = (mini_discriminator(), real, fake, labels, noise, Objective(generator_alignment_weight=0.5))
    projected = torch.tensor([1.0, 0.0]).double().expand(B, 4, 2)
    teacher = TeacherTokens(torch.full((B, 2), math.nan), torch.ones(B, 4, 2).double())  # its [cls] is not read
    loss = generator_loss(*args, projected, teacher)
    assert loss.alignment is not None
    assert loss.alignment.tolist() == pytest.approx([1 - math.sqrt(0.5)] * B)
    assert torch.allclose(loss.total, loss.adversarial + 0.5 * loss.alignment)
    with pytest.raises(UserError, match="objective.generator_alignment_weight > 0 needs a teacher"):
        generator_loss(*args)


def test_discriminator_step_leaves_the_generator_alone() -> None:
    real, _, labels, noise, penalty = draws()
    generator = mini_generator()
    fake = generator(torch.randn(B, 64, dtype=torch.float64), labels)
    loss = discriminator_loss(mini_discriminator(), real, fake, labels, noise, penalty, Objective(alignment_weight=0))
    loss.total.mean().backward()
    assert all(p.grad is None for p in generator.parameters())


def test_generator_step_takes_no_gradient_through_the_real_images() -> None:
    real, fake, labels, noise, _ = draws()
    real.requires_grad_()
    fake.requires_grad_()
    loss = generator_loss(mini_discriminator(), real, fake, labels, noise, Objective())
    loss.total.mean().backward()
    assert real.grad is None
    assert fake.grad is not None
    assert all(stage.any() for stage in fake.grad)  # every stage is supervised
    assert torch.allclose(loss.total, nn.functional.softplus(loss.real_logits - loss.fake_logits))
