"""Tensors on disk: safetensors files that are whole or not there, flushed, with the system's errors as such."""

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gat.files import replacing_path


def save_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write to a temporary file, flush it to disk, then rename it. OSError for a full disk and the like.

    Who may read it is as for any new file: safetensors by itself would write for the owner alone.
    """
    with replacing_path(file) as partial:
        partial.touch()
        permissions = partial.stat().st_mode
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # it wraps the system's error
            raise OSError(None, str(error), str(file)) from error
        partial.chmod(permissions)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())


def open_to_readers(folder: Path) -> None:
    """Let weights that diffusers wrote in ``folder``, or below it, be read by all who may read their configuration."""
    for file in folder.rglob("*.safetensors"):
        file.chmod((file.parent / "config.json").stat().st_mode)
