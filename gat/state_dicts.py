"""State dicts in files from other sources: read as tensors only, found under the usual keys, wrappers' prefixes removed.

A pickle can run any code. This module reads pickles with ``weights_only=True``, allowing no class besides tensors but
``argparse.Namespace``; :func:`tensors_only` holds other libraries to tensors too.
"""

import argparse
import json
import os
import pickle
import re
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
"""Parts of keys added by DataParallel, AveragedModel, torch.compile, FSDP and activation checkpointing."""
COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
BARE = "state dict"
DEEPEST = 3
KEYS_SHOWN = 8
OF_DIFFUSERS = re.compile(
    r"diffusion_pytorch_model(?:\.(?P<variant>\w+))?\.(?P<kind>safetensors|bin)"
    r"(?P<index>\.index(?:\.(?P<of>\w+))?\.json)?"
)
"""Name of a file of weights, or of the index of its shards, in diffusers' layout."""
FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"

StateDict = dict[str, Tensor]


def read_weights(file: Path) -> dict[str, Any]:
    """Return the contents of a file of weights, safetensors or pickle by its suffix; raise :class:`UserError` for neither."""
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
            f"{file}: refused, as it holds more than tensors and argparse.Namespace ({reason}), and a pickle can run any "
            "code: ask its owner to save only the state dict"
        ) from error
    except Exception as error:  # damaged archives raise their own kinds
        raise UserError(f"{file}: not a whole PyTorch checkpoint ({first_line(error)}): fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}, not a checkpoint or state dict: give another file")
    return content


def diffusers_file(folder: Path) -> tuple[Path, str | None] | None:
    """Return the file of weights (or shards' index) of a model in diffusers' layout, and its variant; None if there is none.

    Safetensors are preferred to pickles, weights without a variant to others. Raises :class:`UserError` if several variants
    remain.
    """
    found = []
    for file in folder.glob("diffusion_pytorch_model*"):
        if match := OF_DIFFUSERS.fullmatch(file.name):
            variant = match["variant"] or match["of"] or ""
            found.append((match["kind"] == "bin", variant, bool(match["index"]), file))
    if not found:
        return None
    pickled, variant, _, file = min(found)
    variants = sorted({other for kind, other, *_ in found if kind == pickled})
    if variant and len(variants) > 1:
        raise UserError(
            f"{folder}: holds the variants {', '.join(variants)}: keep only one of them, or add the weights without a variant"
        )
    return file, variant or None


def read_diffusers(file: Path) -> tuple[dict[str, Any], list[Path]]:
    """Return the tensors of a file or index found by :func:`diffusers_file`, and the files that hold them."""
    if file.suffix != ".json":
        return read_weights(file), [file]
    try:
        names = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [file.parent / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not an index of shards ({first_line(error)}): fetch it again") from error
    return {key: value for shard in shards for key, value in read_weights(shard).items()}, shards


def state_in(content: Mapping[Any, Any], keys: tuple[str, ...], depth: int = DEEPEST) -> tuple[str, StateDict]:
    """Return the key and the tensors of the first state dict under ``keys``, in their order, else of ``content`` itself.

    Empty entries are skipped. Raises ValueError, listing the keys of ``content``, if no tensors are found.
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
    """Return the tensors of ``state``, detached, keys without wrappers' parts; raise ValueError if two keys become one."""
    tensors: StateDict = {}
    for key, value in state.items():
        plain = ".".join(part for part in str(key).split(".") if part not in WRAPPERS)
        if not isinstance(value, Tensor) or plain == COUNTER:
            continue
        if plain in tensors:
            raise ValueError(f"{plain!r} is in it twice, with and without a wrapper's prefix")
        tensors[plain] = value.detach()
    return tensors


def listed(keys: Iterable[Any]) -> str:
    """Return the first few ``keys`` as one line of text."""
    names = [repr(key) for key in keys]
    more = f" and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
    return ", ".join(names[:KEYS_SHOWN]) + more if names else "none"


@contextmanager
def tensors_only() -> Iterator[None]:
    """Make every ``torch.load`` in the block, of other libraries too, refuse anything but tensors."""
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCED]
        else:
            os.environ[FORCED] = before
