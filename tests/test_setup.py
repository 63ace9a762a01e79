"""Mistakes in the configuration are told before any work; the parts follow the configuration."""

import dataclasses

import pytest
import torch

from gat.errors import UserError
from gat.models.generator import GeneratorDims
from gat.models.sizes import discriminator_dims, generator_dims
from gat.training.setup import check, make_networks, make_objective, network_dims
from tests.conftest import compose_config
from tests.prepared import fake_prepared


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.size=M", "model size 'M' is unknown"),
        ("model.discriminator_size=XXL", "model size 'XXL' is unknown"),
        ("optim.lr_width_of=Q", "model size 'Q' is unknown"),
        ("model.family=huge", "model.family='huge' is unknown: choose one of gat, mini"),
        ("objective.mng_schedule=cosine", "objective.mng_schedule='cosine' is unknown"),
        ("objective.mng_form=paper", "objective.mng_form='paper' is unknown"),
        ("teacher.translation=none", "teacher.translation='none' is unknown"),
        ("training.precision=fp16", "training.precision='fp16' is unknown: choose one of fp32, bf16"),
        ("training.total_steps=0", "training.total_steps=0 must be positive"),
        ("evaluation.samples=-1", "evaluation.samples=-1 must be positive"),
        ("objective.penalty_sigma=0", "objective.penalty_sigma=0.0 must be positive"),
    ],
)
def test_mistakes(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(compose_config(override))


def test_default_passes_and_one_wrong_field_among_it_does_not() -> None:
    config = compose_config()
    check(config)
    wrong = dataclasses.replace(config.training, accumulation=0)
    with pytest.raises(UserError, match="training.accumulation=0 must be positive"):
        check(dataclasses.replace(config, training=wrong))


def dims(*overrides: str) -> GeneratorDims:
    return network_dims(compose_config(*overrides), fake_prepared(classes=7, latent_side=8), teacher_width=5)[0]


def test_dimensions_follow_data_and_configuration() -> None:
    generator, discriminator = network_dims(
        compose_config("model.size=B", "model.discriminator_size=S", "model.patch=1"),
        fake_prepared(classes=7, latent_side=8),
        teacher_width=5,
    )
    shared = {"patch": 1, "num_classes": 7, "latent_side": 8}
    assert generator == generator_dims("mini", "B", **shared)
    assert discriminator == discriminator_dims("mini", "S", teacher_width=5, **shared)


def test_without_mng_there_is_one_stage() -> None:
    assert dims("objective.mng_schedule=none").num_stages == 1
    assert dims("objective.mng_schedule=linear").num_stages == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_classes=1000", "the data has 7 classes, fewer than model.num_classes=1000"),
        ("model.num_classes=5", "the data has 7 classes, more than model.num_classes=5"),
        ("model.patch=3", "model.patch=3 is not offered"),
        ("model.num_stages=3", "depth 8 is not divisible by 3 stages"),
    ],
)
def test_data_that_does_not_fit(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dims(override)


def test_learning_rates_follow_each_networks_width_or_the_one_named() -> None:
    def rates(*overrides: str) -> tuple[float, float]:
        config = compose_config("model.discriminator_size=B", *overrides)
        both = network_dims(config, fake_prepared(classes=2, latent_side=8), teacher_width=0)
        networks = make_networks(config, both, torch.device("cpu"))
        optimizers = (networks.generator_optimizer, networks.discriminator_optimizer)
        rate_g, rate_d = (float(o.param_groups[0]["lr"]) for o in optimizers)
        return rate_g, rate_d

    assert rates() == pytest.approx((2e-4 * 768 / 64, 2e-4 * 768 / 128))
    assert rates("optim.lr_width_of=XL") == pytest.approx((2e-4 * 768 / 192,) * 2)


def test_initial_weights_follow_the_seed() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        config = compose_config(f"training.seed={seed}")
        both = network_dims(config, fake_prepared(classes=2, latent_side=8), teacher_width=0)
        return make_networks(config, both, torch.device("cpu")).generator.class_embedding.weight

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))


def test_without_a_teacher_alignment_is_off() -> None:
    config = compose_config().objective
    assert make_objective(config, has_teacher=True).alignment_weight == 1.0
    assert make_objective(config, has_teacher=False).alignment_weight == 0.0
