"""What is sampled and evaluated: a generator, what decodes its latents, and the names of its classes."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from gat.config import Config
from gat.data.autoencoder import load_autoencoder, weights_digest
from gat.data.identity import settled
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.protocol import OWN_DECODER, SD_VAE_MSE
from gat.models import Generator
from gat.pretrained import PIPELINE_INDEX, Pretrained


@dataclass(frozen=True)
class Subject:
    """A generator with its decoder, on one device."""

    generator: Generator
    decoder: AutoencoderKL
    decoder_name: str
    """For the protocol: ``own`` or the name of the one used instead."""
    scale: float
    """Factor between the decoder's latents and the generator's."""
    class_names: list[str]
    """Empty if unknown."""

    @property
    def image_px(self) -> int:
        """Side of the images."""
        return self.generator.dims.latent_side * 2 ** (len(self.decoder.config["block_out_channels"]) - 1)


def decoder_of(data: PreparedSet, wanted: str | None) -> tuple[AutoencoderKL, str]:
    """What decodes the set's latents, and its name for the protocol; ``wanted``: ``evaluation.decoder``.

    Raises :class:`UserError` for a decoder in place of a tiny autoencoder's own, whose latents no other can read.
    """
    if wanted is None or settled(wanted) == data.manifest.autoencoder:
        return data.autoencoder(), OWN_DECODER
    if data.manifest.autoencoder == "tiny":
        raise UserError(
            f"evaluation.decoder={wanted} cannot decode latents of {data.folder.name}'s tiny autoencoder: set "
            "evaluation.decoder=null"
        )
    return named_decoder(wanted)


def named_decoder(wanted: str) -> tuple[AutoencoderKL, str]:
    """An autoencoder by hub name or folder, and its name for the protocol: a folder's with a digest of the weights."""
    model, place = load_autoencoder(wanted), Path(wanted)
    return model, f"{place.resolve().name}@{weights_digest(model)[:12]}" if place.is_dir() else wanted


def open_subject(pretrained: Pretrained, config: Config, data: PreparedSet | None, device: torch.device) -> Subject:
    """The generator of ``pretrained`` with what decodes it. Raises :class:`UserError` if that does not fit.

    ``data``: what it was trained on, if it is a run's.
    """
    wanted, names = config.evaluation.decoder, data.manifest.class_names if data else []
    if pretrained.kind == "run":
        assert data is not None
        decoder, name = decoder_of(data, wanted)
        scale = data.manifest.scale
    elif pretrained.kind == "pipeline" and wanted is None:
        assert pretrained.home is not None
        decoder, name = load_autoencoder(str(pretrained.home / "vae")), OWN_DECODER
        scale, names = _pipeline_settings(pretrained.home)
    else:
        decoder, name = named_decoder(wanted or SD_VAE_MSE)
        name = OWN_DECODER if name == SD_VAE_MSE else name
        scale = float(decoder.config["scaling_factor"])
    _check_fit(pretrained, decoder, data, wanted or "its autoencoder")
    return Subject(pretrained.generator.to(device), decoder.to(device), name, scale, names)


def open_data(pretrained: Pretrained, config: Config, device: torch.device) -> PreparedSet | None:
    """The prepared set of a run, or of released weights the one that ``config`` names as reference; None if it names none."""
    released = pretrained.kind != "run"
    if released and (config.evaluation.reference is not None or config.data.root is None):
        return None
    return prepare(config.data, config.autoencoder, Path(config.paths.prepared), device, config.loader.workers)


def _pipeline_settings(folder: Path) -> tuple[float, list[str]]:
    try:
        index = json.loads((folder / PIPELINE_INDEX).read_text())
        names = index.get("id2label") or {}
        return float(index["latent_scale"]), [names[str(i)] for i in range(len(names))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / PIPELINE_INDEX}: not of a pipeline of GAT ({error}): export it anew") from error


def _check_fit(pretrained: Pretrained, decoder: AutoencoderKL, data: PreparedSet | None, name: str) -> None:
    dims = pretrained.generator.dims
    if decoder.config["latent_channels"] != dims.channels:
        raise UserError(
            f"{pretrained.source} draws latents of {dims.channels} channels, but {name} decodes "
            f"{decoder.config['latent_channels']}: set evaluation.decoder to the autoencoder that it was trained with"
        )
    if data is not None and data.num_classes != dims.num_classes:
        raise UserError(
            f"{pretrained.source} knows {dims.num_classes} classes, but {data.folder} has {data.num_classes}: give the data "
            "that it was trained on"
        )
