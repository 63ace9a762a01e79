"""Every group of the configuration composes into the typed classes; the paper's run has the paper's numbers."""

import dataclasses

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import MISSING

from experiments.settings import CONF
from gat.config import Config
from tests.conftest import compose_config

GROUPS = {field.name for field in dataclasses.fields(Config)}
CHOICES = sorted(f"{f.parent.name}={f.stem}" for f in CONF.glob("*/*.yaml") if f.parent.name in GROUPS)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    overrides = [choice]
    if "root: ???" in (CONF / f"{choice.replace('=', '/')}.yaml").read_text():
        overrides.append("data.root=/somewhere")
    config = compose_config(*overrides)
    group = getattr(config, choice.split("=")[0])
    values = dataclasses.asdict(group)
    assert MISSING not in values.values()


def test_paper_run() -> None:
    config = compose_config(
        "model=gat", "model.size=XL", "data=imagenet256", "data.root=/imagenet", "autoencoder=sd_vae_mse",
        "teacher=dinov2", "objective=gat", "optim=gat", "training=imagenet", "evaluation=corrected",
    )  # fmt: skip
    assert (config.training.batch_size, config.training.total_steps, config.training.precision) == (512, 50_000, "bf16")
    assert (config.optim.beta1, config.optim.beta2, config.optim.eps, config.optim.ema_decay) == (0, 0.99, 1e-8, 0.999)
    assert (config.objective.penalty_weight, config.objective.penalty_sigma) == (0.1, 0.01)
    assert dataclasses.astuple(config.objective.augment) == (0.5, 1.0, 1.0, 0.4)
    assert (config.autoencoder.scale, config.teacher.input_px, config.evaluation.samples) == (0.18215, 224, 50_000)


@pytest.mark.parametrize("override", ["training.batch_size=many", "model.sise=S", "data=cifar"])
def test_mistyped_overrides_are_refused(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        compose_config(override)
