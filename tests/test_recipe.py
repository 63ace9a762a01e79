"""The released recipe: its values stand in the configuration, and reach what computes (docs/differences-from-release.md)."""

import dataclasses
from typing import Any

import pytest
import torch

from gat.config import Config
from gat.models.sizes import discriminator_dims, generator_dims
from gat.objective.augment import AugmentRates, draw_params
from gat.training.noise import draw_noise
from gat.training.setup import augment_rates, make_networks, make_objective, step_settings
from tests.conftest import compose_config

CPU = torch.device("cpu")
SIZES = {"patch": 4, "num_classes": 3, "latent_side": 8}


@pytest.fixture(scope="module")
def recipe() -> Config:
    return compose_config(
        "model=gat", "data=imagenet256", "data.root=/imagenet", "autoencoder=sd_vae_mse", "teacher=dinov2",
        "objective=gat", "optim=gat", "training=imagenet", "evaluation=training",
    )  # fmt: skip


def test_model(recipe: Config) -> None:
    model = recipe.model
    assert (model.patch, model.num_stages, model.discriminator_size) == (2, 4, None)


def test_objective(recipe: Config) -> None:
    """MNG's released form, both penalties on the whole batch, REPA on D alone; and nothing of GAT's successors."""
    ours = make_objective(recipe.objective, has_teacher=True)
    assert dataclasses.asdict(ours) == {
        "mng_schedule": "exponential", "mng_nested": True, "mng_form": "released",
        "penalty_weight": 0.1, "penalty_sigma": 0.01, "penalty_fraction": 1.0,
        "alignment_weight": 1.0, "generator_alignment_weight": 0.0, "consistency_weight": 0.0, "logit_centering_weight": 0.0,
    }  # fmt: skip
    assert dataclasses.asdict(augment_rates(recipe.objective)) == {
        "color": 0.5, "translation": 1.0, "cutout": 1.0, "flip": 0.4,
    }  # fmt: skip


def test_every_switch_of_the_objective_reaches_the_losses(recipe: Config) -> None:
    changed: dict[str, Any] = {"mng_schedule": "linear", "mng_nested": False, "mng_form": "variance_preserving"}
    changed |= {name: 0.5 for name in dataclasses.asdict(make_objective(recipe.objective, True)) if name not in changed}
    ours = make_objective(dataclasses.replace(recipe.objective, **changed), has_teacher=True)
    assert dataclasses.asdict(ours) == changed


def test_teacher(recipe: Config) -> None:
    """DINOv2 ViT-B/14's last features of the moved image, as the release's autocast computes them."""
    teacher = recipe.teacher
    assert (teacher.name, teacher.input_px, teacher.layer) == ("vit_base_patch14_dinov2.lvd142m", 224, None)
    assert (teacher.translation, teacher.cache, teacher.precision) == ("exact", False, "bf16")


@pytest.mark.parametrize("name", ["mse", "ema"])
def test_autoencoders(name: str) -> None:
    autoencoder = compose_config(f"autoencoder=sd_vae_{name}").autoencoder
    assert (autoencoder.path, autoencoder.scale) == (f"stabilityai/sd-vae-ft-{name}", 0.18215)


def test_optimizers_and_averages(recipe: Config) -> None:
    config = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, family="mini", patch=4))
    dims = generator_dims("mini", "S", **SIZES), discriminator_dims("mini", "B", teacher_width=0, **SIZES)
    networks = make_networks(config, dims, CPU)
    for optimizer, width in ((networks.generator_optimizer, 64), (networks.discriminator_optimizer, 128)):
        (group,) = optimizer.param_groups
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.0, 0.99), 1e-8, 0.0)
        assert group["lr"] == pytest.approx(2e-4 * 768 / width)
    for name in ("generator", "discriminator"):  # position codes among them
        (group,) = getattr(networks, f"{name}_optimizer").param_groups
        trained = list(getattr(networks, name).parameters())
        assert [id(value) for value in group["params"]] == [id(value) for value in trained]
        assert all(value.requires_grad for value in trained)
    for average, value in zip(networks.ema.parameters(), networks.generator.parameters(), strict=True):
        assert torch.equal(average, value)  # it begins as G


def test_constants_of_the_step(recipe: Config) -> None:
    settings = step_settings(recipe, has_teacher=True)
    assert (settings.clip_norm, settings.ema_decay, settings.bf16, settings.accumulation) == (1.0, 0.999, True, 2)


def test_draws_are_standard_normal() -> None:
    dims = generator_dims("mini", "S", **SIZES)
    drawn = draw_noise(0, 0, 256, dims, AugmentRates(), CPU)
    normals = {"z": drawn.z, "posterior": drawn.posterior, "real": drawn.penalty.real, "fake": drawn.penalty.fake}
    for step, pair in (("D", drawn.discriminator), ("G", drawn.generator)):
        normals |= {f"{step}'s real": pair.real, f"{step}'s fake": pair.fake}
    for name, values in normals.items():
        scatter = 5 / values.numel() ** 0.5
        assert float(values.mean()) == pytest.approx(0, abs=scatter), name
        assert float(values.std()) == pytest.approx(1, abs=scatter), name
        assert float(values.pow(4).mean()) == pytest.approx(3, abs=10 * scatter), name  # the kurtosis of a normal


def test_augmentation_draws_rows_and_columns_alike() -> None:
    drawn = draw_params(20_000, 32, AugmentRates(), torch.Generator().manual_seed(0))
    for axis in ("rows", "columns"):
        shifts, centers = getattr(drawn, f"shift_{axis}"), getattr(drawn, f"cutout_{axis}")
        assert shifts.unique().tolist() == list(range(-4, 5))
        assert centers.unique().tolist() == list(range(33))
    assert abs(float(torch.corrcoef(torch.stack([drawn.shift_rows, drawn.shift_columns]).double())[0, 1])) < 0.05
    for name in ("brightness", "saturation", "contrast"):
        quantiles = getattr(drawn, name).double().quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).double())
        assert quantiles.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.02), name


def test_real_and_fake_are_augmented_by_draws_of_their_own() -> None:
    drawn = draw_noise(0, 0, 64, generator_dims("mini", "S", **SIZES), AugmentRates(), CPU)
    pairs = (drawn.discriminator, drawn.generator)
    draws = [augment.brightness for pair in pairs for augment in (pair.augment_real, pair.augment_fake) if augment]
    assert len(draws) == 4
    assert len(torch.cat(draws).unique()) > 0.99 * 4 * 64
