"""What the step benchmark measures, on what: sizes from a study, random inputs from a seed."""

from dataclasses import dataclass

import torch

from experiments.settings import StudyConfig
from gat.config import Config
from gat.errors import UserError
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.models.sizes import discriminator_dims, generator_dims, resized
from gat.objective.adversarial import TeacherTokens
from gat.platform import choose_device
from gat.rng import make_generator
from gat.training.noise import StepNoise, draw_noise
from gat.training.setup import augment_rates
from gat.training.step import Batch

Dims = tuple[GeneratorDims, DiscriminatorDims]


@dataclass(frozen=True)
class Bench:
    """What is measured, on what."""

    config: Config
    study: StudyConfig
    dims: Dims
    device: torch.device

    @property
    def teacher_width(self) -> int:
        """T; 0 without alignment."""
        return self.dims[1].teacher_width

    def inputs(self, step: int, batch_size: int) -> tuple[Batch, StepNoise]:
        """Random data and draws of a step."""
        generator = make_generator(self.config.training.seed, "benchmark", step, self.device)
        rates = augment_rates(self.config.objective)
        noise = draw_noise(self.config.training.seed, step, batch_size, self.dims[0], rates, self.device)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=self.device)

        side, channels = self.dims[0].latent_side, self.dims[0].channels
        labels = torch.randint(self.dims[0].num_classes, (batch_size,), generator=generator, device=self.device)
        tokens = None
        if self.teacher_width:
            tokens = TeacherTokens(
                normal(batch_size, self.teacher_width), normal(batch_size, self.dims[1].tokens, self.teacher_width)
            )
        return Batch(normal(batch_size, channels, side, side), labels, tokens), noise


def bench_of(config: Config, study: StudyConfig) -> Bench:
    """From settings; :class:`UserError` without a study, which says what latents and teacher are like."""
    if study.latent_side is None or study.num_classes is None or study.teacher_width is None:
        raise UserError(
            "benchmark.py step and evaluation need study=mini, cifar10 or imagenet256: it says how large latents are"
        )
    model = config.model
    shared = {
        "patch": model.patch,
        "num_classes": study.num_classes,
        "latent_side": study.latent_side,
        "channels": config.autoencoder.latent_channels,
        "num_stages": model.num_stages,
    }
    width = study.teacher_width if config.objective.alignment_weight and config.teacher.name else 0
    dims = (
        resized(generator_dims(model.family, model.size, teacher_width=0, **shared), model),
        resized(
            discriminator_dims(model.family, model.discriminator_size or model.size, teacher_width=width, **shared),
            model,
        ),
    )
    return Bench(config, study, dims, choose_device(config.training.device))
