"""What the autoencoder alone costs: Fréchet distance of its reconstructions, the floor of any generator under it.

Shapes: n images, C latent channels, H latent side, P image side in pixels.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.config import EvaluationConfig
from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.frechet import Statistics, feature_statistics, frechet_distance
from gat.evaluation.kinds import RECONSTRUCTION
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import Protocol
from gat.evaluation.reference import spread
from gat.files import one_at_a_time, write_json
from gat.progress import Progress


def reconstruction_number(
    data: PreparedSet,
    autoencoder: AutoencoderKL,
    extractor: FeatureExtractorBase,
    reference: Statistics,
    config: EvaluationConfig,
    protocol: Protocol,
) -> Number:
    """The distance, e.g. ``FID-5K-reconstruction``, of ``protocol.samples`` images decoded.

    Computed once and kept beside the prepared set, in a file per protocol.
    """
    rows = spread(len(data), protocol.samples)
    file = data.folder / f"reconstruction-{protocol.id}.json"
    if not file.exists():
        with one_at_a_time(file.with_name(f".{file.name}.lock"), "computing the autoencoder's own distance"):
            if not file.exists():  # another process may have computed it meanwhile
                images = reconstructions(data, autoencoder, rows, config)
                found = feature_statistics(images, extractor, covariance=config.covariance)
                write_json(file, {"distance": frechet_distance(found, reference), "protocol": protocol.as_record()})
    return Number(RECONSTRUCTION, _read(file), protocol)


def reconstructions(
    data: PreparedSet, autoencoder: AutoencoderKL, rows: NDArray[np.int64], config: EvaluationConfig
) -> Iterator[Tensor]:
    """Decode the posterior means of ``rows`` (n,): uint8 batches (B, 3, P, P) on the autoencoder's device."""
    starts = range(0, len(rows), config.batch_size)
    for start in Progress(starts, desc="reconstructions", unit="batch", leave=False):
        moments, _ = data.latents(rows[start : start + config.batch_size])
        mean = moments.to(autoencoder.device).float().chunk(2, dim=1)[0]
        yield to_uint8(decode(autoencoder, mean, scale=1.0), config.to_uint8)


def _read(file: Path) -> float:
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["distance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}): delete it to have it computed again") from error
