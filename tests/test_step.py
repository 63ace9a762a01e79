"""The training step: computing the fakes once changes nothing, and what it updates."""

import copy

import pytest
import torch

from gat.objective.adversarial import Objective, discriminator_loss, generator_loss
from gat.objective.augment import AugmentRates
from gat.training.noise import StepNoise, draw_noise
from gat.training.step import Batch, Networks, StepSettings, training_step
from tests.helpers import mini_discriminator, mini_generator

SETTINGS = StepSettings(Objective(alignment_weight=0.0), clip_norm=1.0, ema_decay=0.5, bf16=False)


def make_networks() -> Networks:
    generator, discriminator = mini_generator().float(), mini_discriminator(teacher_width=0).float()
    return Networks(
        generator,
        discriminator,
        copy.deepcopy(generator).requires_grad_(False),
        torch.optim.AdamW(generator.parameters(), lr=1e-3, betas=(0.0, 0.99), weight_decay=0.0),
        torch.optim.AdamW(discriminator.parameters(), lr=1e-3, betas=(0.0, 0.99), weight_decay=0.0),
    )


@pytest.fixture
def noise() -> StepNoise:
    return draw_noise(0, 0, 6, make_networks().generator.dims, AugmentRates(), torch.device("cpu"))


@pytest.fixture
def batch() -> Batch:
    return Batch(torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3, None)


def test_equals_the_release_order_of_work(noise: StepNoise, batch: Batch) -> None:
    """The same numbers as: fakes for D without a graph, D's update, fakes again for G, G's update."""
    ours, plain = make_networks(), make_networks()
    training_step(ours, batch, noise, SETTINGS)
    with torch.no_grad():
        fake = plain.generator(noise.z, batch.labels)
    arguments = (batch.real, fake, batch.labels, noise.discriminator, noise.penalty, SETTINGS.objective)
    discriminator_loss(plain.discriminator, *arguments).total.mean().backward()
    torch.nn.utils.clip_grad_norm_(plain.discriminator.parameters(), 1.0)
    plain.discriminator_optimizer.step()
    fake = plain.generator(noise.z, batch.labels)
    loss = generator_loss(plain.discriminator, batch.real, fake, batch.labels, noise.generator, SETTINGS.objective)
    loss.total.mean().backward()
    torch.nn.utils.clip_grad_norm_(plain.generator.parameters(), 1.0)
    plain.generator_optimizer.step()
    for part in ("generator", "discriminator"):
        for ours_p, plain_p in zip(getattr(ours, part).parameters(), getattr(plain, part).parameters(), strict=True):
            assert torch.allclose(ours_p, plain_p, atol=1e-7)


def test_updates_average_and_class_means(noise: StepNoise, batch: Batch) -> None:
    networks, before = make_networks(), make_networks()
    w = before.generator.style(noise.z, batch.labels)
    training_step(networks, batch, noise, SETTINGS)
    for average, new, old in zip(
        networks.ema.parameters(), networks.generator.parameters(), before.generator.parameters(), strict=True
    ):
        assert torch.allclose(average, (new + old) / 2, atol=1e-7)
    expected = 0.005 * w[batch.labels == 1].mean(dim=0)
    assert torch.allclose(networks.generator.mean_w[1], expected)
    assert torch.equal(networks.ema.mean_w, networks.generator.mean_w)


def test_leaves_no_gradients_and_frozen_weights_behind(noise: StepNoise, batch: Batch) -> None:
    networks = make_networks()
    training_step(networks, batch, noise, SETTINGS)
    for model in (networks.generator, networks.discriminator):
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_metrics_are_device_scalars(noise: StepNoise, batch: Batch) -> None:
    metrics = training_step(make_networks(), batch, noise, SETTINGS)
    assert set(metrics) == {
        "d_adversarial", "ar1", "ar2", "d_loss", "logit_gap", "d_grad_norm", "g_loss", "g_grad_norm",
    }  # fmt: skip
    assert all(isinstance(value, torch.Tensor) and value.shape == () for value in metrics.values())
    assert all(not value.requires_grad for value in metrics.values())
