"""Cached tokens of a teacher: equal to the live ones, computed once, one cache per teacher."""

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from gat import teachers
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.rng import seeded_init
from gat.teachers import CachedTokens, Teacher, cached_tokens, load_teacher
from tests.data_helpers import CPU, loader_config, random_images, teacher_config
from tests.prepared import random_arrays, write_prepared

COUNT, PX = 12, 32
CNN = "test_efficientnet"  # timm's own small model
IMAGES = random_images(COUNT, PX)
ANYWHERE = torch.device("meta")  # a device other than the CPU that every machine has


@pytest.fixture(scope="module")
def lite0() -> Teacher:
    return load_teacher(teacher_config(), CPU)


@pytest.fixture
def data(tmp_path: Path) -> PreparedSet:
    moments = random_arrays(COUNT, latent_side=8)[0]
    return write_prepared(tmp_path / "set", moments, IMAGES, np.arange(COUNT) % 3, part_rows=5)


def refuse(*arguments: object) -> NoReturn:
    pytest.fail("the teacher was loaded again")


# opening and computing


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_tokens_equal_live_ones(
    data: PreparedSet, lite0: Teacher, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "CACHE_BATCH", 5)  # a last batch of 2
    monkeypatch.setattr(teachers, "load_teacher", lambda *_: lite0)
    cached = cached_tokens(data, teacher_config(), loader_config(workers=workers), CPU)
    rows, flip = torch.tensor([7, 0, 11, 7]), torch.tensor([False, True, True, True])
    images = torch.from_numpy(IMAGES)[rows]
    live = lite0(torch.where(flip[:, None, None, None], images.flip(2), images))
    tokens = cached.tokens(rows, flip)
    assert cached.width == 1280
    for ours, expected in ((tokens.cls, live.cls), (tokens.patches, live.patches)):
        assert ours.dtype == torch.float32
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(tokens.cls[0], tokens.cls[3], atol=1e-2)  # the same image, mirrored


def test_tokens_are_computed_once(data: PreparedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_tokens(data, teacher_config(), loader_config(), CPU)
    monkeypatch.setattr(teachers, "load_teacher", refuse)
    second = cached_tokens(data, teacher_config(), loader_config(), CPU)
    assert torch.equal(second.cls, first.cls)
    assert torch.equal(second.patches, first.patches)
    assert not [f for f in data.folder.iterdir() if f.name.startswith(".") and f.suffix != ".lock"]


def test_nothing_is_left_of_an_attempt_that_failed(data: PreparedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(data.folder.iterdir())

    def fail(self: Teacher, images: Tensor) -> NoReturn:
        raise ZeroDivisionError

    teacher = load_teacher(teacher_config(), CPU)
    monkeypatch.setattr(teachers, "load_teacher", lambda *_: teacher)
    monkeypatch.setattr(Teacher, "forward", fail)
    with pytest.raises(ZeroDivisionError):
        cached_tokens(data, teacher_config(), loader_config(), CPU)
    assert {file.suffix for file in set(data.folder.iterdir()) - before} == {".lock"}


def test_other_teachers_have_other_caches(data: PreparedSet, tmp_path: Path) -> None:
    weights = {}
    for side, seed in (("left", 1), ("right", 2)):
        (tmp_path / side).mkdir()
        weights[side] = str(tmp_path / side / "model.safetensors")
        with seeded_init(seed):
            save_file(timm.create_model(CNN).state_dict(), weights[side])
    config = teacher_config(name=CNN, weights=weights["left"])
    settings = [
        config,
        replace(config, weights=weights["right"]),
        replace(config, layer=1),
        replace(config, input_px=32),
    ]
    kept = [cached_tokens(data, each, loader_config(), CPU).cls[0, 0, :8] for each in settings]
    for i in range(len(kept)):
        for j in range(i):
            assert not torch.allclose(kept[i], kept[j]), (i, j)


@pytest.mark.parametrize("part", ["cls", "patches"])
def test_damaged_cache(data: PreparedSet, part: str) -> None:
    cached_tokens(data, teacher_config(), loader_config(), CPU)
    (file,) = data.folder.glob(f"teacher-*-{part}.npy")
    for damaged in (file.read_bytes()[:-1], b""):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cls\.npy or .*patches\.npy cannot be read .*: delete both$"):
            cached_tokens(data, teacher_config(), loader_config(), CPU)


def test_small_caches_are_held_on_the_device(data: PreparedSet) -> None:
    size = 2 * COUNT * (1 + 4) * 1280 * 2 / 1e9
    cached_tokens(data, teacher_config(), loader_config(), CPU)
    for device_gb, place in ((1.001 * size, ANYWHERE), (0.999 * size, CPU)):
        cached = cached_tokens(data, teacher_config(), loader_config(device_gb=device_gb), ANYWHERE)
        assert cached.cls.device == cached.patches.device == place
        tokens = cached.tokens(torch.tensor([1, 2]), torch.tensor([True, False]))
        assert tokens.cls.device == tokens.patches.device == ANYWHERE


# looking up


def test_tokens_by_row_and_flip() -> None:
    """Row r of the plain images holds r, of the mirrored ones 10 + r."""
    cls = torch.tensor([[[0], [1], [2]], [[10], [11], [12]]], dtype=torch.float16)
    cached = CachedTokens(cls, cls[..., None].expand(-1, -1, 4, -1), CPU)
    tokens = cached.tokens(torch.tensor([2, 0, 2, 1]), torch.tensor([False, False, True, True]))
    assert tokens.cls.flatten().tolist() == [2, 0, 12, 11]
    assert tokens.patches.shape == (4, 4, 1)
    assert tokens.patches[:, 3, 0].tolist() == [2, 0, 12, 11]
