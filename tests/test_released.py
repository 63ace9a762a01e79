"""The release's habits change how a step is computed, not what it computes."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from experiments.benchmarks.released import ALL, NONE, Habits, step_with_habits, with_habits
from gat.models import Discriminator
from gat.models.discriminator import DiscriminatorOutput
from gat.objective.adversarial import Objective, TeacherTokens
from gat.objective.augment import AugmentRates
from gat.training.noise import draw_noise
from gat.training.step import Batch, Networks, training_step
from tests.test_step import SETTINGS, make_networks

TEACHER_WIDTH = 8
OBJECTIVE = Objective(penalty_fraction=0.5)


def advanced(habits: Habits | None) -> Networks:
    """Networks after three steps in float64, with ``habits`` or (None) as training does."""
    torch.manual_seed(0)
    networks = make_networks(torch.float64, TEACHER_WIDTH)
    networks = networks if habits is None else with_habits(networks, habits)
    settings = replace(SETTINGS, objective=OBJECTIVE)
    device = torch.device("cpu")
    for step in range(3):
        noise = draw_noise(0, step, 6, networks.generator.dims, AugmentRates(), device)
        generator = torch.Generator().manual_seed(step)
        tokens = [torch.randn(6, *shape, TEACHER_WIDTH, generator=generator) for shape in ((), (4,))]
        real = torch.randn(6, 4, 8, 8, generator=generator, dtype=torch.float64)
        batch = Batch(real, torch.tensor([0, 1, 1, 2, 0, 1]), TeacherTokens(*tokens))
        if habits is None:
            training_step(networks, batch, noise, settings)
        else:
            step_with_habits(networks, batch, noise, settings, habits)
    return networks


@pytest.fixture(scope="module")
def expected() -> Networks:
    return advanced(None)


@pytest.mark.parametrize("name", [*(field.name for field in fields(Habits)), "all", "none"])
def test_equal_results(name: str, expected: Networks) -> None:
    habits = {"all": ALL, "none": NONE}.get(name) or Habits(**{name: True})
    found = advanced(habits)
    for network in ("generator", "discriminator", "ema"):
        theirs = getattr(expected, network).state_dict()
        for key, value in getattr(found, network).state_dict().items():
            assert torch.allclose(value, theirs[key], rtol=1e-7, atol=1e-10), (network, key)


def test_habits_are_really_on(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = make_networks(torch.float64, TEACHER_WIDTH)
    changed = with_habits(networks, ALL)
    assert changed.generator.checkpointing == "full"
    assert changed.generator_optimizer is not networks.generator_optimizer
    calls: list[int] = []
    forward = type(networks.discriminator).forward

    def counting(self: Discriminator, stages: Tensor, labels: Tensor, project_rows: int) -> DiscriminatorOutput:
        calls.append(len(labels))
        return forward(self, stages, labels, project_rows=project_rows)

    monkeypatch.setattr(type(networks.discriminator), "forward", counting)
    noise = draw_noise(0, 0, 6, networks.generator.dims, AugmentRates(), torch.device("cpu"))
    batch = Batch(torch.randn(6, 4, 8, 8, dtype=torch.float64), torch.zeros(6, dtype=torch.long), None)
    settings = replace(SETTINGS, objective=Objective(alignment_weight=0.0))
    for habits, expected_calls in ((ALL, [6] * 6), (NONE, [24, 6, 6])):
        calls.clear()
        step_with_habits(changed, batch, noise, settings, habits)
        assert calls == expected_calls


def first_update(habits: Habits | None, *, bf16: bool) -> Tensor:
    """What the first step changes in the weights of both networks, in fp32 but for autocast."""
    networks = make_networks(torch.float32, TEACHER_WIDTH)
    networks = networks if habits is None else with_habits(networks, habits)
    settings = replace(SETTINGS, objective=OBJECTIVE, bf16=bf16)
    noise = draw_noise(0, 0, 6, networks.generator.dims, AugmentRates(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(6, *shape, TEACHER_WIDTH, generator=generator) for shape in ((), (4,))]
    batch = Batch(torch.randn(6, 4, 8, 8, generator=generator), torch.arange(6) % 3, TeacherTokens(*tokens))
    both = (networks.generator, networks.discriminator)
    before = [p.detach().clone() for network in both for p in network.parameters()]
    if habits is None:
        training_step(networks, batch, noise, settings)
    else:
        step_with_habits(networks, batch, noise, settings, habits)
    after = [p.detach() for network in both for p in network.parameters()]
    return torch.cat([(b - a).flatten() for a, b in zip(before, after, strict=True)])


def test_in_bf16_within_its_noise() -> None:
    """The habits move the first update no further than bf16 itself moves it from fp32's."""
    exact, ours, theirs = first_update(None, bf16=False), first_update(None, bf16=True), first_update(ALL, bf16=True)
    noise = float((ours - exact).norm())
    assert 0 < noise < float(exact.norm())
    assert float((ours - theirs).norm()) <= 1.1 * noise
