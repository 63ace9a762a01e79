"""Mistakes in the configuration are told before any work; the parts follow the configuration."""

import dataclasses

import pytest
import torch

from gat.errors import UserError
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.models.sizes import discriminator_dims, generator_dims
from gat.processes import Processes
from gat.training.check import check
from gat.training.setup import make_networks, make_objective, my_rows, network_dims
from tests.conftest import compose_config
from tests.prepared import fake_prepared


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.size=M", "model size 'M' is unknown"),
        ("model.discriminator_size=XXL", "model size 'XXL' is unknown"),
        ("optim.lr_width_of=Q", "model size 'Q' is unknown"),
        ("model.family=huge", "model.family='huge' is unknown: choose one of gat, mini, mini_widths"),
        ("objective.mng_schedule=cosine", "objective.mng_schedule='cosine' is unknown"),
        ("objective.mng_form=paper", "objective.mng_form='paper' is unknown"),
        ("teacher.translation=none", "teacher.translation='none' is unknown"),
        ("training.precision=fp16", "training.precision='fp16' is unknown: choose one of fp32, bf16"),
        ("training.total_steps=0", "training.total_steps=0 must be at least 1"),
        ("evaluation.samples=-1", "evaluation.samples=-1 must be at least 0"),
        ("objective.penalty_sigma=0", "objective.penalty_sigma=0.0 must be above 0"),
        ("optim.lr_multiple=-2", "optim.lr_multiple=-2.0 must be above 0"),
        ("training.seed=-1", "training.seed=-1 must be at least 0"),
        ("training.keep_steps=300", "training.keep_steps=300 must be a multiple of training.checkpoint_steps=200"),
        ("training.keep_steps=0", "training.keep_steps=0 must be at least 1"),
        ("optim.beta2=1", "optim.beta2=1.0 must be at least 0 and below 1"),
        ("optim.ema_decay=2", "optim.ema_decay=2.0 must be at least 0 and below 1"),
        ("optim.eps=-1", "optim.eps=-1.0 must be above 0"),
        ("optim.clip_norm=0", "optim.clip_norm=0.0 must be above 0"),
        ("autoencoder.batch_size=0", "autoencoder.batch_size=0 must be at least 1"),
        ("evaluation.grid_columns=0", "evaluation.grid_columns=0 must be at least 1"),
        ("objective.augment.flip=3", "objective.augment.flip=3.0 must be at least 0 and at most 1"),
        ("tracker.kind=mlflow", "tracker.kind='mlflow' is unknown"),
        ("objective.penalty_fraction=0.3", "objective.penalty_fraction=0.3 is no 1/k with a whole k"),
    ],
)
def test_mistakes(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(compose_config(override))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("objective.consistency_weight=0.1", "objective.mng_schedule=none"),
            "objective.consistency_weight=0.1 needs several stages: set it to 0, or",
        ),
        (("objective.consistency_weight=0.1", "model.num_stages=1"), "consistency_weight=0.1 needs several stages"),
        (
            ("objective.generator_alignment_weight=0.5", "teacher=none"),
            "objective.generator_alignment_weight=0.5 needs a teacher: choose one, or set it to 0",
        ),
        (
            ("objective.generator_alignment_weight=0.5", "objective.generator_alignment_block=8"),
            "objective.generator_alignment_block=8 is no block of size S: choose one of 0 ... 7",
        ),
        (
            ("training.keep_steps=200", "training.keep_checkpoints=false"),
            "training.keep_steps=200 keeps checkpoints, training.keep_checkpoints=false none: set one of them",
        ),
    ],
)
def test_mistakes_of_several_settings(overrides: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(compose_config(*overrides))
    for override in overrides:
        if "weight" not in override:
            check(compose_config(override))  # no mistake alone


def test_default_passes_and_one_wrong_field_among_it_does_not() -> None:
    config = compose_config()
    check(config)
    wrong = dataclasses.replace(config.training, accumulation=0)
    with pytest.raises(UserError, match="training.accumulation=0 must be at least 1"):
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


def test_networks_with_an_alignment_weight_have_a_projector() -> None:
    def both(*overrides: str) -> tuple[GeneratorDims, DiscriminatorDims]:
        return network_dims(compose_config(*overrides), fake_prepared(classes=7, latent_side=8), teacher_width=5)

    generator, discriminator = both("objective.generator_alignment_block=2")
    assert (generator.teacher_width, generator.projector_width, generator.aligned_block) == (0, 0, None)
    assert discriminator.teacher_width == 5
    generator, discriminator = both(
        "objective.alignment_weight=0",
        "objective.generator_alignment_weight=1",
        "objective.generator_alignment_block=2",
    )
    assert (generator.teacher_width, generator.projector_width, generator.aligned_block) == (5, 256, 2)
    assert discriminator.teacher_width == 0


def test_rows_of_a_process() -> None:
    second = Processes(rank=1, count=2)
    halves = ("training.batch_size=12", "training.accumulation=3", "objective.penalty_fraction=0.5")
    assert my_rows(compose_config(*halves), second) == slice(6, 12)
    with pytest.raises(
        UserError,
        match=r"objective.penalty_fraction=0.25 takes one sample in 4, but the batch is worked through 2 at a time "
        r"\(training.batch_size=12, 2 processes, training.accumulation=3\): change one, so that 4 divides",
    ):
        my_rows(compose_config(*halves[:2], "objective.penalty_fraction=0.25"), second)
    with pytest.raises(UserError, match="batch_size=12 over 2 processes is not divisible by training.accumulation=4"):
        my_rows(compose_config(halves[0], "training.accumulation=4"), second)


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


def test_objective_follows_the_configuration() -> None:
    names = ("penalty_fraction", "logit_centering_weight", "generator_alignment_weight", "consistency_weight")
    values = (0.25, 0.01, 0.5, 0.1)
    config = compose_config(*(f"objective.{name}={value}" for name, value in zip(names, values, strict=True)))
    objective = make_objective(config.objective, has_teacher=True)
    assert tuple(getattr(objective, name) for name in names) == values
