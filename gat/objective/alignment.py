"""REPA: alignment of a network's tokens with a frozen teacher's (method, section 4: on D; on G as an ablation).

Shapes: B batch, N patch tokens of the network, M patch tokens of the teacher, T teacher width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gat.models.layers import square_side

TRANSLATIONS = ("exact", "as_released")


def resize_tokens(tokens: Tensor, count: int) -> Tensor:
    """Bicubic resize of a teacher's square token grid: (B, M, T) -> (B, ``count``, T)."""
    if tokens.shape[1] == count:
        return tokens
    grid = tokens.transpose(1, 2).unflatten(2, (square_side(tokens.shape[1]), -1))
    side = square_side(count)
    resized = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def alignment_loss(cls: Tensor, patches: Tensor, teacher_cls: Tensor, teacher_patches: Tensor) -> Tensor:
    """(1 - cos of [cls]) + mean over tokens of (1 - cos), per sample (B,).

    cls (B, T), patches (B, N, T): D's projections; teacher_cls (B, T), teacher_patches (B, M, T).
    """
    on_cls = 1 - F.cosine_similarity(cls, teacher_cls, dim=-1)
    return on_cls + patch_alignment_loss(patches, teacher_patches)


def patch_alignment_loss(patches: Tensor, teacher_patches: Tensor) -> Tensor:
    """Mean over tokens of (1 - cos), per sample (B,): projections (B, N, T), the teacher's (B, M, T) resized to them."""
    target = resize_tokens(teacher_patches, patches.shape[1])
    return (1 - F.cosine_similarity(patches, target, dim=-1)).mean(dim=1)


def teacher_shift(cells: Tensor, teacher_px: int, latent_side: int, translation: str) -> Tensor:
    """Pixels by which the teacher's image moves where the latent moved by ``cells``.

    ``exact``: cells * teacher_px // latent_side. ``as_released``: the release's inverted ratio, cells * latent_side //
    teacher_px, which is 0 or -1 pixel.
    """
    if translation == "exact":
        return cells * teacher_px // latent_side
    return cells * latent_side // teacher_px


def move_images(images: Tensor, shift_rows: Tensor, shift_columns: Tensor, flip: Tensor) -> Tensor:
    """Translate, then flip normalised images (B, 3, P, P) as the latents were; shifts in pixels and flip (B,).

    Borders are filled with zeros: in a normalised image, the mean colour of the normalisation.
    """
    side = images.shape[-1]
    pixels = torch.arange(side, device=images.device)
    rows = pixels + shift_rows[:, None]
    columns = torch.where(flip[:, None], pixels.flip(0), pixels) + shift_columns[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        batch, rows.clamp(0, side - 1)[:, :, None], columns.clamp(0, side - 1)[:, None, :]
    ]
    return (moved * inside[..., None].to(images.dtype)).permute(0, 3, 1, 2)
