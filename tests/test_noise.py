"""The draws of a step are a function of seed and step alone, with the documented shapes."""

import torch

from gat.models.sizes import generator_dims
from gat.objective.augment import AugmentRates
from gat.training.noise import StepNoise, draw_noise

DIMS = generator_dims("mini", "S", patch=4, num_classes=3, latent_side=8)


def noise(seed: int, step: int) -> StepNoise:
    return draw_noise(seed, step, 6, DIMS, AugmentRates(), torch.device("cpu"))


def test_shapes() -> None:
    drawn = noise(0, 0)
    assert drawn.z.shape == (6, 64)
    assert drawn.posterior.shape == drawn.penalty.real.shape == (6, 4, 8, 8)
    stages = (drawn.discriminator.real, drawn.discriminator.fake, drawn.generator.real, drawn.penalty.fake)
    assert {s.shape for s in stages} == {(4, 6, 4, 8, 8)}


def test_function_of_seed_and_step() -> None:
    first, again = noise(1, 2), noise(1, 2)
    assert torch.equal(first.generator.fake, again.generator.fake)
    assert not torch.equal(first.z, noise(1, 3).z)
    assert not torch.equal(first.z, noise(2, 2).z)


def test_no_draw_is_used_twice() -> None:
    drawn = noise(0, 0)
    tensors = [drawn.discriminator.real, drawn.discriminator.fake, drawn.generator.real, drawn.generator.fake]
    tensors += [drawn.penalty.fake]
    values = torch.cat([t.flatten() for t in tensors] + [drawn.z.flatten(), drawn.posterior.flatten()])
    assert len(values.unique()) > 0.999 * len(values)
