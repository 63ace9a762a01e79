"""Named sizes (method, section 6) and the ``mini`` family, and the networks built from them.

``mini`` scales as the paper's family does, for 8x8x4 latents (but a head is 16 wide in S and 32 in the others, the paper's 64
to 72), and the widths of the logit and of the alignment projector shrink too (two 2048 x 2048 matrices would dominate).
``mini_widths`` is for what is said of the width (paper section 2.4): width alone doubles from size to size, depth and width
of a head stay.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from gat.config import ModelConfig
from gat.errors import UserError, require_choice
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims

HEAD_MULTIPLE = 4
Dims = TypeVar("Dims", GeneratorDims, DiscriminatorDims)


@dataclass(frozen=True)
class Size:
    """Depth L, width d and number of attention heads of one logical size."""

    depth: int
    width: int
    heads: int


@dataclass(frozen=True)
class Family:
    """The four logical sizes, the patch sizes offered, and the discriminator's two head widths."""

    sizes: dict[str, Size]
    patches: tuple[int, ...]
    logit_width: int
    projector_width: int


FAMILIES = {
    "gat": Family(
        sizes={"S": Size(12, 384, 6), "B": Size(12, 768, 12), "L": Size(24, 1024, 16), "XL": Size(28, 1152, 16)},
        patches=(2, 4, 8),
        logit_width=2048,
        projector_width=2048,
    ),
    "mini": Family(
        sizes={"S": Size(8, 64, 4), "B": Size(8, 128, 4), "L": Size(12, 160, 5), "XL": Size(16, 192, 6)},
        patches=(1, 2, 4),
        logit_width=256,
        projector_width=256,
    ),
    "mini_widths": Family(
        sizes={"S": Size(4, 32, 2), "B": Size(4, 64, 4), "L": Size(4, 128, 8), "XL": Size(4, 256, 16)},
        patches=(1, 2, 4),
        logit_width=256,
        projector_width=256,
    ),
}


def find_size(family: str, size: str) -> Size:
    """The :class:`Size` of that name; :class:`UserError` for an unknown family or size."""
    require_choice("model.family", family, tuple(FAMILIES))
    sizes = FAMILIES[family].sizes
    if size not in sizes:
        raise UserError(f"model size {size!r} is unknown in family {family!r}: choose one of {', '.join(sizes)}")
    return sizes[size]


def body_of(model: ModelConfig) -> Size:
    """Return depth, width and heads of both networks: those typed as ``model.depth`` and so on, else the size's.

    Raises :class:`UserError` where they cannot be typed (family ``gat``, whose sizes are the paper's, or networks of two
    sizes) or do not fit each other.
    """
    named = find_size(model.family, model.size)
    typed = {name: value for name in ("depth", "width", "heads") if (value := getattr(model, name)) is not None}
    if not typed:
        return named
    shown = ", ".join(f"model.{name}={value}" for name, value in typed.items())
    if model.family == "gat" or model.discriminator_size is not None:
        raise UserError(
            f"{shown}: can be set in the mini families alone, and not beside model.discriminator_size: set model.family=mini "
            "and model.discriminator_size=null, or leave it out"
        )
    body = replace(named, **typed)
    if body.width % (HEAD_MULTIPLE * body.heads):
        raise UserError(
            f"{shown}: {body.heads} heads do not divide width {body.width} into heads of a multiple of {HEAD_MULTIPLE} "
            "(two halves of pairs for RoPE): choose others"
        )
    return body


def resized(dims: Dims, model: ModelConfig) -> Dims:
    """Return ``dims`` with depth, width and heads as :func:`body_of` says; of a discriminator of its own size, unchanged."""
    if model.discriminator_size is not None:
        return dims
    body = body_of(model)
    if isinstance(dims, GeneratorDims) and body.depth % dims.num_stages:
        raise UserError(f"depth {body.depth} is not divisible by {dims.num_stages} stages: change model.num_stages")
    return replace(dims, depth=body.depth, width=body.width, heads=body.heads)


def check_grid(family: str, depth: int, patch: int, latent_side: int, num_stages: int) -> None:
    """:class:`UserError` unless the patch is offered and divides the latents, and the stages divide the depth."""
    patches = FAMILIES[family].patches
    if patch not in patches:
        offered = ", ".join(map(str, patches))
        raise UserError(f"model.patch={patch} is not offered by family {family!r}: choose one of {offered}")
    if latent_side % patch:
        raise UserError(f"latents of side {latent_side} are not divisible by model.patch={patch}: choose another patch")
    if num_stages < 1 or depth % num_stages:
        raise UserError(f"depth {depth} is not divisible by {num_stages} stages: change model.num_stages")


def generator_dims(
    family: str,
    size: str,
    *,
    patch: int,
    num_classes: int,
    latent_side: int,
    teacher_width: int = 0,
    aligned_block: int | None = None,
    channels: int = 4,
    num_stages: int = 4,
) -> GeneratorDims:
    """Return the dimensions of a named generator. Raises :class:`UserError` for unknown or indivisible sizes."""
    body = find_size(family, size)
    check_grid(family, body.depth, patch, latent_side, num_stages)
    return GeneratorDims(
        width=body.width,
        depth=body.depth,
        heads=body.heads,
        patch=patch,
        num_classes=num_classes,
        latent_side=latent_side,
        channels=channels,
        num_stages=num_stages,
        teacher_width=teacher_width,
        projector_width=FAMILIES[family].projector_width if teacher_width else 0,
        aligned_block=aligned_block,
    )


def discriminator_dims(
    family: str,
    size: str,
    *,
    patch: int,
    num_classes: int,
    latent_side: int,
    teacher_width: int,
    channels: int = 4,
    num_stages: int = 4,
) -> DiscriminatorDims:
    """Return the dimensions of a named discriminator. Raises :class:`UserError` for an unknown size or patch."""
    body = find_size(family, size)
    check_grid(family, num_stages, patch, latent_side, num_stages)  # its depth is free of the stages
    return DiscriminatorDims(
        width=body.width,
        depth=body.depth,
        heads=body.heads,
        patch=patch,
        num_classes=num_classes,
        latent_side=latent_side,
        logit_width=FAMILIES[family].logit_width,
        projector_width=FAMILIES[family].projector_width,
        teacher_width=teacher_width,
        channels=channels,
        num_stages=num_stages,
    )
