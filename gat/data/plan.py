"""What stands before a set's parts are made: the list of images, frozen, and the autoencoder.

plan.json       settings, number of images, classes: all processes at work on a set agree on them
files.feather   the image files, if the source is a folder
autoencoder/    the tiny autoencoder
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from gat.config import AutoencoderConfig, DataConfig
from gat.data.autoencoder import (
    OWN,
    check_tiny,
    load_autoencoder,
    load_own_autoencoder,
    save_autoencoder,
    train_tiny_autoencoder,
    weights_digest,
)
from gat.data.codec import check_format
from gat.data.crops import TrainingImages
from gat.data.folder import FolderSource, frozen_folder
from gat.data.identity import identity, prepared_folder
from gat.data.repa import frozen_repa
from gat.data.sources import ImageSource, open_source
from gat.errors import UserError, require_choice
from gat.files import one_at_a_time, write_json

AUTOENCODER_SEED = 0
PLAN = "plan.json"
FILES = "files.feather"
AUTOENCODER = "autoencoder_sha256"


@dataclass(frozen=True)
class Plan:
    """A set to be made in ``folder``: from what, by which autoencoder."""

    folder: Path
    source: ImageSource
    data: DataConfig
    autoencoder: AutoencoderConfig
    model: AutoencoderKL

    @property
    def moments_shape(self) -> tuple[int, int, int]:
        """(2C, H, H)."""
        side = self.data.resolution_px // factor_of(self.model)
        return 2 * int(self.model.config["latent_channels"]), side, side


def plan(data: DataConfig, autoencoder: AutoencoderConfig, cache: Path, device: torch.device) -> Plan:
    """Plan the set, or find its plan: list the source, train the tiny autoencoder. One process does, others wait.

    Raises :class:`UserError` for mistakes in the settings or the source; nothing but a lock file is left behind then.
    """
    require_choice("data.on_corrupt", data.on_corrupt, ("error", "skip"))
    require_choice("autoencoder.kind", autoencoder.kind, ("tiny", "pretrained"))
    require_choice("autoencoder.encode_precision", autoencoder.encode_precision, ("fp32", "bf16"))
    check_format(data.image_format, data.image_quality)
    if data.source == "repa" and autoencoder.kind == "tiny":
        raise UserError(
            "data.source=repa has moments of a pretrained autoencoder: choose that, autoencoder=sd_vae_mse, say"
        )
    pretrained = _pretrained(autoencoder.path) if autoencoder.kind == "pretrained" else None
    if pretrained is None:
        check_tiny(autoencoder)
    _check_resolution(data, factor_of(pretrained) if pretrained else 2 ** (len(autoencoder.channels) - 1))
    folder = prepared_folder(data, autoencoder, cache)
    with one_at_a_time(set_lock(folder), f"preparing {folder}"):
        digest = weights_digest(pretrained) if pretrained else None
        new = not folder.exists()
        source = _planned_source(folder, data, autoencoder, digest)
        if pretrained is None and not (folder / OWN).exists():
            try:
                _train_tiny(folder, source, data, autoencoder, device)
            except UserError as error:
                if not new:
                    raise UserError(f"{error} (if you then add or remove files, also delete {folder})") from error
                shutil.rmtree(folder)  # this call made it; the next one will list the source again
                raise
        model = pretrained or load_own_autoencoder(folder)
    return Plan(folder, source, data, autoencoder, model.to(device))


def set_lock(folder: Path) -> Path:
    """Held while a set is planned, or finished."""
    return folder.with_name(f".{folder.name}.lock")


def factor_of(model: AutoencoderKL) -> int:
    """Image side over latent side."""
    return int(2 ** (len(model.config["block_out_channels"]) - 1))


def _check_resolution(data: DataConfig, factor: int) -> None:
    if data.resolution_px % factor:
        raise UserError(
            f"data.resolution_px={data.resolution_px} is not divisible by {factor}, the autoencoder's factor: "
            "choose a multiple"
        )


def _planned_source(folder: Path, data: DataConfig, autoencoder: AutoencoderConfig, digest: str | None) -> ImageSource:
    """The source as it was listed when the plan was made; now, if there is none. ``digest``: of a pretrained autoencoder."""
    if (folder / PLAN).exists():
        source = _known_source(folder, data)
        _check_plan(folder, source, digest)
        return source
    if folder.exists():
        raise UserError(f"{folder} is in the way and is no prepared set: remove it")
    source = open_source(data.source, data.root)
    partial = folder.with_name(f".{folder.name}.planning")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        if isinstance(source, FolderSource):
            source.freeze(partial / FILES)
        write_json(partial / PLAN, _facts(source) | {AUTOENCODER: digest, "settings": identity(data, autoencoder)})
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return source


def _known_source(folder: Path, data: DataConfig) -> ImageSource:
    if not (folder / FILES).exists():
        return open_source(data.source, data.root)
    assert data.root is not None
    return (frozen_repa if data.source == "repa" else frozen_folder)(folder / FILES, Path(data.root))


def _facts(source: ImageSource) -> dict[str, Any]:
    return {"source": source.name, "count": len(source), "class_names": list(source.class_names)}


def read_plan(folder: Path) -> dict[str, Any]:
    """Read ``plan.json``; raise :class:`UserError` if it is damaged or missing."""
    file = folder / PLAN
    try:
        planned = json.loads(file.read_text(encoding="utf-8"))
        return {key: planned[key] for key in ("source", "count", "class_names", AUTOENCODER)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a plan ({error}): delete {folder} to prepare it again") from error


def _check_plan(folder: Path, source: ImageSource, digest: str | None) -> None:
    planned = read_plan(folder)
    if planned.pop(AUTOENCODER) != digest:
        raise UserError(
            f"{folder / PLAN}: the autoencoder has other weights now than when this preparation began: put those back, or "
            f"delete {folder} to prepare it again"
        )
    if planned != _facts(source):
        raise UserError(
            f"{folder / PLAN}: planned from {planned['count']} images in {len(planned['class_names'])} classes of "
            f"{planned['source']}, but there are {len(source)} in {len(source.class_names)} now: delete {folder} to "
            "prepare it again"
        )


def _pretrained(path: str | None) -> AutoencoderKL:
    if path is None:
        raise UserError(
            "autoencoder.path is not set: give a hub name such as stabilityai/sd-vae-ft-mse, or a local folder"
        )
    return load_autoencoder(path)


def _train_tiny(
    folder: Path, source: ImageSource, data: DataConfig, config: AutoencoderConfig, device: torch.device
) -> None:
    """Train the prepared set's tiny autoencoder and save it in ``folder``."""
    model = train_tiny_autoencoder(TrainingImages(source, data), config, AUTOENCODER_SEED, device)
    partial = folder / f".{OWN}"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    save_autoencoder(model, partial)
    partial.rename(folder / OWN)
