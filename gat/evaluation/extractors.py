"""Feature extractors behind torch-fidelity's interface: its own, and EfficientNet-Lite0, which needs no download."""

from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import MODEL_METADATA as CLIP
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from gat.data.autoencoder import frozen_digest
from gat.errors import UserError, first_line
from gat.evaluation.kinds import CLASSIFIER
from gat.files import sha256
from gat.state_dicts import AVERAGED, PLAIN, StateDict, listed, read_weights, state_in, tensors_only
from gat.teachers import efficientnet_lite0

EFFICIENTNET_PX = 64
EFFICIENTNET_NAME = "efficientnet-lite0"
METRICS = ("fid", "isc")  # of torch-fidelity: pooled features (also for KID, precision and recall) and class logits


class EfficientNetLite0(FeatureExtractorBase):
    """Pooled last features (1280) and class logits (1000) of the ImageNet-trained EfficientNet-Lite0.

    Images are resized (bicubic) to 64 pixels.
    """

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
        """``1280`` and ``logits``."""
        return ("1280", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """``logits`` for the Inception Score, ``1280`` for the others."""
        return "logits" if metric == "isc" else "1280"

    @staticmethod
    def can_be_compiled() -> bool:
        """Not compiled."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """One black image."""
        return torch.zeros(1, 3, EFFICIENTNET_PX, EFFICIENTNET_PX, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 images (B, 3, P, P) -> the features asked for: (B, 1280), (B, 1000)."""
        size = (EFFICIENTNET_PX, EFFICIENTNET_PX)
        x = F.interpolate(images.float() / 255, size=size, mode="bicubic", align_corners=False)
        features = self.model.forward_features((x - self.mean) / self.std)  # type: ignore[operator]
        given = {"1280": lambda: features.mean(dim=(2, 3)), "logits": lambda: self.model.forward_head(features)}  # type: ignore[operator]
        return tuple(given[layer]() for layer in self.features_list)


if EFFICIENTNET_NAME not in FEATURE_EXTRACTORS_REGISTRY:
    register_feature_extractor(EFFICIENTNET_NAME, EfficientNetLite0)


def make_extractor(
    name: str, weights: str | None, device: torch.device, metrics: tuple[str, ...] = ("fid",)
) -> FeatureExtractorBase:
    """A frozen extractor of torch-fidelity's registry that gives a tensor for each of ``metrics`` (of ``METRICS``).

    Raises :class:`UserError` for an unknown name, missing weights, or features that are no class logits.
    """
    require_extractor(name)
    layers = [FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric(metric) for metric in metrics]
    if len(set(layers)) < len(layers):
        raise UserError(f"extractor {name!r} gives no class logits, which the Inception Score needs: leave that out")
    state: StateDict = {}
    try:
        if weights is not None and name not in CLIP:
            _, state = state_in(read_weights(Path(weights)), (*PLAIN, *AVERAGED))
        given = _openais(name, weights) if name in CLIP else _copy_of(state)
        with nullcontext() if name in CLIP else tensors_only():
            extractor = create_feature_extractor(
                name, layers, cuda=device.type == "cuda", feature_extractor_weights_path=given, verbose=False
            )
    except Exception as error:  # downloads and unpickling each raise their own kinds
        there = f"; the keys of {weights} are {listed(state)}" if state else ""
        raise UserError(
            f"weights of evaluation.extractor={name!r} cannot be loaded ({first_line(error)}{there}): without network, set "
            "evaluation.extractor_weights=FILE, or use evaluation.extractor=efficientnet-lite0"
        ) from error
    return extractor


def _copy_of(state: StateDict) -> BytesIO | None:
    """Return ``state`` as a file in memory that torch-fidelity can load without running code; None if it is empty."""
    if not state:
        return None
    copy = BytesIO()
    torch.save(state, copy)
    copy.seek(0)
    return copy


def _openais(name: str, weights: str | None) -> str | None:
    """Return the file of a CLIP model; None if torch-fidelity is to download it.

    Raises :class:`UserError` for a file that is not OpenAI's, by SHA-256: it is TorchScript, which can run code when loaded.
    """
    digest = CLIP[name]["hash"]
    file = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / f"{name}-{digest}.pt"
    if weights is None and not file.exists():
        return None  # torch-fidelity checks the SHA-256 of its download
    if sha256(file) != digest:
        raise UserError(
            f"{file}: refused, as its SHA-256 is not that of OpenAI's file (TorchScript can run any code): download it again"
        )
    return str(file)


def require_extractor(name: str) -> None:
    """Raise :class:`UserError` unless it is the data set's classifier or in torch-fidelity's registry."""
    known = (CLASSIFIER, *FEATURE_EXTRACTORS_REGISTRY)
    if name not in known:
        raise UserError(f"evaluation.extractor={name!r} is unknown: choose one of {', '.join(known)}")


def extractor_tag(extractor: FeatureExtractorBase) -> str:
    """Return name and first digits of the weights' SHA-256: ``efficientnet-lite0@0123456789ab``."""
    return f"{extractor.get_name()}@{frozen_digest(extractor)[:12]}"
