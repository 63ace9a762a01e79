"""Tensors on disk: safetensors files that are whole or not there, flushed, with the system's errors as such."""

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gat.files import replacing_path


def save_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write to a temporary file, flush it to disk, then rename it. OSError for a full disk and the like."""
    with replacing_path(file) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # it wraps the system's error
            raise OSError(None, str(error), str(file)) from error
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
