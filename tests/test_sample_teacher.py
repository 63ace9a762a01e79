"""The teacher of the generator's samples: it sees what they decode to, and nothing flows back."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL

from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.models.generator import Generator
from gat.objective.alignment import patch_alignment_loss
from gat.teachers import CachedTokens, Teacher, load_teacher
from gat.training import sample_teacher
from gat.training.sample_teacher import SampleTeacher, live_teacher
from tests.conftest import compose_config
from tests.data_helpers import CPU, random_autoencoder, teacher_config
from tests.helpers import mini_generator

SCALE = 0.05  # enlarges the latents of untrained networks until the images are full of contrast


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher(teacher_config(layer=3), CPU)


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderKL:
    return random_autoencoder()


@pytest.fixture
def generator(teacher: Teacher) -> Generator:
    return mini_generator(teacher_width=teacher.width, aligned_block=3).float()


def sampled(generator: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample latents (3, 4, 8, 8) and projected tokens."""
    tokens: dict[str, torch.Tensor] = {}
    z = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    return generator(z, torch.arange(3), record=tokens)[-1], tokens["aligned"]


def test_tokens_are_those_of_the_decoded_samples(
    teacher: Teacher, autoencoder: AutoencoderKL, generator: Generator
) -> None:
    latents, _ = sampled(generator)
    tokens = SampleTeacher(teacher, autoencoder, SCALE)(latents)
    images = to_uint8(decode(autoencoder, latents.detach(), SCALE))  # (3, 3, 32, 32), as real images are kept
    expected = teacher(images.permute(0, 2, 3, 1))
    assert images.float().std() > 20
    assert tokens.patches.shape == (3, 16, 112)
    assert torch.equal(tokens.patches, expected.patches)
    assert torch.equal(tokens.cls, expected.cls)


def test_precision_is_full_inside_autocast(teacher: Teacher, autoencoder: AutoencoderKL, generator: Generator) -> None:
    latents, _ = sampled(generator)
    targets = SampleTeacher(teacher, autoencoder, SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        inside = targets(latents)
    assert torch.equal(inside.patches, targets(latents).patches)


def test_gradient_reaches_the_generator_alone(
    teacher: Teacher, autoencoder: AutoencoderKL, generator: Generator
) -> None:
    latents, projected = sampled(generator)
    frozen = [*teacher.parameters(), *autoencoder.parameters()]
    for p in frozen:
        p.requires_grad_(True)  # even then
    tokens = SampleTeacher(teacher, autoencoder, SCALE)(latents)
    assert not tokens.patches.requires_grad
    patch_alignment_loss(projected, tokens.patches).mean().backward()
    assert all(p.grad is None for p in frozen)
    for p in frozen:
        p.requires_grad_(False)
    assert generator.projector is not None
    for part in (generator.projector, generator.mapping, generator.blocks[3]):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())


def test_teacher_is_shared_with_the_real_images_unless_those_have_a_cache(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str | None] = []

    def load(config: object, device: torch.device) -> Teacher:
        loaded.append(getattr(config, "name", None))
        return teacher

    monkeypatch.setattr(sample_teacher, "load_teacher", load)
    config = compose_config("objective.generator_alignment_weight=0.5")
    cache = CachedTokens(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1, 1), CPU)
    assert live_teacher(config, teacher, CPU) is teacher
    assert loaded == []
    assert live_teacher(config, cache, CPU) is teacher
    assert live_teacher(config, None, CPU) is teacher
    assert loaded == ["tf_efficientnet_lite0"] * 2
    off = replace(config, objective=replace(config.objective, generator_alignment_weight=0.0))
    assert live_teacher(off, teacher, CPU) is None
