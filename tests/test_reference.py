"""The real images: statistics of all of them, computed once per extractor and weights; or a file's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.extractors import extractor_tag
from gat.evaluation.frechet import Statistics
from gat.evaluation.reference import PreparedReference, open_reference
from gat.evaluation.statistics_file import save_statistics
from tests.data_helpers import CPU
from tests.prepared import random_arrays, write_prepared

COUNT = 24
IMAGES = random_arrays(COUNT, latent_side=4)[1]
FEATURES = IMAGES.astype(np.float64).mean(axis=(1, 2))  # (24, 3)


class MeanColour(FeatureExtractorBase):
    """Features are an image's mean colour times a weight. ``seen``: sizes of the batches it was given."""

    def __init__(self, name: str = "colour", weight: float = 1.0) -> None:
        super().__init__(name, ["3"])
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64), requires_grad=False)
        self.seen: list[int] = []

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("3",)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 16, 16)
        self.seen.append(len(images))
        return (images.double().mean(dim=(2, 3)) * self.weight,)


@pytest.fixture
def data(tmp_path: Path) -> PreparedSet:
    moments = random_arrays(COUNT, latent_side=4)[0]
    return write_prepared(tmp_path / "set", moments, IMAGES, np.arange(COUNT) % 3, part_rows=10)


def adm_file(folder: Path, side: int = 16) -> Path:
    """As ADM's: statistics that are not those of the images beside them."""
    images = IMAGES if side == 16 else np.zeros((2, side, side, 3), np.uint8)
    np.savez(folder / "adm.npz", mu=np.arange(3.0), sigma=np.eye(3), arr_0=images, arr_1=np.zeros(len(images)))
    return folder / "adm.npz"


@pytest.mark.parametrize("workers", [0, 2, None])
def test_statistics_of_all_images(data: PreparedSet, workers: int | None) -> None:
    extractor = MeanColour()
    computed = PreparedReference(data, 7, CPU, workers).statistics(extractor)
    assert extractor.seen == [7, 7, 7, 3]
    np.testing.assert_allclose(computed.mu, FEATURES.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(computed.sigma, np.cov(FEATURES, rowvar=False), rtol=1e-9)


def test_computed_once_per_extractor_and_weights(data: PreparedSet) -> None:
    first, second, other, heavier = MeanColour(), MeanColour(), MeanColour("other"), MeanColour(weight=2)
    computed = PreparedReference(data, 7, CPU).statistics(first)
    again = PreparedReference(data, 5, CPU).statistics(second)
    assert second.seen == []
    assert np.array_equal(again.mu, computed.mu)
    assert np.array_equal(again.sigma, computed.sigma)
    assert PreparedReference(data, 7, CPU).statistics(heavier).mu == pytest.approx(2 * computed.mu)
    PreparedReference(data, 7, CPU).statistics(other)
    assert sum(other.seen) == COUNT
    kept = {file.name for file in data.folder.glob("reference-*")}
    assert kept == {f"reference-{extractor_tag(e)}.npz" for e in (first, other, heavier)}
    assert len(kept) == 3


def test_some_images_are_spread_over_the_set(data: PreparedSet) -> None:
    some = torch.cat(list(PreparedReference(data, 4, CPU).images(6)))
    assert np.array_equal(some.permute(0, 2, 3, 1).numpy(), IMAGES[::4])
    assert len(torch.cat(list(PreparedReference(data, 7, CPU).images(1000)))) == COUNT


def test_a_files_statistics_are_its_extractors_and_its_images_anyones(data: PreparedSet, tmp_path: Path) -> None:
    own, other = MeanColour(), MeanColour("other")
    reference = open_reference(data, str(adm_file(tmp_path)), "colour", 7, CPU)
    assert reference.image_px == 16
    assert reference.statistics(own).mu.tolist() == [0, 1, 2]
    assert own.seen == []
    np.testing.assert_allclose(reference.statistics(other).mu, FEATURES.mean(axis=0), rtol=1e-12)
    assert np.array_equal(
        torch.cat(list(reference.images(10))).permute(0, 2, 3, 1).numpy(), IMAGES[np.arange(10) * 24 // 10]
    )


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    for name, mean in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        save_statistics(tmp_path / f"{name}.npz", Statistics(np.full(3, mean), np.eye(3)))
    a, b, c = (open_reference(None, str(tmp_path / f"{n}.npz"), "colour", 7, CPU).name for n in "abc")
    assert a == b != c


def test_a_file_without_images(tmp_path: Path) -> None:
    save_statistics(tmp_path / "bare.npz", Statistics(np.arange(3.0), np.eye(3)))
    reference = open_reference(None, str(tmp_path / "bare.npz"), "colour", 7, CPU)
    assert reference.image_px is None
    with pytest.raises(UserError, match=r"bare\.npz: holds colour's statistics but no images \(arr_0\), which KID"):
        reference.statistics(MeanColour("other"))


def test_given_file_that_is_missing(data: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{tmp_path}/none\.npz: no reference statistics \("):
        open_reference(data, str(tmp_path / "none.npz"), "colour", 7, CPU)
    assert not list(data.folder.glob("reference-*"))


def test_nothing_to_compare_with() -> None:
    with pytest.raises(UserError, match=r"nothing to compare with: give evaluation\.reference=FILE\.npz"):
        open_reference(None, None, "colour", 7, CPU)


def test_nothing_is_kept_of_an_attempt_that_failed(data: PreparedSet) -> None:
    class Failing(MeanColour):
        def forward(self, images: Tensor) -> tuple[Tensor]:
            if self.seen:
                raise ZeroDivisionError
            return super().forward(images)

    with pytest.raises(ZeroDivisionError):
        PreparedReference(data, 7, CPU).statistics(Failing())
    assert not list(data.folder.glob("reference-*"))
    assert sum(1 for _ in data.folder.glob(".reference-*")) == 1  # the lock
    extractor = MeanColour()
    PreparedReference(data, 7, CPU).statistics(extractor)
    assert sum(extractor.seen) == COUNT
