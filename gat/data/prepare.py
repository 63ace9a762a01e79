"""Preparation: source images -> centre crops -> posterior moments, written once and then found again.

The folder appears under its final name only when it is whole.
"""

import hashlib
import json
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from tqdm import tqdm

from gat.config import AutoencoderConfig, DataConfig
from gat.data.autoencoder import encode_moments, load_autoencoder, save_autoencoder, train_tiny_autoencoder
from gat.data.images import center_crop, to_signed
from gat.data.prepared import FORMAT_VERSION, MANIFEST, Manifest, PreparedSet
from gat.data.sources import CorruptImageError, ImageSource, open_source
from gat.errors import UserError, require_choice
from gat.files import one_at_a_time

AUTOENCODER_SEED = 0
PRETRAINED_FIELDS = ("path", "scale")
TINY_FIELDS = ("scale", "channels", "latent_channels", "train_images", "batch_size", "lr", "kl_weight")


def identity(data: DataConfig, autoencoder: AutoencoderConfig) -> dict[str, Any]:
    """The settings that change what is prepared."""
    fields = TINY_FIELDS if autoencoder.kind == "tiny" else PRETRAINED_FIELDS
    settings = asdict(autoencoder)
    root = str(Path(data.root).resolve()) if data.root else None
    return {
        "data": asdict(data) | {"root": root},
        "autoencoder": {"kind": autoencoder.kind} | {k: settings[k] for k in fields if settings[k] is not None},
    }


def prepared_folder(data: DataConfig, autoencoder: AutoencoderConfig, cache: Path) -> Path:
    """Where the set of these settings lives: named after the source, the size and a hash of the settings."""
    digest = hashlib.sha256(json.dumps(identity(data, autoencoder), sort_keys=True).encode()).hexdigest()[:8]
    return cache / f"{data.source}-{data.resolution_px}px-{autoencoder.kind}-{digest}"


def prepare(data: DataConfig, autoencoder: AutoencoderConfig, cache: Path, device: torch.device) -> PreparedSet:
    """The prepared set of these settings, made now if it is not there.

    Several processes may ask for it: one makes it, the others wait. Raises :class:`UserError` for every mistake in the data
    (nothing but a lock file is left behind then).
    """
    require_choice("data.on_corrupt", data.on_corrupt, ("error", "skip"))
    require_choice("autoencoder.kind", autoencoder.kind, ("tiny", "pretrained"))
    folder = prepared_folder(data, autoencoder, cache)
    if (folder / MANIFEST).exists():
        return PreparedSet(folder)
    source = open_source(data.source, data.root)
    with one_at_a_time(cache / f".{folder.name}.lock", f"preparing {folder}"):
        if not (folder / MANIFEST).exists():  # another process may have made it meanwhile
            _make(folder, source, data, autoencoder, device)
    return PreparedSet(folder)


def _make(
    folder: Path, source: ImageSource, data: DataConfig, autoencoder: AutoencoderConfig, device: torch.device
) -> None:
    if folder.exists():
        raise UserError(f"{folder} is in the way and is no prepared set: remove it")
    for stale in folder.parent.glob(f".{folder.name}.????????"):  # of a process that was killed; the lock is ours now
        shutil.rmtree(stale)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    partial.mkdir()
    try:
        _fill(partial, source, data, autoencoder, device)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    folder: Path, source: ImageSource, data: DataConfig, autoencoder: AutoencoderConfig, device: torch.device
) -> None:
    model = _pretrained(autoencoder.path) if autoencoder.kind == "pretrained" else None
    levels = len(model.config["block_out_channels"] if model else autoencoder.channels)
    if data.resolution_px % 2 ** (levels - 1):
        raise UserError(
            f"data.resolution_px={data.resolution_px} is not divisible by {2 ** (levels - 1)}, the autoencoder's factor: "
            "choose a multiple"
        )
    images, labels = write_images(folder, source, data)
    if model is None:
        model = train_tiny_autoencoder(images, autoencoder, AUTOENCODER_SEED, device)
        save_autoencoder(model, folder / "autoencoder")
    moments = write_moments(folder, images, model.to(device), autoencoder.batch_size)
    scale = autoencoder.scale if autoencoder.scale is not None else float(model.config["scaling_factor"])
    Manifest(
        format_version=FORMAT_VERSION,
        source=source.name,
        class_names=list(source.class_names),
        count=len(labels),
        skipped=len(source) - len(labels),
        latent_channels=moments.shape[1] // 2,
        latent_side=moments.shape[2],
        image_px=data.resolution_px,
        autoencoder=autoencoder.path if autoencoder.kind == "pretrained" and autoencoder.path else "tiny",
        scale=scale,
        settings=identity(data, autoencoder),
    ).write(folder)


def _pretrained(path: str | None) -> AutoencoderKL:
    if path is None:
        raise UserError(
            "autoencoder.path is not set: give a hub name such as stabilityai/sd-vae-ft-mse, or a local folder"
        )
    return load_autoencoder(path)


def write_images(folder: Path, source: ImageSource, data: DataConfig) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crop every image into ``images.npy`` and write ``labels.npy``; both are returned, the images memory-mapped.

    Corrupt images are counted over the whole source; :class:`UserError` names the first ones unless they are to be skipped.
    """
    shape = (len(source), data.resolution_px, data.resolution_px, 3)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    kept: list[int] = []
    corrupt: list[CorruptImageError] = []
    for i in tqdm(range(len(source)), desc="images", unit="image", leave=False, disable=None):
        try:
            images[len(kept)] = center_crop(source.image(i), data.resolution_px)
            kept.append(i)
        except CorruptImageError as error:
            corrupt.append(error)
    if corrupt and data.on_corrupt == "error":
        raise UserError(
            f"{len(corrupt)} of {len(source)} images are corrupt, first: {corrupt[0]}. "
            "Mend or remove them, or set data.on_corrupt=skip"
        )
    labels = source.labels[kept]
    missing = set(range(len(source.class_names))) - set(labels.tolist())
    if missing:
        raise UserError(
            f"class {source.class_names[min(missing)]!r} has no readable image left: fill or remove its folder"
        )
    if corrupt:
        np.save(folder / "kept.npy", images[: len(kept)])
        (folder / "kept.npy").replace(folder / "images.npy")
        images = np.lib.format.open_memmap(folder / "images.npy", mode="r+")
    np.save(folder / "labels.npy", labels)
    return images, labels


def write_moments(
    folder: Path, images: NDArray[np.uint8], model: AutoencoderKL, batch_size: int
) -> NDArray[np.float16]:
    """Encode every image into ``moments.npy``; :class:`UserError` if a latent is not finite."""
    moments: np.memmap | None = None
    for start in tqdm(range(0, len(images), batch_size), desc="latents", unit="batch", leave=False, disable=None):
        batch = encode_moments(model, to_signed(images[start : start + batch_size])).cpu().to(torch.float16)
        bad = ~torch.isfinite(batch).flatten(1).all(dim=1)
        if bad.any():
            row = start + int(bad.nonzero()[0])
            raise UserError(
                f"the autoencoder gives NaN or infinite latents, first for image {row}: check its weights and dtype"
            )
        if moments is None:
            shape = (len(images), *batch.shape[1:])
            moments = np.lib.format.open_memmap(folder / "moments.npy", mode="w+", dtype=np.float16, shape=shape)
        moments[start : start + len(batch)] = batch.numpy()
    assert moments is not None, "sources are never empty"
    moments.flush()
    return moments
