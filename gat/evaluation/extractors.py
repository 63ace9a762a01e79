"""Feature extractors behind torch-fidelity's interface: its own, and EfficientNet-Lite0, which needs no download."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from gat.errors import UserError
from gat.teachers import efficientnet_lite0

EFFICIENTNET_PX = 64
EFFICIENTNET_NAME = "efficientnet-lite0"
LABELS = {"inception-v3-compat": "FID", EFFICIENTNET_NAME: "FD-EfficientNetLite0"}


class EfficientNetLite0(FeatureExtractorBase):
    """Pooled last features (1280) of the ImageNet-trained EfficientNet-Lite0, images resized (bicubic) to 64 pixels."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        self.model = efficientnet_lite0()
        config = self.model.pretrained_cfg
        assert isinstance(config, dict)
        self.register_buffer("mean", torch.tensor(config["mean"]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(config["std"]).view(3, 1, 1))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The one layer, ``1280``."""
        return ("1280",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:  # noqa: ARG004
        """``1280`` for every metric."""
        return "1280"

    @staticmethod
    def can_be_compiled() -> bool:
        """Not compiled."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """One black image."""
        return torch.zeros(1, 3, EFFICIENTNET_PX, EFFICIENTNET_PX, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 images (B, 3, P, P) -> ((B, 1280),)."""
        size = (EFFICIENTNET_PX, EFFICIENTNET_PX)
        x = F.interpolate(images.float() / 255, size=size, mode="bicubic", align_corners=False)
        features = self.model.forward_features((x - self.mean) / self.std)  # type: ignore[operator]
        return (features.mean(dim=(2, 3)),)


if EFFICIENTNET_NAME not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor(EFFICIENTNET_NAME, EfficientNetLite0)


def make_extractor(name: str, weights: str | None, device: torch.device) -> FeatureExtractorBase:
    """A frozen extractor of torch-fidelity's registry; :class:`UserError` for an unknown name or missing weights."""
    if name not in FEATURE_EXTRACTORS_REGISTRY:
        raise UserError(
            f"evaluation.extractor={name!r} is unknown: choose one of {', '.join(FEATURE_EXTRACTORS_REGISTRY)}"
        )
    layer = FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric("fid")
    try:
        extractor = create_feature_extractor(
            name, [layer], cuda=device.type == "cuda", feature_extractor_weights_path=weights, verbose=False
        )
    except Exception as error:  # downloads and unpickling each raise their own kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"weights of evaluation.extractor={name!r} cannot be had ({reason}): without network set "
            "evaluation.extractor_weights=FILE, or use evaluation.extractor=efficientnet-lite0"
        ) from error
    return extractor


def distance_name(extractor: str, samples: int) -> str:
    """What the Fréchet distance of these features is called: ``FID`` for Inception alone, with the number of samples."""
    count = f"{samples // 1000}K" if samples % 1000 == 0 else str(samples)
    return f"{LABELS.get(extractor, f'FD-{extractor}')}-{count}"
