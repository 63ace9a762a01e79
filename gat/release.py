"""Interoperability with the authors' release (github hse1032/GAT, commit 21a2dd0): its state dicts to our modules.

Only key names and unused weights differ. The release's generator owns a patch embedding whose output it multiplies by
zero: ours has none, and drops it. RoPE's tables are fixed: the state dict's are checked against ours, then taken.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from gat.models.discriminator import Discriminator, DiscriminatorDims
from gat.models.generator import Generator, GeneratorDims
from gat.models.layers import square_side
from gat.state_dicts import AVERAGED, PLAIN, StateDict, listed, state_in

RELEASE_STAGES = 4  # hard-coded in the release's discriminator
ROPE_TOLERANCE = 1e-2  # admits tables stored in bf16

ROPE_KEYS = ("feat_rope.freqs_cos", "feat_rope.freqs_sin")

Model = TypeVar("Model", Generator, Discriminator)
Renames = tuple[tuple[str, str], ...]

# Our key (pattern) -> the release's. First match wins; other keys are the same in both.
GENERATOR_RENAMES: Renames = (
    (r"^class_embedding\.", "y_embedder.embedding_table."),
    (r"^mapping\.", "latent_embedder."),
    (r"^heads\.", "final_layers."),
    (r"\.modulation\.", ".adaLN_modulation.1."),
    (r"^mean_w$", "w_avg"),
)
DISCRIMINATOR_RENAMES: Renames = (
    (r"^patch_embed\.", "x_embedder.proj."),
    (r"^class_embedding\.", "y_embedder.embedding_table."),
    (r"^class_mlp\.", "y_embedder.latent_embedder."),
    (r"^logit_norm\.", "final_layer.0."),
    (r"^logit_linear\.", "final_layer.1."),
    (r"^projector\.", "proj."),
)


def load_generator(state: Mapping[str, Any]) -> Generator:
    """Make our generator from a state dict with the release's key names, all dimensions read from the tensors.

    Wrappers' prefixes are removed; of a whole checkpoint, the averaged weights are taken. Raises ValueError naming the
    first key that is unknown, missing or of a wrong shape.
    """
    _, tensors = state_in(state, (*AVERAGED, *PLAIN))
    dims = generator_dims_of(tensors)
    dead = {"x_embedder.proj.weight": _patch_weight(tensors).shape, "x_embedder.proj.bias": torch.Size([dims.width])}
    return _load(Generator(dims), tensors, GENERATOR_RENAMES, dead)


def generator_dims_of(state: StateDict) -> GeneratorDims:
    """A generator's dimensions, from its tensors' names and shapes alone. Raises ValueError as :func:`load_generator`."""
    width, channels, patch, _ = _patch_weight(state).shape
    num_classes, z_dim = _need(state, "y_embedder.embedding_table.weight", ndim=2).shape
    dims = GeneratorDims(
        width=width,
        depth=_count(state, "blocks"),
        heads=_heads(state, width),
        patch=patch,
        num_classes=num_classes,
        z_dim=z_dim,
        latent_side=_grid_side(state) * patch,
        channels=channels,
        num_stages=_count(state, "final_layers"),
    )
    if dims.depth % dims.num_stages:
        raise ValueError(f"final_layers: {dims.num_stages} stages do not divide {dims.depth} blocks")
    return dims


def load_discriminator(state: Mapping[str, Any]) -> Discriminator:
    """Make our discriminator from a state dict with the release's key names, all dimensions read from the tensors.

    Wrappers' prefixes are removed; of a whole checkpoint, its ``discriminator`` is taken. Raises ValueError naming the
    first key that is unknown, missing or of a wrong shape.
    """
    _, tensors = state_in(state, ("discriminator", *PLAIN))
    patch_weight = _patch_weight(tensors)
    width, stacked_channels, patch, _ = patch_weight.shape
    if stacked_channels % RELEASE_STAGES:
        raise ValueError(
            f"x_embedder.proj.weight: {stacked_channels} channels are not a stack of {RELEASE_STAGES} stages"
        )
    dims = DiscriminatorDims(
        width=width,
        depth=_count(tensors, "blocks"),
        heads=_heads(tensors, width),
        patch=patch,
        num_classes=len(_need(tensors, "y_embedder.embedding_table.weight", ndim=2)),
        latent_side=_grid_side(tensors) * patch,
        logit_width=len(_need(tensors, "final_layer.1.weight", ndim=2)),
        projector_width=len(_need(tensors, "proj.0.weight", ndim=2)),
        teacher_width=len(_need(tensors, "proj.4.weight", ndim=2)),
        channels=stacked_channels // RELEASE_STAGES,
        num_stages=RELEASE_STAGES,
    )
    return _load(Discriminator(dims), tensors, DISCRIMINATOR_RENAMES, {})


def release_key(key: str, renames: Renames) -> str:
    """The release's name of our state-dict key."""
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def _load(model: Model, state: StateDict, renames: Renames, dead: dict[str, torch.Size]) -> Model:
    model.to(_need(state, "pos_embed", ndim=3).dtype)
    ours = {release_key(key, renames): key for key in model.state_dict()}
    table = torch.Size((model.dims.tokens, model.rope.shape[2]))
    _check_keys(
        state,
        {name: model.state_dict()[key].shape for name, key in ours.items()} | dict.fromkeys(ROPE_KEYS, table) | dead,
    )
    _take_rope(model, state)
    model.load_state_dict({key: state[name] for name, key in ours.items()})
    return model


def _take_rope(model: Generator | Discriminator, state: StateDict) -> None:
    """Check the state dict's tables against ours and take them, to the last bit.

    The release computes them in single precision, and stores RoPE's sines without sign and without a row for [cls].
    """
    tokens = model.dims.tokens
    cos, sin = model.rope[0, -tokens:], model.rope[1, -tokens:]
    sign = torch.tensor([-1, 1]).repeat(sin.shape[1] // 2)
    for name, ours, factor in zip(ROPE_KEYS, (cos, sin), (torch.ones(()), sign), strict=True):
        theirs = state[name].to(ours) * factor
        if not torch.allclose(theirs, ours, atol=ROPE_TOLERANCE):
            raise ValueError(f"{name}: its values are not the fixed rotations of GAT")
        ours.copy_(theirs)


def _check_keys(state: StateDict, shapes: dict[str, torch.Size]) -> None:
    _refuse("missing key", shapes.keys() - state.keys())
    _refuse("unknown key", state.keys() - shapes.keys())
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"{name}: shape {tuple(state[name].shape)}, expected {tuple(shape)}")
        if not state[name].isfinite().all():
            raise ValueError(f"{name}: holds values that are not finite")


def _refuse(problem: str, names: Iterable[str]) -> None:
    first = min(names, default=None)
    if first is not None:
        raise ValueError(f"{problem} {first!r} in the state dict")


def _need(state: StateDict, name: str, ndim: int) -> Tensor:
    if name not in state:
        raise ValueError(f"missing key {name!r} in the state dict, whose keys are {listed(state)}")
    if state[name].ndim != ndim:
        raise ValueError(f"{name}: shape {tuple(state[name].shape)}, expected {ndim} dimensions")
    return state[name]


def _patch_weight(state: StateDict) -> Tensor:
    weight = _need(state, "x_embedder.proj.weight", ndim=4)
    if weight.shape[2] != weight.shape[3]:
        raise ValueError(f"x_embedder.proj.weight: shape {tuple(weight.shape)}, expected square patches")
    return weight


def _count(state: StateDict, prefix: str) -> int:
    """Return how many modules ``prefix``.0, ``prefix``.1, ... the keys name."""
    numbers = [int(m[1]) for key in state if (m := re.match(rf"{prefix}\.(\d+)\.", key))]
    if not numbers:
        raise ValueError(f"missing key '{prefix}.0.*' in the state dict, whose keys are {listed(state)}")
    return max(numbers) + 1


def _heads(state: StateDict, width: int) -> int:
    name = "blocks.0.attn.q_norm.weight"
    head_dim = len(_need(state, name, ndim=1))
    if not head_dim or width % head_dim or head_dim % 4:
        raise ValueError(f"{name}: head dimension {head_dim} does not fit width {width}")
    return width // head_dim


def _grid_side(state: StateDict) -> int:
    tokens = _need(state, "pos_embed", ndim=3).shape[1]
    try:
        return square_side(tokens)
    except ValueError as error:
        raise ValueError(f"pos_embed: {error}") from error
