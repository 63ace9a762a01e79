"""Agreement with the authors' release in float64, value by value and gradient by gradient (tests/data/README.md).

``reference``: networks, MNG, augmentation, and a step without augmentation and teacher. ``steps``: whole steps with
everything on.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gat.data.loader import Rows
from gat.mng import noise_levels, perturb
from gat.models import Discriminator, Generator
from gat.models.sizes import discriminator_dims, generator_dims
from gat.objective.adversarial import (
    Objective,
    PairNoise,
    PenaltyNoise,
    TeacherTokens,
    discriminator_loss,
    generator_loss,
)
from gat.objective.alignment import resize_tokens
from gat.objective.augment import AugmentParams, augment
from gat.release import (
    DISCRIMINATOR_RENAMES,
    GENERATOR_RENAMES,
    load_discriminator,
    load_generator,
    release_key,
)
from gat.rng import seeded_init
from gat.teachers import Teacher
from gat.training.feed import teacher_tokens
from tests.conftest import DATA, relative_error, section

TOLERANCE = 1e-9
ROUNDING = 1e-16
Vectors = dict[str, Tensor]
WITHOUT_TEACHER = Objective(alignment_weight=0.0)
TEACHER_PX, PATCH_PX = 224, 14


@pytest.fixture
def generator(reference: Vectors) -> Generator:
    return load_generator(section(reference, "generator."))


@pytest.fixture
def discriminator(reference: Vectors) -> Discriminator:
    return load_discriminator(section(reference, "discriminator."))


@pytest.fixture(scope="module")
def steps() -> Vectors:
    return load_file(DATA / "gat_release_steps.safetensors")


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == torch.float64
    assert relative_error(ours, theirs) < TOLERANCE


def assert_gradients(
    model: Generator | Discriminator, theirs: Vectors, renames: tuple[tuple[str, str], ...], without: set[str]
) -> None:
    """Every parameter's gradient equals the reference's; parameters named in ``without`` have none in the reference.

    The position codes' is compared by itself (:func:`test_gradient_of_position_codes`): the reference's modules, taken
    without the loop around them, call them fixed.

    Gradients that are zero but for rounding (the logit's bias cancels in a relativistic loss) are compared absolutely.
    """
    ours = {release_key(name, renames): p.grad for name, p in model.named_parameters()}
    assert set(theirs) == set(ours) - without - {"pos_embed"}
    for name, expected in theirs.items():
        grad = ours[name]
        assert grad is not None
        assert (grad - expected).norm() < max(TOLERANCE * expected.norm(), ROUNDING), name
    for name in without:
        grad = ours[name]
        assert grad is None or not grad.any(), name


def test_generator_stages(reference: Vectors, generator: Generator) -> None:
    assert_close(generator(reference["z"], reference["labels"]), reference["g.stages"])


def test_gradient_of_position_codes(reference: Vectors, generator: Generator, discriminator: Discriminator) -> None:
    """Made trainable, as the release's loop does before each step."""
    theirs = load_file(DATA / "gat_release_positions.safetensors")
    (generator(reference["z"], reference["labels"]) * reference["mng.noise"]).sum().backward()
    discriminator(reference["mng.perturbed_real"], reference["labels"]).logits.sum().backward()
    for name, model in (("generator", generator), ("discriminator", discriminator)):
        assert model.pos_embed.grad is not None
        assert_close(model.pos_embed.grad, theirs[f"{name}.pos_embed"])


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
        WITHOUT_TEACHER,
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
        WITHOUT_TEACHER,
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
    images = reference["aug.input"]
    assert_close(augment(images, params, means_of=images), reference["aug.output"])


def test_token_grid_resize(reference: Vectors) -> None:
    assert_close(resize_tokens(reference["repa.teacher_16x16"], 16), reference["repa.resized_4x4"])


# whole steps of the release with everything on


def augment_of(steps: Vectors, prefix: str) -> AugmentParams:
    given = section(steps, prefix + ".")
    masks = {name: given[name].bool() for name in ("color", "flip")}
    return AugmentParams(**(given | masks), cutout=torch.ones(len(given["color"]), dtype=torch.bool))


def pair_of(steps: Vectors, step: str) -> PairNoise:
    noise = section(steps, f"{step}.noise.")
    return PairNoise(
        noise["real"],
        noise["fake"],
        augment_of(steps, f"{step}.augment_real"),
        augment_of(steps, f"{step}.augment_fake"),
    )


def test_discriminator_step_with_everything_on(steps: Vectors) -> None:
    discriminator = load_discriminator(section(steps, "discriminator."))
    with torch.no_grad():
        fake = load_generator(section(steps, "generator."))(steps["z"], steps["labels"])
    penalty = PenaltyNoise(steps["d_step.penalty.real"], steps["d_step.penalty.fake"])
    teacher = TeacherTokens(steps["teacher.cls"], steps["teacher.patches"])
    loss = discriminator_loss(
        discriminator, steps["real"], fake, steps["labels"], pair_of(steps, "d_step"), penalty, Objective(), teacher
    )
    loss.total.mean().backward()
    for name in ("adversarial", "ar1", "ar2", "total"):
        assert_close(getattr(loss, name), steps[f"d_step.{name}"])
    assert loss.alignment is not None
    assert_close(loss.alignment, steps["d_step.alignment_cls"] + steps["d_step.alignment_patch"])
    assert_gradients(discriminator, section(steps, "d_step.grad."), DISCRIMINATOR_RENAMES, without=set())


def test_generator_step_with_everything_on(steps: Vectors) -> None:
    generator = load_generator(section(steps, "generator."))
    discriminator = load_discriminator(section(steps, "discriminator."))
    fake = generator(steps["z"], steps["labels"])
    loss = generator_loss(discriminator, steps["real"], fake, steps["labels"], pair_of(steps, "g_step"), Objective())
    loss.total.mean().backward()
    assert_close(loss.adversarial, steps["g_step.adversarial"])
    assert_close(loss.total, steps["g_step.total"])
    theirs = section(steps, "g_step.grad.")
    for dead in ("x_embedder.proj.weight", "x_embedder.proj.bias"):
        assert not theirs.pop(dead, torch.zeros(1)).any()
    assert_gradients(generator, theirs, GENERATOR_RENAMES, without=set())


class StandIn(nn.Module):
    """The teacher of ``steps``: patches of 14 x 14 pixels, each times a matrix (588, 8); [cls] is their mean."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        self.seen: list[Tensor] = []

    def forward_features(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        patches = nn.functional.unfold(x, PATCH_PX, stride=PATCH_PX)  # (B, 588, M): channel, row, column
        return (patches.transpose(1, 2) @ self.weight).transpose(1, 2).unflatten(2, (TEACHER_PX // PATCH_PX, -1))


@pytest.fixture
def stand_in(steps: Vectors) -> Teacher:
    return Teacher(StandIn(steps["teacher.weight"]), "stand-in", TEACHER_PX, None)


def test_teachers_tokens_as_released(steps: Vectors, stand_in: Teacher) -> None:
    images = steps["raw_images"].permute(0, 2, 3, 1)
    augment = augment_of(steps, "d_step.augment_real")
    rows = Rows(torch.arange(len(images)), torch.empty(0), steps["labels"], images)
    tokens = teacher_tokens(stand_in, rows, augment, 8, "as_released")
    assert_close(tokens.cls, steps["teacher.cls"])
    assert_close(tokens.patches, steps["teacher.patches"])


@pytest.mark.parametrize("translation", ["exact", "as_released"])
def test_teacher_sees_its_mean_colour_come_in(steps: Vectors, stand_in: Teacher, translation: str) -> None:
    """Move a black image: the border that comes in is 0 after normalisation, everything else is not."""
    augment = augment_of(steps, "d_step.augment_real")
    rows = torch.full_like(augment.shift_rows, -1)
    augment = replace(augment, shift_rows=rows, shift_columns=0 * rows, flip=torch.zeros_like(augment.flip))
    black = torch.zeros(len(rows), 256, 256, 3, dtype=torch.uint8)
    teacher_tokens(stand_in, Rows(rows, torch.empty(0), rows, black), augment, 8, translation)
    assert isinstance(stand_in.model, StandIn)
    seen, border = stand_in.model.seen[-1], TEACHER_PX // 8 if translation == "exact" else 1
    assert not seen[:, :, :border].any()
    assert (seen[:, :, border:] < -1.8).all()


# initial weights


def test_initial_weights_scatter_as_the_releases() -> None:
    """Every tensor of S/2: constants are equal, random ones have equal means and spreads but for the scatter of a draw."""
    sizes = {"patch": 2, "num_classes": 1000, "latent_side": 32}
    with seeded_init(0):
        networks = {
            "generator": (Generator(generator_dims("gat", "S", **sizes)), GENERATOR_RENAMES),
            "discriminator": (
                Discriminator(discriminator_dims("gat", "S", teacher_width=768, **sizes)),
                DISCRIMINATOR_RENAMES,
            ),
        }
    recorded = json.loads((DATA / "initial_weights.json").read_text(encoding="utf-8"))
    for part, (network, renames) in networks.items():
        ours = {release_key(name, renames): value.double() for name, value in network.state_dict().items()}
        assert ours.keys() - {"pos_embed"} == recorded[part].keys()  # sines and cosines at first
        for name, (mean, std) in recorded[part].items():
            scatter = 6 / ours[name].numel() ** 0.5
            assert float(ours[name].std(correction=0)) == pytest.approx(std, rel=scatter, abs=1e-9), name
            assert float(ours[name].mean()) == pytest.approx(mean, rel=1e-6, abs=scatter * std + 1e-9), name
