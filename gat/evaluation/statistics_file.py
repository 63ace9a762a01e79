"""Feature statistics on disk: ADM's ``.npz`` (``mu``, ``sigma``, maybe images ``arr_0``), and our own with their origin.

Shapes: n images, d features, P image side in pixels.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gat.errors import UserError
from gat.evaluation.frechet import Statistics
from gat.files import replacing

UNREADABLE = (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def load_statistics(file: Path, extractor: str | None = None, image_px: int | None = None) -> Statistics:
    """Read ``mu`` (d,) and ``sigma`` (d, d).

    Raises :class:`UserError` if the file has none, or says that they are of another extractor (``name@digest``) or of images
    of another side than ``image_px``.
    """
    try:
        with np.load(file) as arrays:
            mu, sigma = (np.asarray(arrays[key], np.float64) for key in ("mu", "sigma"))
            origin: dict[str, Any] = json.loads(str(arrays["origin"])) if "origin" in arrays else {}
            side = origin.get("image_px") or images_side(file)
    except UNREADABLE as error:
        raise UserError(f"{file}: no reference statistics ({error}): it must be an .npz with mu and sigma") from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise UserError(f"{file}: mu {mu.shape} and sigma {sigma.shape} do not fit: expected (d,) and (d, d)")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all() and np.allclose(sigma, sigma.T)):
        raise UserError(f"{file}: mu or sigma hold no numbers, or sigma is not symmetric: fetch it again")
    if extractor and origin.get("extractor", extractor) != extractor:
        raise UserError(
            f"{file}: statistics of features {origin['extractor']}, not {extractor}: use those of one extractor"
        )
    if image_px and side and side != image_px:
        raise UserError(
            f"{file}: statistics of images of {side} pixels, but the samples have {image_px}: use those of {image_px} pixels"
        )
    return Statistics(mu, sigma)


def save_statistics(file: Path, statistics: Statistics, origin: dict[str, Any] | None = None) -> None:
    """Write ``mu``, ``sigma`` and ``origin`` (extractor, image_px, images) as an ``.npz``, whole or not at all."""
    with replacing(file) as stream:
        np.savez(stream, mu=statistics.mu, sigma=statistics.sigma, origin=np.array(json.dumps(origin or {})))


def images_side(file: Path) -> int | None:
    """P of the uint8 images (n, P, P, 3) in an ``.npz`` of ADM's, without reading them; None if it has none.

    ValueError if they are something else.
    """
    with zipfile.ZipFile(file) as archive:
        if "arr_0.npy" not in archive.namelist():
            return None
        with archive.open("arr_0.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
    if dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise ValueError(f"arr_0 is {dtype} {shape}, not uint8 images (n, P, P, 3)")
    return int(shape[1])
