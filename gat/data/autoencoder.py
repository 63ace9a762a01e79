"""The KL autoencoder between images and latents: diffusers' AutoencoderKL, pretrained or tiny and trained on the source.

Shapes: B batch, P image side in pixels, C latent channels, H latent side.
"""

import hashlib
from collections.abc import Sized
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn

from gat.config import AutoencoderConfig
from gat.data.images import to_signed
from gat.errors import UserError, first_line
from gat.platform import one_thread
from gat.progress import Progress
from gat.rng import make_generator, seeded_init
from gat.state_dicts import diffusers_file
from gat.tensors import writing_weights

LOGVAR_RANGE = (-30.0, 20.0)
SCALE_SAMPLES = 4096
NORM_GROUPS = 8
MOST_ELEMENTS = 2**31 - 1  # some kernels count in 32 bits: reached by 128 images of 256 pixels in SD's decoder
OWN = "autoencoder"  # folder of the tiny autoencoder inside a prepared set
DIGESTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class Images(Sized, Protocol):
    """uint8 images by rows: an array (count, P, P, 3), or something that makes them when they are asked for."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Images (n, P, P, 3) of ``rows`` (n,)."""
        ...


def load_autoencoder(path: str, setting: str = "autoencoder.path", remedy: str | None = None) -> AutoencoderKL:
    """Load a frozen AutoencoderKL by hub name or from a local folder.

    Raises :class:`UserError` if it cannot be loaded; ``remedy`` ends the message (None: set ``setting`` to a folder).
    """
    stored = diffusers_file(Path(path)) if Path(path).is_dir() else None
    how: dict[str, Any] = {"variant": stored[1] if stored else None, "low_cpu_mem_usage": False}
    try:
        model, loaded = AutoencoderKL.from_pretrained(path, output_loading_info=True, **how)
    except Exception as error:  # the hub's client, the network and the file formats each raise their own kinds
        fetch = (
            "without network, put its config.json and diffusion_pytorch_model.safetensors into a folder and set "
            f"{setting}=FOLDER"
        )
        raise UserError(f"autoencoder {path!r} cannot be loaded ({first_line(error)}): {remedy or fetch}") from error
    if loaded["missing_keys"]:  # diffusers leaves them at random values
        raise UserError(
            f"autoencoder {path!r}: its weights lack {loaded['missing_keys'][0]} ({len(loaded['missing_keys'])} in all): "
            f"{remedy or 'they belong to another config.json; fetch both again'}"
        )
    return model.requires_grad_(False).eval()


def load_own_autoencoder(folder: Path) -> AutoencoderKL:
    """Load the tiny autoencoder of the prepared set in ``folder``; :class:`UserError` if it is damaged."""
    again = f"start the same command again; if it fails again, restore the file, or delete {folder} to prepare it again"
    return load_autoencoder(str(folder / OWN), remedy=again)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def frozen_digest(model: nn.Module) -> str:
    """Return :func:`weights_digest` of a network whose weights no longer change, computed once."""
    if model not in DIGESTS:
        DIGESTS[model] = weights_digest(model)
    return DIGESTS[model]


@torch.no_grad()
def encode_moments(model: AutoencoderKL, images: Tensor, *, bf16: bool = False) -> Tensor:
    """images (B, 3, P, P) in [-1, 1] -> posterior mean and log-variance, unscaled, fp32 (B, 2C, H, H)."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        return model.encode(images.to(model.device, model.dtype)).latent_dist.parameters.float()


def sample_latents(moments: Tensor, noise: Tensor, scale: float) -> Tensor:
    """Draw from the posterior: moments (B, 2C, H, H), unit normals (B, C, H, H) -> latents (B, C, H, H), times ``scale``."""
    mean, logvar = moments.float().chunk(2, dim=1)
    return (mean + torch.exp(0.5 * logvar.clamp(*LOGVAR_RANGE)) * noise) * scale


@torch.no_grad()
def decode(model: AutoencoderKL, latents: Tensor, scale: float) -> Tensor:
    """Latents (B, C, H, H) -> images (B, 3, P, P), about [-1, 1].

    As many at a time as leave the decoder's tensors, the largest of which have its second level's channels at full
    resolution, below :data:`MOST_ELEMENTS`.
    """
    channels: list[int] = model.config.block_out_channels
    side = latents.shape[-1] * 2 ** (len(channels) - 1)
    most = max(1, MOST_ELEMENTS // (channels[:2][-1] * side**2))
    parts = (latents / scale).to(model.device, model.dtype).split(most)
    return torch.cat([model.decode(part).sample for part in parts])


@one_thread()
def train_tiny_autoencoder(images: Images, config: AutoencoderConfig, seed: int, device: torch.device) -> AutoencoderKL:
    """Train a tiny AutoencoderKL on ``images``; its ``scaling_factor`` gives latents unit variance.

    Loss per image: sum of squared errors + kl_weight * KL. Adam under the one-cycle rule. On the CPU in one thread, so that
    the weights, and with them all latents, do not depend on how many a machine or a job has.
    """
    with seeded_init(seed):
        model = build_tiny(config).to(device)
    steps = max(1, config.train_images // config.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    warm_up = 0.1 if steps > 10 else 0.0  # PyTorch divides by zero where it is one step long
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.lr, total_steps=steps, pct_start=warm_up)
    generator = make_generator(seed, "autoencoder")
    model.train()
    progress = Progress(range(steps), desc="autoencoder", unit="step")
    for _ in progress:
        rows = torch.randint(len(images), (config.batch_size,), generator=generator)
        target = to_signed(images[rows.numpy()]).to(device)
        posterior = model.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        output = model.decode(posterior.mean + posterior.std * noise).sample
        error = F.mse_loss(output, target)
        loss = error * target[0].numel() + config.kl_weight * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        schedule.step()
        if progress.n % 10 == 0:
            progress.set_postfix(mse=f"{error.item():.4f}", refresh=False)
    model.requires_grad_(False).eval()
    first = np.arange(min(len(images), SCALE_SAMPLES))
    batches = (first[i : i + config.batch_size] for i in range(0, len(first), config.batch_size))
    means = torch.cat([encode_moments(model, to_signed(images[rows])).chunk(2, dim=1)[0] for rows in batches])
    model.register_to_config(scaling_factor=1 / means.std().item())
    return model


def check_tiny(config: AutoencoderConfig) -> None:
    """Raise :class:`UserError` for channels or training settings that a tiny autoencoder cannot have."""
    if not (config.train_images and config.lr):
        raise UserError(
            f"autoencoder.train_images={config.train_images} and autoencoder.lr={config.lr} cannot train the tiny "
            "autoencoder: set both above 0"
        )
    if not config.channels or any(c % NORM_GROUPS for c in config.channels):
        raise UserError(f"autoencoder.channels={config.channels} must be multiples of {NORM_GROUPS}, one per level")


def build_tiny(config: AutoencoderConfig) -> AutoencoderKL:
    """Build an untrained AutoencoderKL, one layer per block, with ``config.channels``; raises as :func:`check_tiny`."""
    check_tiny(config)
    levels = len(config.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=tuple(config.channels),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=NORM_GROUPS,
        mid_block_add_attention=False,
    )


def save_autoencoder(model: AutoencoderKL, folder: Path) -> None:
    """Write the model in diffusers' own layout."""
    with writing_weights(folder):
        model.save_pretrained(folder, safe_serialization=True)
