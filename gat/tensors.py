"""Tensors on disk: safetensors files that are whole or not there, flushed, with the system's errors as such."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
            with system_errors(file):
                save_file(tensors, folder / file.name, metadata)
            (folder / file.name).replace(partial)
        finally:
            shutil.rmtree(folder)
        partial.chmod(permissions)
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())


@contextmanager
def system_errors(place: Path) -> Iterator[None]:
    """Raise the system's errors at ``place`` (disk full) as OSError, where safetensors wraps them."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(None, str(error), str(place)) from error


@contextmanager
def writing_weights(folder: Path) -> Iterator[None]:
    """Within, diffusers writes weights in ``folder`` or below it: to be read by all who may read their configuration.

    OSError for a full disk and the like.
    """
    with system_errors(folder):
        yield
    for file in folder.rglob("*.safetensors"):
        file.chmod((file.parent / "config.json").stat().st_mode)
