"""Feature extractors: EfficientNet-Lite0 inside torch-fidelity, names of distances, and weights that cannot be had."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from gat.errors import UserError
from gat.evaluation.extractors import EFFICIENTNET_NAME, EfficientNetLite0, extractor_tag, make_extractor
from gat.evaluation.frechet import feature_statistics, frechet_distance
from gat.teachers import load_teacher
from tests.data_helpers import CPU, random_images, teacher_config, without_network


class Images(Dataset[Tensor]):
    """Random uint8 images (3, 32, 32)."""

    def __init__(self, count: int, seed: int) -> None:
        self.pixels = torch.from_numpy(random_images(count, 32, seed)).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


def test_registered_in_torch_fidelity() -> None:
    assert FEATURE_EXTRACTORS_REGISTRY[EFFICIENTNET_NAME] is EfficientNetLite0
    extractor = make_extractor("efficientnet-lite0", None, CPU)
    assert isinstance(extractor, EfficientNetLite0)
    assert extractor.get_name() == "efficientnet-lite0"
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not any(module.training for module in extractor.modules())


@pytest.mark.parametrize("side_px", [32, 64, 96])
def test_features_are_the_teachers_mean_token(side_px: int) -> None:
    """At 64 pixels the teacher resizes, normalises and averages alike."""
    images = torch.from_numpy(random_images(3, side_px))
    (features,) = make_extractor(EFFICIENTNET_NAME, None, CPU)(images.permute(0, 3, 1, 2))
    assert features.shape == (3, 1280)
    torch.testing.assert_close(features, load_teacher(teacher_config(input_px=64), CPU)(images).cls)


def test_torch_fidelity_computes_our_distance() -> None:
    a, b = Images(24, seed=1), Images(16, seed=2)
    theirs = calculate_metrics(
        input1=a,
        input2=b,
        fid=True,
        feature_extractor=EFFICIENTNET_NAME,
        batch_size=8,
        cuda=False,
        save_cpu_ram=True,
        verbose=False,
    )["frechet_inception_distance"]
    extractor = make_extractor(EFFICIENTNET_NAME, None, CPU)
    first, second = (feature_statistics(s.pixels.split(5), extractor) for s in (a, b))
    ours = frechet_distance(first, second)
    assert ours > 1
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_class_logits_are_those_of_timms_model() -> None:
    """Resized and normalised by hand; the image of a daisy would be recognised, random ones only compared."""
    images = torch.from_numpy(random_images(2, 64)).permute(0, 3, 1, 2)
    extractor = make_extractor(EFFICIENTNET_NAME, None, CPU, ("fid", "isc"))
    pooled, logits = extractor(images)
    assert isinstance(extractor, EfficientNetLite0)
    x = (images.float() / 255 - extractor.mean) / extractor.std
    torch.testing.assert_close(logits, extractor.model(x))
    assert (pooled.shape, logits.shape) == ((2, 1280), (2, 1000))


def test_features_without_class_logits() -> None:
    with pytest.raises(UserError, match="'clip-vit-b-32' gives no class logits, which the Inception Score needs"):
        make_extractor("clip-vit-b-32", None, CPU, ("fid", "isc"))


def test_tag_follows_the_weights() -> None:
    tag = extractor_tag(make_extractor(EFFICIENTNET_NAME, None, CPU))
    assert tag == extractor_tag(make_extractor(EFFICIENTNET_NAME, None, CPU))
    other = make_extractor(EFFICIENTNET_NAME, None, CPU)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    assert extractor_tag(other) != tag
    assert tag.startswith("efficientnet-lite0@")
    assert len(tag.partition("@")[2]) == 12


def test_unknown_extractor() -> None:
    with pytest.raises(
        UserError, match=r"extractor='inception' is unknown: choose one of .*compat.*efficientnet-lite0"
    ):
        make_extractor("inception", None, CPU)


def test_missing_weights_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = without_network(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"evaluation\.extractor='inception-v3-compat' cannot be loaded \(.*\)") as told:
        make_extractor("inception-v3-compat", None, CPU)
    assert "set evaluation.extractor_weights=FILE, or use evaluation.extractor=efficientnet-lite0" in str(told.value)
    assert "\n" not in str(told.value)
    assert attempts


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_weights_file_missing_or_damaged(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "inception.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"weights of evaluation\.extractor='inception-v3-compat' cannot be loaded"):
        make_extractor("inception-v3-compat", str(file), CPU)
