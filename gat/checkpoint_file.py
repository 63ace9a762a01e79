"""A checkpoint as a file: one safetensors file whose metadata hold step, identity of the run and a checksum.

Checkpoints of earlier versions are read too. Their checksums were computed differently and never match a current file.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gat.errors import UserError

LOGGED = "logged"
NAMES = f"step-{'[0-9]' * 8}.safetensors"


class DamagedCheckpointError(UserError):
    """A file that is not a complete checkpoint of this code."""


def checkpoints_in(run: Path) -> list[Path]:
    """Return the checkpoints of a run's folder in order of their steps; a user's copy under another name is none of them."""
    return sorted((run / "checkpoints").glob(NAMES))


def checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of the metadata except ``checksum``, and of every tensor's key, dtype, shape and bytes, by key."""
    rest = sorted((key, value) for key, value in metadata.items() if key != "checksum")
    heads = [(key, str(value.dtype), list(value.shape)) for key, value in sorted(tensors.items())]
    digest = hashlib.sha256(json.dumps([rest, heads]).encode())
    for key in sorted(tensors):
        digest.update(_bytes(tensors[key]))
    return digest.hexdigest()


def _earlier_checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the checksum of earlier versions, which does not cover dtypes, shapes and the generator's dimensions."""
    digest = hashlib.sha256(f"{metadata['step']} {metadata['identity']}".encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(_bytes(tensors[key]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def read_checkpoint(file: Path, prefix: str = "") -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a checkpoint (all must be read for its checksum; those under ``prefix`` are returned).

    Raises :class:`DamagedCheckpointError` for a file that is cut off, altered or not ours, :class:`UserError` for one that
    the file system does not give (it may be whole).
    """
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedCheckpointError(f"{file}: not a whole checkpoint ({error})") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error}): start again when it can, or remove it") from error
    if not {"step", "identity", "checksum"} <= metadata.keys():
        raise DamagedCheckpointError(f"{file}: no checkpoint of a run (its metadata lack step, identity and checksum)")
    if not any(metadata["checksum"] == rule(tensors, metadata) for rule in (checksum, _earlier_checksum)):
        raise DamagedCheckpointError(f"{file}: its content does not match its checksum")
    return metadata, under(tensors, prefix)


def read_head(file: Path) -> tuple[int, str, int]:
    """Return a checkpoint's step, its run's identity and the last step logged before it, from its metadata alone.

    The last logged step is 0 if none was logged, or if an earlier version wrote the file. Raises as :func:`read_checkpoint`.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
        return int(metadata["step"]), metadata["identity"], int(metadata.get(LOGGED, 0))
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedCheckpointError(f"{file}: not a whole checkpoint ({error})") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error}): start again when it can, or remove it") from error


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose keys begin with ``prefix``, which is taken off."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
