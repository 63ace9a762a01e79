"""The autoencoder's own Fréchet distance: which images, against what, and computed once."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.config import EvaluationConfig
from gat.data.images import to_signed, to_uint8
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.extractors import make_extractor
from gat.evaluation.frechet import Statistics, feature_statistics, frechet_distance
from gat.evaluation.protocol import Protocol
from gat.evaluation.reconstruction import reconstruction_number, reconstructions
from gat.evaluation.reference import spread
from tests.conftest import compose_config
from tests.data_helpers import CPU, random_autoencoder
from tests.prepared import fake_prepared, random_arrays, write_prepared

COUNT = 24
EXTRACTOR = make_extractor("efficientnet-lite0", None, CPU)
NAME = "FD-EfficientNetLite0-{}-reconstruction"


class IdentityAutoencoder:
    """Latents are images. ``decoded``: how many it was given."""

    device, dtype, config = CPU, torch.float32, SimpleNamespace(block_out_channels=[3])

    def __init__(self) -> None:
        self.decoded = 0

    def decode(self, latents: Tensor) -> SimpleNamespace:
        self.decoded += len(latents)
        return SimpleNamespace(sample=latents)


def config(**changes: Any) -> EvaluationConfig:
    return replace(compose_config().evaluation, batch_size=7, **changes)


def metric(
    data: PreparedSet,
    reference: Statistics,
    autoencoder: IdentityAutoencoder,
    samples: int,
    compared: str = "real",
    **changes: Any,
) -> dict[str, float]:
    settings = config(samples=samples, **changes)
    protocol = Protocol(
        samples=min(samples, len(data)),
        decoder="own",
        truncation=0.0,
        to_uint8=settings.to_uint8,
        covariance=settings.covariance,
        labels="uniform",
        extractor="efficientnet-lite0@x",
        reference=compared,
        image_px=16,
    )
    given = (data, cast(AutoencoderKL, autoencoder), EXTRACTOR, reference, settings)
    number = reconstruction_number(*given, protocol)
    assert number.protocol == protocol
    return {number.name: number.value}


def real_images(data: PreparedSet, rows: Any) -> Tensor:
    return torch.from_numpy(data.images(rows)).permute(0, 3, 1, 2)


@pytest.fixture
def data(tmp_path: Path) -> PreparedSet:
    """A set whose posterior means are its images; the log-variances are noise, which must not matter."""
    images = random_arrays(COUNT, latent_side=16)[1]
    means = to_signed(images).numpy()
    logvars = np.random.default_rng(1).normal(size=means.shape)
    moments = np.concatenate([means, logvars], axis=1).astype(np.float16)
    return write_prepared(tmp_path, moments, images, np.arange(COUNT) % 2, part_rows=7)


@pytest.fixture
def reference(data: PreparedSet) -> Statistics:
    return feature_statistics([real_images(data, np.arange(COUNT))], EXTRACTOR)


@pytest.mark.parametrize(
    ("count", "wanted", "rows"), [(10, 4, [0, 2, 5, 7]), (3, 8, [0, 1, 2]), (6, 6, list(range(6)))]
)
def test_rows_are_spread_evenly(count: int, wanted: int, rows: list[int]) -> None:
    assert spread(count, wanted).tolist() == rows


def test_perfect_autoencoder_has_distance_zero(data: PreparedSet, reference: Statistics) -> None:
    metrics = metric(data, reference, IdentityAutoencoder(), samples=1000)
    assert list(metrics) == [NAME.format(COUNT)]  # named after the images there are
    assert metrics[NAME.format(COUNT)] == pytest.approx(0, abs=1e-4 * np.trace(reference.sigma))


def test_distance_of_some_images_equals_that_of_their_statistics(data: PreparedSet, reference: Statistics) -> None:
    some = feature_statistics([real_images(data, np.arange(8) * 3)], EXTRACTOR)
    expected = frechet_distance(some, reference)
    assert expected > 1e-2 * np.trace(reference.sigma)
    assert metric(data, reference, IdentityAutoencoder(), samples=8)[NAME.format(8)] == pytest.approx(
        expected, rel=1e-4
    )


def test_images_are_decoded_posterior_means_without_the_training_scale() -> None:
    data, model = fake_prepared(classes=2, latent_side=8), random_autoencoder()
    assert data.manifest.scale != 1
    images = torch.cat(list(reconstructions(data, model, np.array([1, 5, 6]), replace(config(), batch_size=2))))
    means = torch.from_numpy(data.moments([1, 5, 6])[:, :4]).float()
    assert images.float().std() > 0
    assert torch.equal(images, to_uint8(model.decode(means).sample))


def test_computed_once_per_number_and_reference(data: PreparedSet, reference: Statistics) -> None:
    first, later = IdentityAutoencoder(), IdentityAutoencoder()
    computed = metric(data, reference, first, samples=8)
    assert first.decoded == 8
    assert metric(data, reference, later, samples=8) == computed
    assert later.decoded == 0
    metric(data, reference, later, samples=12)
    assert later.decoded == 12
    moved = metric(data, Statistics(reference.mu + 1, reference.sigma), later, samples=8, compared="other")
    assert later.decoded == 20
    assert moved[NAME.format(8)] > computed[NAME.format(8)] + 100
    assert len(list(data.folder.glob("reconstruction-*.json"))) == 3


def test_kept_file_is_what_is_reported(data: PreparedSet, reference: Statistics) -> None:
    metric(data, reference, IdentityAutoencoder(), samples=8)
    (file,) = data.folder.glob("reconstruction-*.json")
    kept = json.loads(file.read_text())
    assert (kept["protocol"]["samples"], kept["protocol"]["reference"]) == (8, "real")
    file.write_text(json.dumps(kept | {"distance": 12.5}))
    assert metric(data, reference, IdentityAutoencoder(), samples=8) == {NAME.format(8): 12.5}
    for damaged in ("", "{}", '{"distance": null}'):
        file.write_text(damaged)
        with pytest.raises(UserError, match=r"reconstruction-.*\.json: cannot be read .*: delete it to have it"):
            metric(data, reference, IdentityAutoencoder(), samples=8)


def test_reference_of_other_features(data: PreparedSet) -> None:
    with pytest.raises(UserError, match="statistics of 1280 and 3 features cannot be compared"):
        metric(data, Statistics(np.zeros(3), np.eye(3)), IdentityAutoencoder(), samples=8)
    assert not list(data.folder.glob("reconstruction-*"))
