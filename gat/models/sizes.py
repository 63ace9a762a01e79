"""Named sizes (method, section 6) and the ``mini`` family, and the networks built from them.

``mini`` scales as the paper's family does, for 8x8x4 latents (but a head is 16 wide in S and 32 in the others, the paper's 64
to 72), and the widths of the logit and of the alignment projector shrink too (two 2048 x 2048 matrices would dominate).
``mini_widths`` is for what is said of the width (paper section 2.4): width alone doubles from size to size, depth and width
of a head stay.
"""

from dataclasses import dataclass

from gat.errors import UserError, require_choice
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims


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
    """Dimensions of a named generator. :class:`UserError` for an unknown size or sizes that do not divide."""
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
    """Dimensions of a named discriminator. :class:`UserError` for an unknown size or patch that does not divide."""
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
