"""What is sampled and evaluated: a generator, what decodes its latents, and the names of its classes."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from gat.config import Config
from gat.data.autoencoder import load_autoencoder, weights_digest
from gat.data.identity import autoencoder_name, prepared_folder
from gat.data.prepare import open_prepared
from gat.data.prepared import MANIFEST, PreparedSet
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
    if wanted is None:
        return data.autoencoder(), OWN_DECODER
    if data.manifest.autoencoder == "tiny":
        raise UserError(
            f"evaluation.decoder={wanted} cannot decode latents of {data.folder.name}'s tiny autoencoder: set "
            "evaluation.decoder=null"
        )
    decoder, name = named_decoder(wanted)
    return decoder, OWN_DECODER if weights_digest(decoder) == data.manifest.autoencoder_sha256 else name


def named_decoder(wanted: str) -> tuple[AutoencoderKL, str]:
    """An autoencoder by hub name or folder, and its name for the protocol: ``sd-vae-ft-ema@`` and a digest of the weights."""
    model = load_autoencoder(wanted, "evaluation.decoder")
    return model, f"{Path(wanted).resolve().name}@{weights_digest(model)[:12]}"


def open_subject(pretrained: Pretrained, config: Config, data: PreparedSet | None, device: torch.device) -> Subject:
    """The generator of ``pretrained`` with what decodes it. Raises :class:`UserError` if that does not fit.

    ``data``: what it was trained on, if it is a run's.
    """
    wanted, names = config.evaluation.decoder, data.manifest.class_names if data else []
    if pretrained.kind == "run":
        assert data is not None
        decoder, name = decoder_of(data, wanted)
        scale = data.manifest.scale
    elif pretrained.kind == "pipeline":
        assert pretrained.home is not None
        scale, names, name = _pipeline_settings(pretrained.home)
        decoder = load_autoencoder(str(pretrained.home / "vae"))
        if wanted is not None:
            decoder, name = named_decoder(wanted)
    else:
        decoder, name = named_decoder(wanted or SD_VAE_MSE)
        name = OWN_DECODER if wanted in (None, SD_VAE_MSE) else name
        scale = float(decoder.config["scaling_factor"])
    _check_fit(pretrained, decoder, data, wanted or "its autoencoder")
    return Subject(pretrained.generator.to(device), decoder.to(device), name, scale, names)


def open_data(pretrained: Pretrained, config: Config) -> PreparedSet | None:
    """The prepared set of a run, or of released weights the one that ``config`` names as reference; None if it names none.

    Raises :class:`UserError` if it is not there: nothing is prepared here, with weights of an autoencoder that may differ.
    """
    released = pretrained.kind != "run"
    if released and (config.evaluation.reference is not None or config.data.root is None):
        return None
    return open_images(config)


def open_images(config: Config) -> PreparedSet:
    """Return the prepared set that ``config`` names; :class:`UserError` if it is not there: nothing is prepared here."""
    folder = prepared_folder(config.data, config.autoencoder, Path(config.paths.prepared))
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder}: the prepared images are not there: give paths.prepared=FOLDER, or prepare them with "
            "experiments/prepare.py"
        )
    data = open_prepared(folder, config.data)
    if data.manifest.autoencoder != autoencoder_name(config.autoencoder):
        raise UserError(
            f"{folder / MANIFEST}: names the autoencoder {data.manifest.autoencoder!r}, but the settings name "
            f"{autoencoder_name(config.autoencoder)!r}: delete {folder}, and prepare the data again"
        )
    return data


def _pipeline_settings(folder: Path) -> tuple[float, list[str], str]:
    """Return the latents' scale, the class names, and the decoder's name for the protocol."""
    try:
        index = json.loads((folder / PIPELINE_INDEX).read_text(encoding="utf-8"))
        names = index.get("id2label") or {}
        return float(index["latent_scale"]), [names[str(i)] for i in range(len(names))], str(index["decoder"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
