"""Loaders: the rows of every step as the order says, whoever reads them, and which loader suits which set."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gat.data.loader import (
    Loader,
    ResidentLoader,
    Rows,
    StepReader,
    StreamingLoader,
    image_batches,
    open_loader,
)
from gat.data.order import TrainingOrder
from gat.data.parts import REMEDY, part_file
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from tests.data_helpers import CPU, loader_config
from tests.prepared import random_arrays, write_prepared
from tests.test_workers import error_of

COUNT, BATCH, SEED = 22, 4, 5  # five steps an epoch, two images left over
ALL = slice(0, BATCH)
MOMENTS, IMAGES = random_arrays(COUNT, latent_side=4)
CLASSES = np.arange(COUNT, dtype=np.int64) % 3
ANYWHERE = torch.device("meta")  # a device other than the CPU that every machine has

MakeLoader = Callable[..., Loader]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """Parts of 8, 8 and 6 samples."""
    return write_prepared(tmp_path_factory.mktemp("set"), MOMENTS, IMAGES, CLASSES, part_rows=8)


def order(count: int = COUNT) -> TrainingOrder:
    return TrainingOrder(count, BATCH, SEED)


def resident(data: PreparedSet, mine: slice = ALL, *, images: bool = True) -> Loader:
    return ResidentLoader(data, order(), mine, CPU, CPU, 0, images=images)


def resident_by_workers(data: PreparedSet, mine: slice = ALL, *, images: bool = True) -> Loader:
    return ResidentLoader(data, order(), mine, CPU, CPU, 2, images=images)


def streaming(data: PreparedSet, mine: slice = ALL, *, images: bool = True) -> Loader:
    return StreamingLoader(StepReader(data, order(), mine, images=images), CPU, 0, 3)


def streaming_by_workers(data: PreparedSet, mine: slice = ALL, *, images: bool = True) -> Loader:
    return StreamingLoader(StepReader(data, order(), mine, images=images), CPU, 2, 3)


ALL_LOADERS = pytest.mark.parametrize("make", [resident, resident_by_workers, streaming, streaming_by_workers])


def check(given: Rows, rows: NDArray[np.int64], *, images: bool = True) -> None:
    assert given.rows.tolist() == rows.tolist()
    assert (given.moments.dtype, given.labels.dtype) == (torch.float16, torch.int64)
    assert np.array_equal(given.moments.numpy(), MOMENTS[rows])
    assert given.labels.tolist() == CLASSES[rows].tolist()
    if images:
        assert given.images is not None
        assert np.array_equal(given.images.numpy(), IMAGES[rows])
    else:
        assert given.images is None


# rows of a step


@ALL_LOADERS
def test_rows_of_every_step_as_the_order_says(data: PreparedSet, make: MakeLoader) -> None:
    """Over three epochs; from each the last two images are dropped."""
    loader = make(data)
    batches = [loader.batch(step) for step in range(15)]
    for step, batch in enumerate(batches):
        check(batch, order().rows(step))
    for epoch in range(3):
        rows = torch.cat([batch.rows for batch in batches[5 * epoch : 5 * epoch + 5]])
        assert len(rows.unique()) == 20


@ALL_LOADERS
def test_any_step_first_and_any_after_it(data: PreparedSet, make: MakeLoader) -> None:
    loader = make(data)
    for step in (7, 8, 2, 3, 3, 0, 11):
        check(loader.batch(step), order().rows(step))


@ALL_LOADERS
def test_ranks_share_the_batch(data: PreparedSet, make: MakeLoader) -> None:
    ranks = [make(data, mine) for mine in (slice(0, 2), slice(2, 4))]
    for step in (4, 5, 6):
        halves = [rank.batch(step) for rank in ranks]
        for half, rows in zip(halves, (order().rows(step)[:2], order().rows(step)[2:]), strict=True):
            check(half, rows)
        assert len(torch.cat([half.rows for half in halves]).unique()) == BATCH


@ALL_LOADERS
def test_images_only_where_they_are_needed(data: PreparedSet, make: MakeLoader) -> None:
    check(make(data, images=False).batch(3), order().rows(3), images=False)


@ALL_LOADERS
def test_batches_may_be_written_to(data: PreparedSet, make: MakeLoader) -> None:
    """What is given away is nobody else's."""
    loader = make(data)
    first = loader.batch(0)
    assert first.images is not None
    for values in (first.rows, first.moments, first.labels, first.images):
        values.zero_()
    check(loader.batch(0), order().rows(0))
    assert np.array_equal(data.labels, CLASSES)


# streaming


def test_workers_end_with_what_they_read(data: PreparedSet) -> None:
    before = set(multiprocessing.active_children())
    loader = streaming_by_workers(data)
    loader.batch(0)
    first = set(multiprocessing.active_children()) - before
    assert len(first) == 2
    loader.batch(1)
    assert set(multiprocessing.active_children()) - before == first  # read on
    loader.batch(9)
    second = set(multiprocessing.active_children()) - before
    assert len(second) == 2
    assert not second & first
    del loader
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_met_on_the_way_is_told(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gat.data.prepared.CHECKED_BYTES", 0)
    data = write_prepared(tmp_path, MOMENTS, IMAGES, CLASSES, part_rows=8)
    file = part_file(tmp_path, 1)
    file.write_bytes(b"x" * file.stat().st_size)
    loader = StreamingLoader(StepReader(PreparedSet(data.folder), order(), ALL, images=False), CPU, workers, 1)
    error = error_of(lambda: [loader.batch(step) for step in range(5)])
    assert type(error) is UserError
    assert str(error).startswith(f"{file}: not the part that its manifest lists (")
    assert str(error).endswith(REMEDY)


# which loader


SIZE, SIZE_WITH_IMAGES = COUNT * 8 * 4 * 4 * 2 / 1e9, COUNT * (8 * 4 * 4 * 2 + 16 * 16 * 3) / 1e9  # GB


@pytest.mark.parametrize(("images", "size"), [(False, SIZE), (True, SIZE_WITH_IMAGES)])
def test_small_sets_are_resident_and_large_ones_streamed(data: PreparedSet, images: bool, size: float) -> None:
    fits, larger = loader_config(memory_gb=1.001 * size), loader_config(memory_gb=0.999 * size)
    assert isinstance(open_loader(data, order(), ALL, CPU, fits, images=images), ResidentLoader)
    assert isinstance(open_loader(data, order(), ALL, CPU, larger, images=images), StreamingLoader)


@pytest.mark.parametrize(("images", "size"), [(False, SIZE), (True, SIZE_WITH_IMAGES)])
def test_the_smallest_are_held_on_the_device(data: PreparedSet, images: bool, size: float) -> None:
    for device_gb, place in ((1.001 * size, ANYWHERE), (0.999 * size, CPU)):
        loader = open_loader(data, order(), ALL, ANYWHERE, loader_config(device_gb=device_gb), images=images)
        assert isinstance(loader, ResidentLoader)
        assert loader.moments.device == loader.labels.device == place
        assert (loader.images is not None) == images
        assert loader.images is None or loader.images.device == place
        batch = loader.batch(0)
        assert {batch.moments.device, batch.labels.device} == {ANYWHERE}
        assert batch.rows.device == CPU
        assert batch.rows.tolist() == order().rows(0).tolist()


def test_settings_reach_the_loader(data: PreparedSet) -> None:
    mine, config = slice(2, 4), loader_config(memory_gb=0.0, workers=2, prefetch=7)
    loader = open_loader(data, order(), mine, CPU, config, images=True)
    assert isinstance(loader, StreamingLoader)
    assert (loader.workers, loader.prefetch) == (2, 7)
    check(loader.batch(6), order().rows(6)[2:])
    unset = open_loader(data, order(), mine, CPU, loader_config(memory_gb=0.0, workers=None), images=False)
    assert isinstance(unset, StreamingLoader)
    assert unset.workers == 0  # of 22 images
    check(unset.batch(6), order().rows(6)[2:], images=False)


# images alone


@pytest.mark.parametrize("workers", [0, 2, None])
@pytest.mark.parametrize(("batch_size", "sizes"), [(3, [3, 3, 2]), (8, [8]), (100, [8]), (1, [1] * 8)])
def test_batches_of_images_in_the_order_of_the_rows(
    data: PreparedSet, workers: int | None, batch_size: int, sizes: list[int]
) -> None:
    rows = np.array([21, 0, 8, 7, 7, 16, 3, 15])
    batches = list(image_batches(data, rows, batch_size, workers))
    assert [len(batch) for batch in batches] == sizes
    assert np.array_equal(torch.cat(batches).numpy(), IMAGES[rows])
