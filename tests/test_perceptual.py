"""Perceptual distances: by hand on a toy network, and how they behave on photographs."""

import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from analysis import perceptual
from analysis.perceptual import (
    EfficientNetDistance,
    FeatureDistance,
    PerceptualDistance,
    alexnet_file,
    enlarged,
    load_distance,
    unit,
)
from gat.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Two photographs, 96 pixels: uint8 (2, 3, 96, 96)."""
    crops = [torch.from_numpy(photo[100:292:2, 200:392:2].copy()) for photo in load_sample_images().images]
    return torch.stack(crops).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def efficientnet() -> PerceptualDistance:
    return load_distance("efficientnet-lite0", CPU)


def noisy(images: Tensor, level: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + level * noise).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, width: int) -> Tensor:
    """By a box of odd ``width``."""
    return nn.functional.avg_pool2d(images.float(), width, 1, width // 2, count_include_pad=False).to(torch.uint8)


def test_by_hand() -> None:
    """One position, layers (3, 4) and (4, 3): (0.6, 0.8) and (0.8, 0.6) differ by 0.04 + 0.04 = 0.08 in square.

    A second layer of two positions: the same direction at one, right angles at the other: mean of 0 and 2. In all: 0.54.
    """
    features = {
        7: [torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([[5.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)],
        9: [torch.tensor([4.0, 3.0]).view(1, 2, 1, 1), torch.tensor([[2.0, 0.0], [0.0, 9.0]]).view(1, 2, 1, 2)],
    }
    distance = FeatureDistance("toy", lambda images: features[int(images[0, 0, 0, 0])])
    a, b = (torch.full((1, 3, 4, 4), value, dtype=torch.uint8) for value in (7, 9))
    assert distance(a, b).tolist() == pytest.approx([0.54])
    assert distance(a, a).tolist() == [0]
    assert distance.name == "toy"


def test_each_sample_has_its_own_distance() -> None:
    distance = FeatureDistance("toy", lambda images: [images.float()])
    a, b = torch.zeros(2, 3, 1, 1, dtype=torch.uint8), torch.zeros(2, 3, 1, 1, dtype=torch.uint8)
    a[:, 0], b[0, 0], b[1, 1] = 5, 200, 200
    assert distance(a, b).tolist() == [0, 2]


def test_zeros_stay_zeros() -> None:
    assert torch.equal(unit(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))


def test_zero_for_equal_images_and_symmetric(efficientnet: PerceptualDistance, photographs: Tensor) -> None:
    assert efficientnet(photographs, photographs).tolist() == [0, 0]
    there, back = efficientnet(photographs, photographs.flip(0)), efficientnet(photographs.flip(0), photographs)
    assert there.tolist() == pytest.approx(back.tolist(), rel=1e-6)
    assert 0 < there.min() <= there.max() < 4


def test_larger_for_larger_distortions(efficientnet: PerceptualDistance, photographs: Tensor) -> None:
    for distort, amounts in ((noisy, (5, 20, 60)), (blurred, (3, 7, 15))):
        distances = torch.stack([efficientnet(photographs, distort(photographs, amount)) for amount in amounts])
        assert (distances.diff(dim=0) > 0).all()
        assert (distances > 0.001).all()


def test_another_picture_is_farther_than_the_same_one_distorted(
    efficientnet: PerceptualDistance, photographs: Tensor
) -> None:
    """A shift of the grey levels by 12 is far in pixels, near in features."""
    brighter = (photographs.int() + 12).clamp(0, 255).to(torch.uint8)
    assert (efficientnet(photographs, brighter) < 0.3 * efficientnet(photographs, photographs.flip(0))).all()


def test_small_images_are_enlarged(efficientnet: PerceptualDistance, photographs: Tensor) -> None:
    assert enlarged(photographs.float()).shape[-1] == 96
    assert isinstance(efficientnet, EfficientNetDistance)
    small = photographs[..., ::3, ::3]
    assert [f.shape[-1] for f in efficientnet.features(small)] == [32, 16, 8, 4, 2]
    assert (efficientnet(small, blurred(small, 3)) > 0).all()


def test_names() -> None:
    assert EfficientNetDistance(CPU).name == "EfficientNetLite0-perceptual"
    with pytest.raises(UserError, match="distance='ssim' is unknown: choose one of efficientnet-lite0, lpips-alex"):
        load_distance("ssim", CPU)


def stored_alexnet() -> dict[str, Tensor]:
    """Random convolutions, and zeros of one number's size on disk for the classifier, which is not used."""
    from torchvision.models import alexnet

    state = alexnet(weights=None).state_dict()
    return {key: value if "features" in key else torch.zeros(()).expand(value.shape) for key, value in state.items()}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lpips_by_its_package(photographs: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With AlexNet's weights, here random ones, where torchvision looks for them."""
    pytest.importorskip("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    alexnet_file().parent.mkdir(parents=True)
    torch.save(stored_alexnet(), alexnet_file())
    distance = load_distance("lpips-alex", CPU)
    assert distance.name == "LPIPS-AlexNet"
    assert distance(photographs, photographs).tolist() == [0, 0]
    near, far = (distance(photographs, noisy(photographs, level)) for level in (5, 60))
    assert near.shape == (2,)
    assert (near > 0).all()
    assert (near < far).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(
        UserError, match=f"cannot be had .*put it at {tmp_path}/hub/checkpoints/alexnet-owt-7be5be79.pth"
    ):
        load_distance("lpips-alex", CPU)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(
        UserError, match="needs the package lpips .*pip install lpips, or use distance=efficientnet-lite0"
    ):
        perceptual.load_distance("lpips-alex", CPU)
