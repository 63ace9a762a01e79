"""Small networks in float64 that several tests share."""

from gat.models import Discriminator, Generator
from gat.models.generator import GeneratorDims
from gat.models.sizes import discriminator_dims, generator_dims
from gat.rng import seeded_init

CLASSES = 3
TEACHER_WIDTH = 6


def mini_generator(num_stages: int = 4, teacher_width: int = 0, aligned_block: int | None = None) -> Generator:
    """Size S of the mini family on 8x8x4 latents, patch 4; the same weights at every call."""
    dims = generator_dims(
        "mini",
        "S",
        patch=4,
        num_classes=CLASSES,
        latent_side=8,
        num_stages=num_stages,
        teacher_width=teacher_width,
        aligned_block=aligned_block,
    )
    with seeded_init(0):
        return Generator(dims).double()


def mini_discriminator(teacher_width: int = TEACHER_WIDTH) -> Discriminator:
    """Size S of the mini family on 8x8x4 latents, patch 4; the same weights at every call."""
    dims = discriminator_dims("mini", "S", patch=4, num_classes=CLASSES, latent_side=8, teacher_width=teacher_width)
    with seeded_init(1):
        return Discriminator(dims).double()


def dims_of(num_classes: int) -> GeneratorDims:
    """Dimensions of a generator of so many classes."""
    return generator_dims("mini", "S", patch=4, num_classes=num_classes, latent_side=8)
