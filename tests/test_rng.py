"""Draws are functions of (seed, purpose, step)."""

import torch

from gat.rng import make_generator, seeded_init


def draw(seed: int, purpose: str, step: int = 0) -> float:
    return float(torch.rand((), generator=make_generator(seed, purpose, step)))


def test_streams_repeat_and_differ() -> None:
    assert draw(1, "order", 2) == draw(1, "order", 2)
    assert len({draw(*key) for key in [(1, "order", 2), (2, "order", 2), (1, "step", 2), (1, "order", 3)]}) == 4


def test_initial_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    with seeded_init(3):
        first = torch.nn.Linear(4, 4)
    with seeded_init(3):
        second = torch.nn.Linear(4, 4)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.get_rng_state(), before)
