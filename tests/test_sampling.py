"""Samples: inputs as a function of the seed, and images that do not depend on the batch size."""

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.errors import UserError
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.models import Generator
from gat.models.sizes import generator_dims
from gat.rng import seeded_init
from tests.data_helpers import random_autoencoder
from tests.helpers import dims_of

COUNT, CLASSES = 11, 3
SCALE = 0.05  # enlarges the latents of the untrained networks until the images are full of contrast


@pytest.fixture(scope="module")
def generator() -> Generator:
    with seeded_init(0):
        model = Generator(generator_dims("mini", "S", patch=4, num_classes=CLASSES, latent_side=8))
    model.mean_w.normal_(generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderKL:
    return random_autoencoder()


def sampled(
    generator: Generator, autoencoder: AutoencoderKL, truncation: float = 0.0, batch_size: int = COUNT
) -> list[Tensor]:
    z, labels = draw_inputs(COUNT, dims_of(CLASSES), 0, "balanced")
    made = sample_images(
        generator, autoencoder, SCALE, z, labels, truncation=truncation, conversion="rounded", batch_size=batch_size
    )
    return list(made)


# inputs


def test_inputs_are_a_function_of_the_seed() -> None:
    first = draw_inputs(COUNT, dims_of(CLASSES), 5, "uniform")
    torch.manual_seed(123)  # the global state has no say
    again, other = (
        draw_inputs(COUNT, dims_of(CLASSES), 5, "uniform"),
        draw_inputs(COUNT, dims_of(CLASSES), 6, "uniform"),
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_inputs_are_standard_normal() -> None:
    z, labels = draw_inputs(2000, dims_of(CLASSES), 0, "uniform")
    assert z.shape == (2000, 64)
    assert labels.dtype == torch.int64
    assert float(z.mean()) == pytest.approx(0, abs=0.01)  # of 128,000 numbers: 3.6 standard errors
    assert float(z.std()) == pytest.approx(1, abs=0.01)


def test_balanced_labels_come_in_turn() -> None:
    z, labels = draw_inputs(COUNT, dims_of(CLASSES), 0, "balanced")
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
    assert torch.bincount(labels).tolist() == [4, 4, 3]
    assert torch.equal(z, draw_inputs(COUNT, dims_of(CLASSES), 0, "uniform")[0])


def test_uniform_labels_are_drawn() -> None:
    labels = draw_inputs(3000, dims_of(CLASSES), 0, "uniform")[1]
    counts = torch.bincount(labels)
    assert len(counts) == CLASSES
    assert (counts - 1000).abs().max() < 110  # 4 standard deviations
    assert counts.tolist() != [1000] * CLASSES


def test_unknown_labels() -> None:
    with pytest.raises(UserError, match=r"evaluation\.labels='random' is unknown: choose one of uniform, balanced"):
        draw_inputs(COUNT, dims_of(CLASSES), 0, "random")


# images


def test_images_are_the_decoded_last_stage(generator: Generator, autoencoder: AutoencoderKL) -> None:
    (images,) = sampled(generator, autoencoder)
    z, labels = draw_inputs(COUNT, dims_of(CLASSES), 0, "balanced")
    with torch.no_grad():
        decoded = autoencoder.decode(generator(z, labels)[3] / SCALE).sample
    assert images.dtype == torch.uint8
    assert images.shape == (COUNT, 3, 32, 32)
    inside = decoded.abs() < 1
    assert inside.float().mean() > 0.1
    off = images[inside].float() - (decoded[inside] + 1) * 127.5
    assert off.abs().max() <= 0.5 + 1e-3
    assert (images[decoded > 1] == 255).all()
    assert (images[decoded < -1] == 0).all()
    assert images.float().std() > 20
    assert not images.requires_grad


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_images_do_not_depend_on_the_batch_size(
    generator: Generator, autoencoder: AutoencoderKL, batch_size: int
) -> None:
    batches = sampled(generator, autoencoder, batch_size=batch_size)
    expected = {1: [1] * COUNT, 4: [4, 4, 3], 100: [COUNT]}
    assert [len(batch) for batch in batches] == expected[batch_size]
    (at_once,) = sampled(generator, autoencoder)
    assert (torch.cat(batches).int() - at_once.int()).abs().max() <= 1


def test_full_truncation_leaves_one_image_per_class(generator: Generator, autoencoder: AutoencoderKL) -> None:
    (images,) = sampled(generator, autoencoder, truncation=1.0)
    for label in range(CLASSES):
        assert (images[label::CLASSES].int() - images[label].int()).abs().max() <= 1
    assert (images[0].int() - images[1].int()).abs().max() > 10
    (free,) = sampled(generator, autoencoder)
    assert (free[0].int() - free[3].int()).abs().max() > 10


@pytest.mark.parametrize("labels", ["uniform", "balanced"])
def test_fewer_samples_are_the_first_of_more(labels: str) -> None:
    few, many = draw_inputs(50, dims_of(CLASSES), 5, labels), draw_inputs(500, dims_of(CLASSES), 5, labels)
    assert all(torch.equal(a, b[:50]) for a, b in zip(few, many, strict=True))
