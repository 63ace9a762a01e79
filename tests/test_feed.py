"""From rows to batches: posterior samples by the step's noise, and tokens of the same rows as their latents will be seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gat import teachers
from gat.config import TeacherConfig
from gat.data.loader import ResidentLoader, StreamingLoader
from gat.data.order import TrainingOrder
from gat.data.prepared import PreparedSet
from gat.models.sizes import generator_dims
from gat.objective.adversarial import TeacherTokens
from gat.objective.augment import AugmentRates
from gat.teachers import CachedTokens, Teacher
from gat.training import feed as feed_module
from gat.training.feed import Feed
from gat.training.noise import StepNoise, draw_noise
from gat.training.step import Batch
from tests.data_helpers import CPU, loader_config, teacher_config
from tests.prepared import random_arrays, write_prepared

COUNT, BATCH, SIDE, PX = 22, 4, 8, 16  # five steps an epoch; a cell of the latents is two pixels of the image
DIMS = generator_dims("mini", "S", patch=4, num_classes=3, latent_side=SIDE)
MOMENTS, IMAGES = random_arrays(COUNT, SIDE, PX)
CLASSES = np.arange(COUNT, dtype=np.int64) % 3
FLIPS, ROW_SHIFTS, COLUMN_SHIFTS = [False, True, True, False], [0, 0, 1, -1], [0, 1, -1, 0]
LIVE, CACHED = teacher_config(name="pixels", input_px=PX), teacher_config(name="pixels", input_px=PX, cache=True)


class Pixels(nn.Module):
    """A network whose feature maps are its input, in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

    def forward_features(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture(autouse=True)
def teacher_that_sees_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (teachers, feed_module):
        monkeypatch.setattr(module, "load_teacher", lambda *_: Teacher(Pixels(), "pixels", PX, None))


@pytest.fixture
def data(tmp_path: Path) -> PreparedSet:
    return write_prepared(tmp_path, MOMENTS, IMAGES, CLASSES, part_rows=8)


def order() -> TrainingOrder:
    return TrainingOrder(COUNT, BATCH, seed=5)


def feed(data: PreparedSet, teacher: TeacherConfig | None, mine: slice = slice(0, BATCH), **loader: Any) -> Feed:
    return Feed(data, order(), mine, teacher, loader_config(**loader), CPU)


def noise_of(step: int) -> StepNoise:
    """The noise of a step, with flips and translations of our choice."""
    drawn = draw_noise(0, step, BATCH, DIMS, AugmentRates(), CPU)
    assert drawn.discriminator.augment_real is not None
    augment = replace(
        drawn.discriminator.augment_real,
        flip=torch.tensor(FLIPS),
        shift_rows=torch.tensor(ROW_SHIFTS),
        shift_columns=torch.tensor(COLUMN_SHIFTS),
    )
    return replace(drawn, discriminator=replace(drawn.discriminator, augment_real=augment))


def moved(image: NDArray[np.uint8], rows: int, columns: int, *, flip: bool) -> NDArray[np.float32]:
    """Tokens (256, 3) of an image shifted by ``rows`` and ``columns`` pixels, zeros coming in, then flipped."""
    padded = np.pad(image, ((PX, PX), (PX, PX), (0, 0)))[PX + rows : 2 * PX + rows, PX + columns : 2 * PX + columns]
    shown = padded[:, ::-1] if flip else padded
    return (shown.reshape(-1, 3) / 255).astype(np.float32)


def tokens_of(batch: Batch) -> TeacherTokens:
    assert batch.teacher is not None
    return batch.teacher


# latents


@pytest.mark.parametrize("step", [0, 3, 7])
def test_latents_are_posterior_samples_of_the_rows_of_the_step(data: PreparedSet, step: int) -> None:
    noise, rows = noise_of(step), order().rows(step)
    batch = feed(data, None).batch(step, noise)
    mean, logvar = MOMENTS[rows].astype(np.float64)[:, :4], MOMENTS[rows].astype(np.float64)[:, 4:]
    expected = (mean + np.exp(logvar / 2) * noise.posterior.numpy()) * 0.5
    assert batch.real.dtype == torch.float32
    np.testing.assert_allclose(batch.real.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert batch.labels.tolist() == CLASSES[rows].tolist()


@pytest.mark.parametrize("teacher", [None, teacher_config(name=None), teacher_config(name=None, cache=True)])
def test_without_a_teacher_there_are_no_tokens(data: PreparedSet, teacher: TeacherConfig | None) -> None:
    without = feed(data, teacher)
    assert without.teacher is None
    assert without.teacher_width == 0
    assert without.batch(0, noise_of(0)).teacher is None


# tokens


@pytest.mark.parametrize(
    ("translation", "row_pixels", "column_pixels"),
    [("exact", [0, 0, 2, -2], [0, 2, -2, 0]), ("as_released", [0, 0, 0, -1], [0, 0, -1, 0])],
)
def test_live_tokens_follow_translations_and_flips(
    data: PreparedSet, translation: str, row_pixels: list[int], column_pixels: list[int]
) -> None:
    live = feed(data, replace(LIVE, translation=translation))
    assert isinstance(live.teacher, Teacher)
    assert live.teacher_width == 3
    for step in (2, 6):
        tokens = tokens_of(live.batch(step, noise_of(step)))
        images = IMAGES[order().rows(step)]
        expected = np.stack(
            [
                moved(image, rows, columns, flip=flip)
                for image, rows, columns, flip in zip(images, row_pixels, column_pixels, FLIPS, strict=True)
            ]
        )
        np.testing.assert_allclose(tokens.patches.numpy(), expected, atol=1e-6)
        np.testing.assert_allclose(tokens.cls.numpy(), expected.mean(axis=1), atol=1e-5)


def test_cached_tokens_follow_flips_by_row(data: PreparedSet) -> None:
    cached = feed(data, CACHED)
    assert isinstance(cached.teacher, CachedTokens)
    assert cached.teacher_width == 3
    for step in (2, 6):
        tokens = tokens_of(cached.batch(step, noise_of(step)))
        images = IMAGES[order().rows(step)]
        expected = np.stack([moved(image, 0, 0, flip=flip) for image, flip in zip(images, FLIPS, strict=True)])
        np.testing.assert_allclose(tokens.patches.numpy(), expected, atol=5e-4)  # half precision
        np.testing.assert_allclose(tokens.cls.numpy(), expected.mean(axis=1), atol=5e-4)


def test_images_are_held_only_for_a_live_teacher(data: PreparedSet) -> None:
    for teacher, held in ((LIVE, True), (CACHED, False), (None, False)):
        loader = feed(data, teacher).loader
        assert isinstance(loader, ResidentLoader)
        assert (loader.images is not None) == held


# whoever reads


def equal(a: Batch, b: Batch) -> bool:
    same = torch.equal(a.real, b.real) and torch.equal(a.labels, b.labels)
    if a.teacher is None or b.teacher is None:
        return same and a.teacher is b.teacher
    tokens = torch.equal(a.teacher.patches, b.teacher.patches)
    return same and tokens and torch.equal(a.teacher.cls, b.teacher.cls)


@pytest.mark.parametrize("teacher", [None, LIVE, CACHED])
@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_gives_the_same_batches(data: PreparedSet, teacher: TeacherConfig | None, workers: int) -> None:
    resident, streaming = feed(data, teacher), feed(data, teacher, memory_gb=0.0, workers=workers)
    assert isinstance(resident.loader, ResidentLoader)
    assert isinstance(streaming.loader, StreamingLoader)
    for step in (3, 4, 5, 6, 0):
        noise = noise_of(step)
        assert equal(streaming.batch(step, noise), resident.batch(step, noise)), step


@pytest.mark.parametrize("teacher", [None, LIVE, CACHED])
def test_processes_share_the_batch(data: PreparedSet, teacher: TeacherConfig | None) -> None:
    whole, halves = feed(data, teacher), (slice(0, 2), slice(2, 4))
    parts = [feed(data, teacher, mine) for mine in halves]
    for step in (4, 5):
        batch = whole.batch(step, noise_of(step))
        for part, mine in zip(parts, halves, strict=True):
            assert equal(part.batch(step, noise_of(step).rows(mine)), batch.rows(mine))
