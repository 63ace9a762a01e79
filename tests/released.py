"""Files laid out as the authors' release and its conversion leave them, with the reference vectors' small weights."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.conftest import section

MODEL_INDEX = {
    "_class_name": "GATPipeline",
    "_diffusers_version": "0.36.0",
    "generator": ["diffusers", "GATGenerator"],
    "vae": ["diffusers", "AutoencoderKL"],
    "truncation_psi": 0.3,
    "vae_hub_id": "stabilityai/sd-vae-ft-ema",
}


def training_checkpoint(reference: dict[str, Tensor]) -> dict[str, Any]:
    """What the authors' train.py saves: averaged weights that differ from the last ones, and the settings as a Namespace."""
    generator = section(reference, "generator.")
    averaged = {key: value + 0.01 if key.endswith("weight") else value for key, value in generator.items()}
    return {
        "generator": generator,
        "discriminator": section(reference, "discriminator."),
        "ema": averaged,
        "optG": {"state": {}, "param_groups": []},
        "optD": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(model="GAT-XL/2", modelD="GAT-XL/2", resolution=256, num_classes=1000, seed=None),
        "steps": 150_000,
        "wallclock_time": 12.5,
        "wandb_run_id": "abc",
    }


def write_conversion(folder: Path, reference: dict[str, Tensor]) -> Path:
    """The diffusers conversion: GAT-XL-2-256/ with a generator of the release's key names, and no autoencoder's weights."""
    (folder / "generator").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(MODEL_INDEX))
    config = {"_class_name": "GATGenerator", "depth": 28, "hidden_size": 1152, "patch_size": 2}
    (folder / "generator" / "config.json").write_text(json.dumps(config))
    weights = {key: value.float().contiguous() for key, value in section(reference, "generator.").items()}
    save_file(weights, folder / "generator" / "diffusion_pytorch_model.safetensors")
    return folder


def write_checkpoint(file: Path, content: Any) -> Path:
    """By torch.save."""
    torch.save(content, file)
    return file
