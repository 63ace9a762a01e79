"""Feature statistics on disk: ADM's ``.npz`` (``mu``, ``sigma``, maybe images ``arr_0``), and our own with their origin.

Shapes: n images, d features, P image side in pixels.
"""

import json
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gat.errors import UserError
from gat.evaluation.frechet import Statistics
from gat.files import replacing

DAMAGED = (EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
UNREADABLE = (
    *DAMAGED,
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
)  # RuntimeError: encrypted, unknown method
NAME_LENGTHS = 26  # where a zip entry's local header says how long its name and extra field are
NEGATIVE_TOLERANCE = 1e-6  # of the largest eigenvalue: what rounding in fp32 can leave


def load_statistics(file: Path, extractor: str | None = None, image_px: int | None = None) -> Statistics:
    """Read ``mu`` (d,) and ``sigma`` (d, d).

    Raises :class:`UserError` if the file has none, or says that they are of another extractor (``name@digest``) or of images
    of another side than ``image_px``.
    """
    try:
        with np.load(file) as arrays:
            mu, sigma = arrays["mu"], arrays["sigma"]
            origin = json.loads(str(arrays["origin"])) if "origin" in arrays else {}
        side = images_side(file)
    except UNREADABLE as error:
        raise UserError(f"{file}: no reference statistics ({error}): it must be an .npz with mu and sigma") from error
    if not isinstance(origin, dict):
        raise UserError(f"{file}: its origin is a {type(origin).__name__}, not a JSON mapping: compute the file again")
    side = origin.get("image_px") or side
    check_statistics(file, mu, sigma)
    if extractor and origin.get("extractor", extractor) != extractor:
        raise UserError(
            f"{file}: statistics of features {origin['extractor']}, not {extractor}: use those of one extractor"
        )
    if image_px and side and side != image_px:
        raise UserError(
            f"{file}: statistics of images of {side} pixels, but the samples have {image_px}: use those of {image_px} pixels"
        )
    return Statistics(mu.astype(np.float64), sigma.astype(np.float64))


def check_statistics(file: Path, mu: NDArray[Any], sigma: NDArray[Any]) -> None:
    """Raise :class:`UserError` unless ``mu`` (d,) and ``sigma`` (d, d) are a mean and a covariance of real numbers."""
    again = "fetch or compute it again"
    if mu.ndim != 1 or not len(mu) or sigma.shape != (len(mu), len(mu)):
        raise UserError(f"{file}: mu {mu.shape} and sigma {sigma.shape} do not fit, expected (d,) and (d, d): {again}")
    for name, values in (("mu", mu), ("sigma", sigma)):
        if values.dtype.kind not in "fiu":
            raise UserError(f"{file}: {name} is {values.dtype}, not real numbers: {again}")
        if not np.isfinite(values).all():
            raise UserError(f"{file}: {name} holds values that are not finite: {again}")
    if not np.allclose(sigma, sigma.T):
        raise UserError(f"{file}: sigma is not symmetric: {again}")
    eigenvalues = np.linalg.eigvalsh(sigma.astype(np.float64))
    if eigenvalues[0] < -NEGATIVE_TOLERANCE * abs(eigenvalues).max():
        raise UserError(
            f"{file}: sigma has the eigenvalue {eigenvalues[0]:.3g} < 0, so it is not a covariance: {again}"
        )


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
    if len(shape) and shape[0] == 0:
        raise ValueError("arr_0 is empty")
    if dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or not shape[1]:
        raise ValueError(f"arr_0 is {dtype} {shape}, not uint8 images (n, P, P, 3)")
    return int(shape[1])


def images_in(file: Path) -> NDArray[np.uint8]:
    """Return the uint8 images (n, P, P, 3) in ADM's ``.npz``, memory-mapped if stored uncompressed.

    Raises KeyError without ``arr_0``, ValueError if it holds something else, and ``UNREADABLE`` errors for damage.
    """
    if images_side(file) is None:
        raise KeyError("no arr_0")
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("arr_0.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        with np.load(file) as arrays:
            return np.asarray(arrays["arr_0"])
    with file.open("rb") as stream:
        stream.seek(entry.header_offset + NAME_LENGTHS)
        lengths = struct.unpack("<HH", stream.read(4))
        stream.seek(sum(lengths), os.SEEK_CUR)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
        order: Literal["C", "F"] = "F" if fortran_order else "C"
        return np.memmap(file, dtype, "r", stream.tell(), shape, order)
