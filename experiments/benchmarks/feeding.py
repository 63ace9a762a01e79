"""What reaches a step besides random numbers: latents drawn from posteriors, and the teacher's tokens of the real images.

Weights and images are random, as neither changes how long the arithmetic takes. Reading from disk is ``benchmark.py data``'s.
"""

from dataclasses import dataclass

import timm
import torch
from torch import Tensor

from experiments.benchmarks.bench import Bench
from gat.data.autoencoder import sample_latents
from gat.data.loader import Rows
from gat.objective.adversarial import TeacherTokens
from gat.rng import make_generator
from gat.teachers import CachedTokens, Teacher, sized_for
from gat.training.feed import teacher_tokens
from gat.training.noise import StepNoise

CACHED_IMAGES = 4096


@dataclass(frozen=True)
class RandomFeed:
    """The teacher with random weights (or random cached tokens), and random rows for it."""

    bench: Bench
    teacher: Teacher | CachedTokens | None
    rows: Rows

    def latents(self, noise: StepNoise) -> Tensor:
        """(B, C, H, H), drawn from posteriors."""
        return sample_latents(self.rows.moments, noise.posterior, 1.0)

    def tokens(self, noise: StepNoise) -> TeacherTokens | None:
        """The teacher's, of images augmented as their latents are; None without alignment."""
        if self.teacher is None:
            return None
        augment = noise.discriminator.augment_real
        assert augment is not None
        side, translation = self.bench.dims[0].latent_side, self.bench.config.teacher.translation
        return teacher_tokens(self.teacher, self.rows, augment, side, translation)


def random_feed(bench: Bench) -> RandomFeed:
    """For the batch, teacher and image size of the configuration."""
    config, dims, device = bench.config, bench.dims[0], bench.device
    generator = make_generator(config.training.seed, "benchmark feed", 0, device)
    size, px, side = config.training.batch_size, config.data.resolution_px, dims.latent_side
    teacher = random_teacher(bench) if bench.teacher_width else None
    images = None
    if isinstance(teacher, Teacher):
        images = torch.randint(256, (size, px, px, 3), generator=generator, device=device).to(torch.uint8)
    rows = Rows(
        rows=torch.randint(CACHED_IMAGES, (size,)),
        moments=torch.randn(size, 2 * dims.channels, side, side, generator=generator, device=device).half(),
        labels=torch.zeros(size, dtype=torch.long, device=device),
        images=images,
    )
    return RandomFeed(bench, teacher, rows)


def random_teacher(bench: Bench) -> Teacher | CachedTokens:
    """The configured one, without its weights; cached, if it is, for some thousand images."""
    config = bench.config.teacher
    assert config.name is not None
    model = timm.create_model(config.name, pretrained=False, **sized_for(config.name, config.input_px)).to(bench.device)
    model.requires_grad_(False).eval()
    teacher = Teacher(model, config.name, config.input_px, config.layer, config.precision)
    if not config.cache:
        return teacher
    cls, patches = (2, CACHED_IMAGES, teacher.width), (2, CACHED_IMAGES, teacher.tokens, teacher.width)
    cls_tokens, patch_tokens = (torch.randn(shape, device=bench.device).half() for shape in (cls, patches))
    return CachedTokens(cls_tokens, patch_tokens, bench.device)
