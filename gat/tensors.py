"""Tensors on disk: safetensors files that are whole or not there, flushed, with the system's errors as such."""

import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gat.files import SAVING, replacing_path


def save_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write to a temporary file, flush it to disk, then rename it. OSError for a full disk and the like.

    safetensors writes to a temporary file of its own (``.tmpXXXXXX``, for the owner alone). It lies in a folder of ours here,
    so that what a killed process leaves is known by its name, and who may read the result is as for any new file.
    """
    with replacing_path(file) as partial:
        partial.touch()
        permissions = partial.stat().st_mode
        folder = partial.with_name(partial.name + SAVING)
        folder.mkdir()
        try:
            save_file(tensors, folder / file.name, metadata)
            (folder / file.name).replace(partial)
        except SafetensorError as error:  # it wraps the system's error
            raise OSError(None, str(error), str(file)) from error
        finally:
            shutil.rmtree(folder)
        partial.chmod(permissions)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())


def open_to_readers(folder: Path) -> None:
    """Let weights that diffusers wrote in ``folder``, or below it, be read by all who may read their configuration."""
    for file in folder.rglob("*.safetensors"):
        file.chmod((file.parent / "config.json").stat().st_mode)
