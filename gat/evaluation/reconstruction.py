"""What the autoencoder alone costs: Fréchet distance of its reconstructions, the floor of any generator under it.

Shapes: n images, C latent channels, H latent side, P image side in pixels.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from tqdm import tqdm

from gat.config import EvaluationConfig
from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.extractors import distance_name
from gat.evaluation.frechet import Statistics, feature_statistics, frechet_distance
from gat.files import one_at_a_time, write_json


def reconstruction_metric(
    data: PreparedSet,
    autoencoder: AutoencoderKL,
    extractor: FeatureExtractorBase,
    reference: Statistics,
    config: EvaluationConfig,
) -> dict[str, float]:
    """The distance by name, e.g. ``FID-5K-reconstruction``: of ``config.samples`` images (at most all), decoded.

    Computed once and kept beside the prepared set, in a file per extractor, number of images and reference.
    """
    rows = spread_rows(len(data), config.samples)
    digest = hashlib.sha256(reference.mu.tobytes() + reference.sigma.tobytes()).hexdigest()[:8]
    file = data.folder / f"reconstruction-{config.extractor}-{len(rows)}-{digest}.json"
    if not file.exists():
        with one_at_a_time(file.with_name(f".{file.name}.lock"), "computing the autoencoder's own distance"):
            if not file.exists():  # another process may have computed it meanwhile
                images = reconstructions(data, autoencoder, rows, config.batch_size)
                distance = frechet_distance(feature_statistics(images, extractor), reference)
                write_json(file, {"reference": config.reference, "images": len(rows), "distance": distance})
    return {f"{distance_name(config.extractor, len(rows))}-reconstruction": _read(file)}


def spread_rows(count: int, wanted: int) -> NDArray[np.int64]:
    """``wanted`` rows of ``count``, evenly spread and in order; all of them if there are fewer."""
    used = min(count, wanted)
    return np.arange(used) * count // used


def reconstructions(
    data: PreparedSet, autoencoder: AutoencoderKL, rows: NDArray[np.int64], batch_size: int
) -> Iterator[Tensor]:
    """What the posterior means of ``rows`` (n,) decode to, as uint8 batches (B, 3, P, P) on the autoencoder's device."""
    starts = range(0, len(rows), batch_size)
    for start in tqdm(starts, desc="reconstructions", unit="batch", leave=False, disable=None):
        moments, _ = data.latents(rows[start : start + batch_size])
        mean = moments.to(autoencoder.device).float().chunk(2, dim=1)[0]
        yield to_uint8(decode(autoencoder, mean, scale=1.0))


def _read(file: Path) -> float:
    try:
        return float(json.loads(file.read_text())["distance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}): delete it to have it computed again") from error
