"""Every random draw of one training step, as a function of (seed, step)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gat.models.generator import GeneratorDims
from gat.objective.adversarial import PairNoise, PenaltyNoise
from gat.objective.augment import AugmentRates, draw_params
from gat.rng import make_generator


@dataclass(frozen=True)
class StepNoise:
    """Draws of one step: ``z`` (B, z_dim), ``posterior`` unit normals (B, C, H, H), and those of each network's step."""

    z: Tensor
    posterior: Tensor
    discriminator: PairNoise
    penalty: PenaltyNoise
    generator: PairNoise

    def rows(self, selection: slice) -> "StepNoise":
        """The draws of some of the samples."""
        return StepNoise(
            z=self.z[selection],
            posterior=self.posterior[selection],
            discriminator=self.discriminator.rows(selection),
            penalty=self.penalty.rows(selection),
            generator=self.generator.rows(selection),
        )


def draw_noise(
    seed: int, step: int, batch: int, dims: GeneratorDims, rates: AugmentRates, device: torch.device
) -> StepNoise:
    """Draw the noise of the whole batch of ``step`` on ``device``, from a generator derived from (seed, step)."""
    generator = make_generator(seed, "step", step, device)
    image = (batch, dims.channels, dims.latent_side, dims.latent_side)
    stages = (dims.num_stages, *image)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def pair() -> PairNoise:
        augments = [draw_params(batch, dims.latent_side, rates, generator) for _ in range(2)]
        return PairNoise(normal(*stages), normal(*stages), *augments)

    return StepNoise(
        z=normal(batch, dims.z_dim),
        posterior=normal(*image),
        discriminator=pair(),
        penalty=PenaltyNoise(normal(*image), normal(*stages)),
        generator=pair(),
    )
