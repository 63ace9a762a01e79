"""State dicts in files from elsewhere: read as tensors alone, found under the keys in use, and freed of wrappers.

A pickle can run any code. Ours are read with ``weights_only=True`` and ``argparse.Namespace`` as the only class allowed
besides tensors; what other libraries unpickle is read so inside :func:`tensors_only`.
"""

import argparse
import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gat.errors import UserError, first_line

AVERAGED = ("ema", "EMA", "ema_model", "model_ema", "state_dict_ema")
PLAIN = ("generator", "model", "state_dict")
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts that DataParallel, AveragedModel, torch.compile, FSDP and activation checkpointing put into a key."""
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
BARE = "state dict"
DEEPEST = 3
KEYS_SHOWN = 8
FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"

StateDict = dict[str, Tensor]


def read_weights(file: Path) -> dict[str, Any]:
    """Return what a file of weights holds: safetensors by its suffix, else a pickle; :class:`UserError` if it is neither."""
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: not a whole safetensors file ({first_line(error)}): fetch it again") from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), first_line(error)).strip()
        raise UserError(
            f"{file}: refused, as it holds more than tensors and argparse.Namespace ({reason}): a pickle can run any code; "
            "have its owner save the state dict alone"
        ) from error
    except Exception as error:  # damaged archives raise their own kinds
        raise UserError(f"{file}: not a whole PyTorch checkpoint ({first_line(error)}): fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}, not a checkpoint or state dict: give another file")
    return content


def state_in(content: Mapping[Any, Any], keys: tuple[str, ...], depth: int = DEEPEST) -> tuple[str, StateDict]:
    """Return the first state dict under ``keys``, in their order, else ``content`` itself; and the key it stood under.

    A key with nothing in it is passed over. ValueError lists the keys that are there if none holds tensors.
    """
    for key in (*keys, "module") if depth else ():
        inner = content.get(key)
        if isinstance(inner, Mapping) and inner:
            try:
                below, state = state_in(inner, keys, depth - 1)
            except ValueError:
                continue
            return (key if below == BARE else f"{key}.{below}"), state
    state = unwrapped(content)
    if not state:
        raise ValueError(f"no tensors under {', '.join(keys)}: its keys are {listed(content)}")
    return BARE, state


def unwrapped(state: Mapping[Any, Any]) -> StateDict:
    """Return the tensors of ``state`` without gradients, their keys without wrappers; ValueError if two keys become one."""
    tensors: StateDict = {}
    for key, value in state.items():
        plain = ".".join(part for part in str(key).split(".") if part not in WRAPPERS)
        if not isinstance(value, Tensor) or plain == COUNTER:
            continue
        if plain in tensors:
            raise ValueError(f"{plain!r} stands in it twice, with and without a wrapper's prefix")
        tensors[plain] = value.detach()
    return tensors


def listed(keys: Iterable[Any]) -> str:
    """Return the first few ``keys``, in one line."""
    names = [repr(key) for key in keys]
    more = f" and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
    return ", ".join(names[:KEYS_SHOWN]) + more if names else "none"


@contextmanager
def tensors_only() -> Iterator[None]:
    """Have every ``torch.load`` of other libraries refuse what is more than tensors, whatever they ask for."""
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCED]
        else:
            os.environ[FORCED] = before
