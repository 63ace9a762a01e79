"""Perceptual distances between images, by name (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features").

    lpips-alex          LPIPS with AlexNet, version 0.1: package ``lpips`` (optional) and torchvision's AlexNet
    efficientnet-lite0  the same idea without calibrated weights, and without a download:

        d(a, b) = mean over layers of mean over positions of |u_l(a) - u_l(b)|^2,   u_l = f_l / |f_l| over channels

f_l: the feature maps of ImageNet-trained EfficientNet-Lite0 at strides 2, 4, 8, 16 and 32. It lies between 0 and 4, is called
``EfficientNetLite0-perceptual``, and compares with no LPIPS. Images of less than 64 pixels are enlarged to 64 (bicubic), for
either: a map of one position sees no shapes.
Shapes: B batch, P image side in pixels, C channels and h, w sides of a feature map.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gat.errors import UserError, first_line, require_choice
from gat.state_dicts import tensors_only
from gat.teachers import efficientnet_lite0

DISTANCES = ("efficientnet-lite0", "lpips-alex")
LEAST_PX = 64
EPS = 1e-10
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET_FILE}"

Network = Callable[[Tensor], Sequence[Tensor]]
"""uint8 images (B, 3, P, P) -> feature maps (B, C, h, w), one per layer."""


class PerceptualDistance(Protocol):
    """A distance between images that is 0 for equal ones."""

    name: str
    """What numbers made with it are called."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """uint8 images a and b (B, 3, P, P) -> distances (B,), fp32."""
        ...


def load_distance(name: str, device: torch.device) -> PerceptualDistance:
    """The distance ``name`` (of ``DISTANCES``). :class:`UserError` for another name or weights that cannot be had."""
    require_choice("distance", name, DISTANCES)
    return EfficientNetDistance(device) if name == "efficientnet-lite0" else LPIPS(device)


class FeatureDistance:
    """Squared difference of channel-normalised features, averaged over positions, then over layers."""

    def __init__(self, name: str, network: Network) -> None:
        self.name, self.network = name, network

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """uint8 images a and b (B, 3, P, P) -> distances (B,)."""
        maps = zip(self.network(a), self.network(b), strict=True)
        layers = [(unit(f) - unit(g)).square().sum(dim=1).mean(dim=(1, 2)) for f, g in maps]
        return torch.stack(layers).mean(dim=0)


class EfficientNetDistance(FeatureDistance):
    """``EfficientNetLite0-perceptual``, see the top."""

    def __init__(self, device: torch.device) -> None:
        super().__init__("EfficientNetLite0-perceptual", self.features)
        self.model = efficientnet_lite0().to(device)
        config: Any = self.model.pretrained_cfg
        self.mean, self.std = (torch.tensor(config[key], device=device).view(3, 1, 1) for key in ("mean", "std"))

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """uint8 images (B, 3, P, P) -> five feature maps (B, C, h, w)."""
        x = (enlarged(images.float() / 255) - self.mean) / self.std
        maps: list[Tensor] = self.model.forward_intermediates(x, intermediates_only=True)  # type: ignore[operator]
        return maps


class LPIPS:
    """``LPIPS-AlexNet`` of package ``lpips``: calibrated weights are in the package, AlexNet's come from torchvision."""

    def __init__(self, device: torch.device) -> None:
        self.name = "LPIPS-AlexNet"
        try:
            package = importlib.import_module("lpips")
        except ImportError as error:
            raise UserError(
                f"distance=lpips-alex needs the package lpips ({first_line(error)}): install it by pip install lpips, or use "
                "distance=efficientnet-lite0"
            ) from error
        try:
            with tensors_only():
                model = package.LPIPS(net="alex", version="0.1", verbose=False)
            self.model: Any = model.to(device).requires_grad_(False)
        except Exception as error:  # downloads and unpickling each raise their own kinds
            raise UserError(
                f"AlexNet's weights for distance=lpips-alex cannot be had ({first_line(error)}): without network, fetch "
                f"{ALEXNET_URL} elsewhere and put it at {alexnet_file()}, or use distance=efficientnet-lite0"
            ) from error

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """uint8 images a and b (B, 3, P, P) -> distances (B,)."""
        x, y = (enlarged(images.float() / 127.5 - 1) for images in (a, b))
        distances: Tensor = self.model(x, y).flatten()
        return distances


def alexnet_file() -> Path:
    """Where torchvision looks for AlexNet's weights before it downloads them (see TORCH_HOME)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE


def unit(features: Tensor) -> Tensor:
    """Features (B, C, h, w) with unit norm over channels; zeros stay zeros."""
    return features / (features.norm(dim=1, keepdim=True) + EPS)


def enlarged(images: Tensor) -> Tensor:
    """Images (B, 3, P, P), resized (bicubic) to 64 pixels if they have less."""
    if images.shape[-1] >= LEAST_PX:
        return images
    return F.interpolate(images, size=(LEAST_PX, LEAST_PX), mode="bicubic", align_corners=False)
