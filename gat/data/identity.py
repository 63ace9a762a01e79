"""Which settings make which prepared set."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gat.config import AutoencoderConfig, DataConfig

FORMAT_VERSION = 2
DATA_FIELDS = ("source", "resolution_px", "image_format", "image_quality")
PRETRAINED_FIELDS = ("scale", "encode_precision")
TINY_FIELDS = (*PRETRAINED_FIELDS, "channels", "latent_channels", "train_images", "batch_size", "lr", "kl_weight")


def identity(data: DataConfig, autoencoder: AutoencoderConfig) -> dict[str, Any]:
    """The settings that change what is prepared. Folders count by where they are, however they are written."""
    fields = TINY_FIELDS if autoencoder.kind == "tiny" else PRETRAINED_FIELDS
    given, settings = asdict(data), asdict(autoencoder)
    own = {name: settings[name] for name in fields if settings[name] is not None}
    if autoencoder.kind == "pretrained":
        own["path"] = settled(autoencoder.path) if autoencoder.path else None
    return {
        "format_version": FORMAT_VERSION,
        "data": {k: given[k] for k in DATA_FIELDS} | {"root": str(Path(data.root).resolve()) if data.root else None},
        "autoencoder": {"kind": autoencoder.kind} | own,
    }


def settled(path: str) -> str:
    """A local folder's absolute path; a hub name as it is."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def autoencoder_name(autoencoder: AutoencoderConfig) -> str:
    """Return the autoencoder's name in a manifest: its hub name or absolute path; ``tiny`` if preparation trained it."""
    return settled(autoencoder.path) if autoencoder.kind == "pretrained" and autoencoder.path else "tiny"


def prepared_folder(data: DataConfig, autoencoder: AutoencoderConfig, cache: Path) -> Path:
    """Where the set of these settings lives: named after the source, the size and a hash of the settings."""
    digest = hashlib.sha256(json.dumps(identity(data, autoencoder), sort_keys=True).encode()).hexdigest()[:8]
    return cache / f"{data.source}-{data.resolution_px}px-{autoencoder.kind}-{digest}"
