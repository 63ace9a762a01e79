"""Statistics of the real images: of all of them, computed once per extractor, unless a file gives others."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.config import EvaluationConfig
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.frechet import Statistics, save_statistics
from gat.evaluation.reference import reference_statistics
from tests.conftest import compose_config
from tests.data_helpers import CPU
from tests.prepared import random_arrays, write_prepared

COUNT = 24
IMAGES = random_arrays(COUNT, latent_side=4)[1]
FEATURES = IMAGES.astype(np.float64).mean(axis=(1, 2))  # (24, 3)


class MeanColour:
    """An extractor whose features are an image's mean colour. ``seen``: sizes of the batches it was given."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 16, 16)
        self.seen.append(len(images))
        return (images.double().mean(dim=(2, 3)),)


@pytest.fixture
def data(tmp_path: Path) -> PreparedSet:
    moments = random_arrays(COUNT, latent_side=4)[0]
    return write_prepared(tmp_path / "set", moments, IMAGES, np.arange(COUNT) % 3, part_rows=10)


@cache
def settings() -> EvaluationConfig:
    return replace(compose_config().evaluation, batch_size=7)


def statistics(data: PreparedSet, features: MeanColour, workers: int | None = 0, **changes: Any) -> Statistics:
    return reference_statistics(
        data, replace(settings(), **changes), cast(FeatureExtractorBase, features), CPU, workers
    )


@pytest.mark.parametrize("workers", [0, 2, None])
def test_statistics_of_all_images(data: PreparedSet, workers: int | None) -> None:
    extractor = MeanColour()
    computed = statistics(data, extractor, workers)
    assert extractor.seen == [7, 7, 7, 3]
    np.testing.assert_allclose(computed.mu, FEATURES.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(computed.sigma, np.cov(FEATURES, rowvar=False), rtol=1e-9)


def test_computed_once_per_extractor(data: PreparedSet) -> None:
    first, second, other = MeanColour(), MeanColour(), MeanColour()
    computed = statistics(data, first)
    again = statistics(data, second, batch_size=5, samples=3)
    assert second.seen == []
    assert np.array_equal(again.mu, computed.mu)
    assert np.array_equal(again.sigma, computed.sigma)
    statistics(data, other, extractor="inception-v3-compat")
    assert sum(other.seen) == COUNT
    kept = {file.name for file in data.folder.glob("reference-*")}
    assert kept == {"reference-efficientnet-lite0.npz", "reference-inception-v3-compat.npz"}


def test_given_file_wins(data: PreparedSet, tmp_path: Path) -> None:
    statistics(data, MeanColour())
    save_statistics(tmp_path / "given.npz", Statistics(np.arange(3.0), np.eye(3)))
    extractor = MeanColour()
    given = statistics(data, extractor, reference=str(tmp_path / "given.npz"))
    assert given.mu.tolist() == [0, 1, 2]
    assert given.sigma.tolist() == np.eye(3).tolist()
    assert extractor.seen == []


def test_given_file_that_is_missing(data: PreparedSet, tmp_path: Path) -> None:
    extractor = MeanColour()
    with pytest.raises(UserError, match=rf"^{tmp_path}/none\.npz: no reference statistics \("):
        statistics(data, extractor, reference=str(tmp_path / "none.npz"))
    assert extractor.seen == []
    assert not list(data.folder.glob("reference-*"))


def test_nothing_is_kept_of_an_attempt_that_failed(data: PreparedSet) -> None:
    class Failing(MeanColour):
        def __call__(self, images: Tensor) -> tuple[Tensor]:
            if self.seen:
                raise ZeroDivisionError
            return super().__call__(images)

    with pytest.raises(ZeroDivisionError):
        statistics(data, Failing())
    assert not list(data.folder.glob("reference-*"))
    assert sum(1 for _ in data.folder.glob(".reference-*")) == 1  # the lock
    extractor = MeanColour()
    statistics(data, extractor)
    assert sum(extractor.seen) == COUNT
