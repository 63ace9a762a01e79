"""What several tests build: settings, small autoencoders, image folders, and a machine without network."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from gat.config import AutoencoderConfig, DataConfig, LoaderConfig, TeacherConfig

CPU = torch.device("cpu")
LATENT_CHANNELS = 4
SCALING_FACTOR = 0.5


def autoencoder_config(**changes: Any) -> AutoencoderConfig:
    """A tiny autoencoder of factor 4 that trains in a blink."""
    config = AutoencoderConfig(
        kind="tiny",
        path=None,
        scale=None,
        encode_precision="fp32",
        channels=[8, 8, 16],
        latent_channels=LATENT_CHANNELS,
        train_images=32,
        batch_size=8,
        lr=2e-3,
        kl_weight=1e-3,
    )
    return replace(config, **changes)


def folder_config(root: Path, **changes: Any) -> DataConfig:
    """An image folder at 32 pixels."""
    config = DataConfig(
        source="image_folder",
        root=str(root),
        resolution_px=32,
        on_corrupt="error",
        image_format="webp",
        image_quality=None,
    )
    return replace(config, **changes)


def loader_config(**changes: Any) -> LoaderConfig:
    """All in memory, no worker processes."""
    return replace(LoaderConfig(workers=0, prefetch=2, memory_gb=1.0, device_gb=1.0), **changes)


def teacher_config(**changes: Any) -> TeacherConfig:
    """EfficientNet-Lite0 at 64 pixels."""
    config = TeacherConfig(
        name="tf_efficientnet_lite0", weights=None, input_px=64, layer=None, translation="exact", cache=False
    )
    return replace(config, **changes)


def random_autoencoder(levels: int = 3, layers_per_block: int = 1) -> AutoencoderKL:
    """An AutoencoderKL of few channels and random weights, factor 2^(levels - 1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoencoderKL(
            block_out_channels=(8,) * levels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=layers_per_block,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=4,
            scaling_factor=SCALING_FACTOR,
        )
    return model.requires_grad_(False).eval()


def random_images(count: int, side_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blurred colour noise (count, side, side, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, side_px // 4, side_px // 4, 3), np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def write_image_folder(root: Path, classes: Sequence[str] = ("a", "b", "c"), per_class: int = 4) -> Path:
    """PNG files ``root/class/0.png`` ... of 32 pixels; image i of all is ``random_images(...)[i]``."""
    images = random_images(len(classes) * per_class, 32)
    for i, pixels in enumerate(images):
        folder = root / classes[i // per_class]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i % per_class}.png")
    return root


def without_network(monkeypatch: pytest.MonkeyPatch, caches: Path, *, hub_knows: bool = True) -> list[str]:
    """Cut the network and the hub's cache off; returns the list to which attempts at a connection are added.

    ``hub_knows``: as with HF_HUB_OFFLINE=1, which spares the hub's client its attempts.
    """
    attempts: list[str] = []

    def refuse(*arguments: object, **_: object) -> NoReturn:
        attempts.append(str(arguments))
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", hub_knows)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(caches))
    monkeypatch.setenv("TORCH_HOME", str(caches))
    return attempts
