"""The training step: computing the fakes once changes nothing, and what it updates."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from gat.objective.adversarial import Objective, TeacherTokens, discriminator_loss, generator_loss
from gat.objective.alignment import patch_alignment_loss
from gat.objective.augment import AugmentRates
from gat.training.noise import StepNoise, draw_noise
from gat.training.step import Batch, Networks, StepSettings, make_fakes, training_step
from tests.helpers import mini_discriminator, mini_generator

ALIGNED_BLOCK = 3
SUCCESSORS = Objective(
    alignment_weight=0.0,
    penalty_fraction=0.5,
    logit_centering_weight=0.01,
    generator_alignment_weight=0.5,
    consistency_weight=0.1,
)
SETTINGS = StepSettings(
    Objective(alignment_weight=0.0), clip_norm=1.0, ema_decay=0.5, bf16=False, accumulation=1, all_reduce=lambda t: t
)


def make_networks(dtype: torch.dtype = torch.float32, teacher_width: int = 0) -> Networks:
    generator = mini_generator(teacher_width=teacher_width, aligned_block=ALIGNED_BLOCK).to(dtype)
    discriminator = mini_discriminator(teacher_width).to(dtype)
    return Networks(
        generator,
        discriminator,
        copy.deepcopy(generator).requires_grad_(False),
        torch.optim.AdamW(generator.parameters(), lr=1e-3, betas=(0.0, 0.99), weight_decay=0.0),
        torch.optim.AdamW(discriminator.parameters(), lr=1e-3, betas=(0.0, 0.99), weight_decay=0.0),
        generator,
        discriminator,
    )


def sample_tokens(latents: Tensor) -> TeacherTokens:
    """Of a teacher that sees the mean of each patch: latents (B, 4, 8, 8) -> tokens (B, 4, 4)."""
    assert not latents.requires_grad  # they are targets
    patches = torch.nn.functional.avg_pool2d(latents, 4).flatten(2).transpose(1, 2)
    return TeacherTokens(patches.mean(dim=1), patches)


SUCCESSOR_SETTINGS = dataclasses.replace(SETTINGS, objective=SUCCESSORS, sample_tokens=sample_tokens)


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


def test_position_codes_are_trained(noise: StepNoise, batch: Batch) -> None:
    """As in the release, whose loop makes all parameters trainable. Adam's first step moves nearly all by the rate."""
    networks = make_networks()
    codes = (networks.generator.pos_embed, networks.discriminator.pos_embed)
    before = [code.detach().clone() for code in codes]
    training_step(networks, batch, noise, SETTINGS)
    for old, code in zip(before, codes, strict=True):
        moved = (code.detach() - old).abs()
        assert moved.max() == pytest.approx(1e-3, rel=1e-3)
        assert moved.median() == pytest.approx(1e-3, rel=1e-2)
    assert torch.allclose(networks.ema.pos_embed, (before[0] + codes[0].detach()) / 2)


def test_leaves_no_gradients_and_frozen_weights_behind(noise: StepNoise, batch: Batch) -> None:
    networks = make_networks()
    training_step(networks, batch, noise, SETTINGS)
    for model in (networks.generator, networks.discriminator):
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_metrics_are_device_scalars(noise: StepNoise, batch: Batch) -> None:
    metrics = training_step(make_networks(), batch, noise, SETTINGS)
    assert set(metrics) == {
        "d_adversarial", "ar1", "ar2", "d_loss", "logit_gap", "logit_rms", "d_grad_norm", "g_loss", "g_grad_norm",
        "stage1_rms", "stage2_rms", "stage3_rms", "stage4_rms", "sample_rms",
    }  # fmt: skip
    assert all(isinstance(value, torch.Tensor) and value.shape == () for value in metrics.values())
    assert all(not value.requires_grad for value in metrics.values())


def test_terms_that_are_on_have_metrics_and_change_nothing_else_that_is_measured(
    noise: StepNoise, batch: Batch
) -> None:
    plain = training_step(make_networks(), batch, noise, SETTINGS)
    metrics = training_step(make_networks(teacher_width=4), batch, noise, SUCCESSOR_SETTINGS)
    assert metrics.keys() - plain.keys() == {"logit_centering", "consistency", "generator_alignment"}
    weighted = {"d_adversarial": 1, "ar1": 0.05, "ar2": 0.05, "logit_centering": 0.01}
    assert float(metrics["d_loss"]) == pytest.approx(sum(w * float(metrics[name]) for name, w in weighted.items()))
    for name in ("d_adversarial", "logit_gap", "logit_rms", "sample_rms"):
        assert float(metrics[name]) == pytest.approx(float(plain[name])), name


def test_targets_of_the_generator_are_the_tokens_of_its_own_samples(noise: StepNoise, batch: Batch) -> None:
    networks, before = make_networks(teacher_width=4), make_networks(teacher_width=4).generator
    metrics = training_step(networks, batch, noise, SUCCESSOR_SETTINGS)
    tokens: dict[str, Tensor] = {}
    with torch.no_grad():
        samples = before(noise.z, batch.labels, record=tokens)[-1]
        assert before.projector is not None
        projected = before.projector(tokens[f"block_{ALIGNED_BLOCK}"])
    expected = patch_alignment_loss(projected, sample_tokens(samples).patches).mean()
    assert float(metrics["generator_alignment"]) == pytest.approx(float(expected), rel=1e-5)


def test_alignment_reaches_the_generator_up_to_the_block_and_its_projector(noise: StepNoise, batch: Batch) -> None:
    networks = make_networks(teacher_width=4)
    fakes = make_fakes(networks, batch, noise, SUCCESSOR_SETTINGS)
    assert fakes.projected is not None
    patch_alignment_loss(fakes.projected, sample_tokens(fakes.stages[-1].detach()).patches).mean().backward()
    reached = {name.rsplit(".", 1)[0] for name, p in networks.generator.named_parameters() if p.grad is not None}
    assert {"mapping.0", "blocks.0.attn.qkv", f"blocks.{ALIGNED_BLOCK}.mlp.w3", "projector.0", "projector.4"} <= reached
    assert not any(name.startswith((f"blocks.{ALIGNED_BLOCK + 1}.", "heads.")) for name in reached)


def test_step_trains_the_projector_and_its_average(noise: StepNoise, batch: Batch) -> None:
    networks, before = make_networks(teacher_width=4), make_networks(teacher_width=4)
    training_step(networks, batch, noise, SUCCESSOR_SETTINGS)
    name = "projector.0.weight"
    old, new, average = (m.get_parameter(name) for m in (before.generator, networks.generator, networks.ema))
    assert not torch.equal(new, old)
    assert torch.allclose(average, (new + old) / 2, atol=1e-7)


@pytest.mark.parametrize("settings", [SETTINGS, SUCCESSOR_SETTINGS])
def test_accumulation_gives_the_whole_batch_result(settings: StepSettings) -> None:
    """In float64: AdamW's first steps turn rounding of near-zero gradients into whole steps otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        width = 4 if settings.sample_tokens else 0
        whole, parts = make_networks(torch.float64, width), make_networks(torch.float64, width)
        for step in range(3):
            noise = draw_noise(0, step, 6, whole.generator.dims, AugmentRates(), torch.device("cpu"))
            batch = Batch(noise.posterior, torch.arange(6) % 3, None)
            expected = training_step(whole, batch, noise, settings)
            metrics = training_step(parts, batch, noise, dataclasses.replace(settings, accumulation=3))
    finally:
        torch.set_default_dtype(before)
    for part in ("generator", "discriminator"):
        for a, b in zip(getattr(whole, part).parameters(), getattr(parts, part).parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-8)
    assert torch.allclose(whole.generator.mean_w, parts.generator.mean_w, rtol=1e-9)
    assert metrics.keys() == expected.keys()
    for name in expected.keys() - {"logit_rms", "sample_rms"} - {f"stage{k}_rms" for k in range(1, 5)}:
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-5), name


@pytest.mark.parametrize("accumulation", [1, 3])
def test_bf16_trains_what_fp32_trains(noise: StepNoise, batch: Batch, accumulation: int) -> None:
    """Under autocast, too, a gradient reaches every weight: none is taken from a cast that was cached without a graph."""

    def trained(settings: StepSettings) -> set[str]:
        networks, start = make_networks(teacher_width=4), make_networks(teacher_width=4)
        training_step(networks, batch, noise, settings)
        pairs = (
            (f"{part}.{name}", weight, before)
            for part in ("generator", "discriminator")
            for (name, weight), before in zip(
                getattr(networks, part).named_parameters(), getattr(start, part).parameters(), strict=True
            )
        )
        return {name for name, weight, before in pairs if not torch.equal(weight, before)}

    whole = trained(SUCCESSOR_SETTINGS)
    parts = dataclasses.replace(SUCCESSOR_SETTINGS, bf16=True, accumulation=accumulation)
    assert trained(parts) == whole
    assert len(whole) > 50
