"""Agreement with the authors' release in float64, value by value and gradient by gradient (tests/data/README.md)."""

import pytest
import torch
from torch import Tensor

from gat.mng import noise_levels, perturb
from gat.models import Discriminator, Generator
from gat.objective.adversarial import Objective, PairNoise, PenaltyNoise, discriminator_loss, generator_loss
from gat.objective.alignment import resize_tokens
from gat.objective.augment import AugmentParams, augment
from gat.release import (
    DISCRIMINATOR_RENAMES,
    GENERATOR_RENAMES,
    load_discriminator,
    load_generator,
    release_key,
)
from tests.conftest import relative_error, section

TOLERANCE = 1e-9
ROUNDING = 1e-16
Vectors = dict[str, Tensor]
OBJECTIVE = Objective(alignment_weight=0.0)


@pytest.fixture
def generator(reference: Vectors) -> Generator:
    return load_generator(section(reference, "generator."))


@pytest.fixture
def discriminator(reference: Vectors) -> Discriminator:
    return load_discriminator(section(reference, "discriminator."))


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == torch.float64
    assert relative_error(ours, theirs) < TOLERANCE


def assert_gradients(
    model: Generator | Discriminator, theirs: Vectors, renames: tuple[tuple[str, str], ...], without: set[str]
) -> None:
    """Every parameter's gradient equals the reference's; parameters named in ``without`` have none in the reference.

    Gradients that are zero but for rounding (the logit's bias cancels in a relativistic loss) are compared absolutely.
    """
    ours = {release_key(name, renames): p.grad for name, p in model.named_parameters()}
    assert set(theirs) == set(ours) - without
    for name, expected in theirs.items():
        grad = ours[name]
        assert grad is not None
        assert (grad - expected).norm() < max(TOLERANCE * expected.norm(), ROUNDING), name
    for name in without:
        grad = ours[name]
        assert grad is None or not grad.any(), name


def test_generator_stages(reference: Vectors, generator: Generator) -> None:
    assert_close(generator(reference["z"], reference["labels"]), reference["g.stages"])


def test_noise_levels(reference: Vectors) -> None:
    assert_close(noise_levels(4), reference["mng.t_schedule"])


def test_perturbed_images(reference: Vectors) -> None:
    real = reference["real_latents"].expand(4, -1, -1, -1, -1)
    assert_close(perturb(reference["g.stages"], reference["mng.noise"]), reference["mng.perturbed_fake"])
    assert_close(perturb(real, reference["mng.noise"]), reference["mng.perturbed_real"])


def test_discriminator_output(reference: Vectors, discriminator: Discriminator) -> None:
    real = discriminator(reference["mng.perturbed_real"], reference["labels"])
    fake = discriminator(reference["mng.perturbed_fake"], reference["labels"])
    assert_close(real.logits, reference["d.logits_real"].squeeze(1))
    assert_close(fake.logits, reference["d.logits_fake"].squeeze(1))
    assert_close(real.cls, reference["d.proj_cls_real"].squeeze(1))
    assert_close(real.patches, reference["d.proj_patch_real"])


def test_discriminator_step(reference: Vectors, discriminator: Discriminator) -> None:
    loss = discriminator_loss(
        discriminator,
        reference["real_latents"],
        reference["g.stages"],
        reference["labels"],
        PairNoise(reference["step_d.noise_real"], reference["step_d.noise_fake"]),
        PenaltyNoise(reference["step_d.ar1_eps"], reference["step_d.ar2_eps"]),
        OBJECTIVE,
    )
    loss.total.mean().backward()
    for name in ("adversarial", "ar1", "ar2", "total"):
        assert_close(getattr(loss, name), reference["step_d." + {"adversarial": "adv"}.get(name, name)])
    projector = {f"proj.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")}
    assert_gradients(discriminator, section(reference, "step_d.grad."), DISCRIMINATOR_RENAMES, without=projector)


def test_generator_step(reference: Vectors, generator: Generator, discriminator: Discriminator) -> None:
    labels = reference["labels"]
    w = generator.style(reference["z"], labels)
    loss = generator_loss(
        discriminator,
        reference["real_latents"],
        generator.synthesize(w),
        labels,
        PairNoise(reference["step_g.noise_real"], reference["step_g.noise_fake"]),
        OBJECTIVE,
    )
    loss.total.mean().backward()
    assert_close(loss.total, reference["step_g.adv"])
    theirs = section(reference, "step_g.grad.")
    for dead in ("x_embedder.proj.weight", "x_embedder.proj.bias"):  # the release multiplies their output by zero
        assert not theirs.pop(dead).any()
    assert_gradients(generator, theirs, GENERATOR_RENAMES, without=set())
    generator.update_mean_w(w, labels)
    assert_close(generator.mean_w, reference["g.w_avg_after_step"])


def test_augmentation(reference: Vectors) -> None:
    given = {
        key: value.flatten() for key, value in section(reference, "aug.").items() if key not in ("input", "output")
    }
    everywhere = torch.ones(6, dtype=torch.bool)
    params = AugmentParams(
        color=given["color.apply_mask"].bool(),
        brightness=given["color.brightness_u"],
        saturation=given["color.saturation_u"],
        contrast=given["color.contrast_u"],
        shift_rows=given["translation.x"],
        shift_columns=given["translation.y"],
        cutout=everywhere,
        cutout_rows=given["cutout.offset_x"],
        cutout_columns=given["cutout.offset_y"],
        flip=given["flip.u"] < 0.4,
    )
    assert_close(augment(reference["aug.input"], params), reference["aug.output"])


def test_token_grid_resize(reference: Vectors) -> None:
    assert_close(resize_tokens(reference["repa.teacher_16x16"], 16), reference["repa.resized_4x4"])
