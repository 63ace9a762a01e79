"""Paths in w: through the anchors on straight lines, decoded whatever the batch size, and how large their steps are."""

import pytest
import torch
from torch import Tensor

from gat.errors import UserError
from gat.models import Generator
from gat.rng import make_generator
from gat.samples.interpolation import Anchor, step_sizes, synthesize_path, w_path
from tests.data_helpers import random_autoencoder
from tests.helpers import CLASSES, mini_generator

ANCHORS = [Anchor(5, 0), Anchor(5, 2), Anchor(6, 1)]
FRAMES = 4
SCALE = 0.05  # enlarges the latents of the untrained networks until the images are full of contrast


@pytest.fixture(scope="module")
def generator() -> Generator:
    model = mini_generator()
    model.mean_w.normal_(generator=torch.Generator().manual_seed(0))
    return model


def style(generator: Generator, anchor: Anchor, truncation: float = 0.0) -> Tensor:
    z = torch.randn(1, 64, generator=make_generator(anchor.seed, "interpolation"))
    return generator.style(z, torch.tensor([anchor.label]), truncation)[0].detach()


def path_of(generator: Generator, *, closed: bool = False, truncation: float = 0.0, frames: int = FRAMES) -> Tensor:
    return w_path(generator, ANCHORS, frames, truncation, closed)


# paths


@pytest.mark.parametrize("truncation", [0.0, 0.3, 1.0])
def test_anchors_are_on_the_path(generator: Generator, truncation: float) -> None:
    w = path_of(generator, truncation=truncation)
    assert w.shape == (2 * FRAMES + 1, generator.dims.width)
    assert w.dtype == generator.mean_w.dtype
    for place, anchor in zip((0, FRAMES, 2 * FRAMES), ANCHORS, strict=True):
        assert torch.equal(w[place], style(generator, anchor, truncation))
    assert not w.requires_grad


def test_lines_are_straight(generator: Generator) -> None:
    w = path_of(generator)
    for start in (0, FRAMES):
        first, last = w[start], w[start + FRAMES]
        assert torch.allclose(w[start + 2], (first + last) / 2, rtol=0, atol=1e-14)
        assert torch.allclose(w[start + 1], 0.75 * first + 0.25 * last, rtol=0, atol=1e-14)
    corner = (w[FRAMES] - w[FRAMES - 1]) - (w[FRAMES + 1] - w[FRAMES])
    assert corner.norm() > 0.1  # the direction changes at an anchor


def test_closed_path_returns(generator: Generator) -> None:
    w, opened = path_of(generator, closed=True), path_of(generator)
    assert len(w) == 3 * FRAMES + 1
    assert torch.equal(w[: len(opened)], opened)
    assert torch.equal(w[-1], w[0])
    assert torch.allclose(w[-3], (w[0] + w[2 * FRAMES]) / 2, rtol=0, atol=1e-14)


def test_one_frame_per_line(generator: Generator) -> None:
    expected = torch.stack([style(generator, anchor) for anchor in ANCHORS])
    assert torch.equal(path_of(generator, frames=1), expected)


def test_an_anchor_depends_on_nothing_else(generator: Generator) -> None:
    """Not on the other anchors, nor on the global random state; and seed and class each say something."""
    w = path_of(generator)
    torch.manual_seed(123)
    alone = w_path(generator, [ANCHORS[2], ANCHORS[0]], 7, 0.0, False)
    assert torch.equal(alone[0], w[-1])
    assert torch.equal(alone[-1], w[0])
    seed, label = w_path(generator, [Anchor(6, 0), Anchor(5, 1)], 1, 0.0, False)
    assert all((other - w[0]).norm() > 0.1 for other in (seed, label))


def test_full_truncation_goes_from_mean_to_mean(generator: Generator) -> None:
    w = w_path(generator, [Anchor(1, 0), Anchor(2, 1)], 2, 1.0, False)
    means = generator.mean_w
    assert torch.allclose(w, torch.stack([means[0], (means[0] + means[1]) / 2, means[1]]), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("anchors", "frames", "truncation", "told"),
    [
        ([], 4, 0.0, r"a path needs at least 2 anchors \(seed, class\), not 0: name more"),
        ([Anchor(1, 1)], 4, 0.0, r"a path needs at least 2 anchors \(seed, class\), not 1: name more"),
        ([Anchor(1, 1), Anchor(2, CLASSES)], 4, 0.0, r"anchor \(2, 3\): class 3 must lie between 0 and 2"),
        ([Anchor(1, -1), Anchor(2, 1)], 4, 0.0, r"anchor \(1, -1\): class -1 must lie between 0 and 2"),
        ([Anchor(1, 1), Anchor(-2, 0)], 4, 0.0, r"anchor \(-2, 0\): seed -2 must be at least 0"),
        (ANCHORS, 0, 0.0, "frames=0 must be at least 1"),
        (ANCHORS, 4, 1.5, r"truncation=1\.5 must be a number from 0 \(off\) to 1"),
        (ANCHORS, 4, -0.1, r"truncation=-0\.1 must be a number from 0 \(off\) to 1"),
    ],
)
def test_paths_that_cannot_be(
    generator: Generator, anchors: list[Anchor], frames: int, truncation: float, told: str
) -> None:
    with pytest.raises(UserError, match=f"^{told}$"):
        w_path(generator, anchors, frames, truncation, closed=False)


# images


@pytest.fixture(scope="module")
def images(generator: Generator) -> Tensor:
    path = path_of(generator, closed=True)
    return synthesize_path(generator, random_autoencoder(), SCALE, path, conversion="rounded", batch_size=100)


def test_frames_are_the_decoded_last_stage(generator: Generator, images: Tensor) -> None:
    assert (images.shape, images.dtype) == ((3 * FRAMES + 1, 3, 32, 32), torch.uint8)
    w = style(generator, ANCHORS[1])[None]
    with torch.no_grad():
        decoded = random_autoencoder().decode(generator.synthesize(w)[3].float() / SCALE).sample[0]
    off = images[FRAMES].float() - (127.5 * decoded + 127.5).clamp(0, 255)
    assert off.abs().max() <= 0.5 + 1e-3
    assert images.float().std() > 20


def test_frames_do_not_depend_on_the_batch_size(generator: Generator, images: Tensor) -> None:
    path = path_of(generator, closed=True)
    for size in (1, 5):
        some = synthesize_path(generator, random_autoencoder(), SCALE, path, conversion="rounded", batch_size=size)
        assert (some.int() - images.int()).abs().max() <= 1


def test_conversion_is_followed(generator: Generator, images: Tensor) -> None:
    path = path_of(generator, closed=True)
    darker = synthesize_path(generator, random_autoencoder(), SCALE, path, conversion="truncated", batch_size=100)
    inside = (images > 0) & (images < 255)
    assert (images.float() - darker.float())[inside].mean() == pytest.approx(0.5, abs=0.05)


# smoothness


def test_step_sizes() -> None:
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    images[1] += 10  # all pixels by 10
    images[2] += 10
    images[2, 0, 0, 0] = 22  # one of twelve by 12
    images[3] = 255
    last = ((245**2 * 11 + 233**2) / 12) ** 0.5
    assert step_sizes(images).tolist() == pytest.approx([10, 12**0.5, last], rel=1e-12)
    assert step_sizes(images.flip(0)).tolist() == pytest.approx([last, 12**0.5, 10], rel=1e-12)  # uint8 does not wrap
    assert step_sizes(images[:1]).shape == (0,)


def test_finer_paths_have_smaller_steps(generator: Generator) -> None:
    """Twice as many frames: steps half as large, but for the rounding to grey levels; and none stands out."""
    sizes = []
    for frames in (1, 2, 20):
        path, autoencoder = path_of(generator, frames=frames), random_autoencoder()
        sizes.append(
            step_sizes(synthesize_path(generator, autoencoder, SCALE, path, conversion="rounded", batch_size=50))
        )
    assert sizes[0].min() > 2
    assert sizes[1].mean() == pytest.approx(float(sizes[0].mean()) / 2, rel=0.1)
    assert all(size.max() < 1.7 * size.min() for size in sizes)
    assert sizes[2].max() < sizes[1].min() / 2
