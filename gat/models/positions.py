"""Position codes: a trained embedding that starts as a 2-D sine-cosine one, and fixed axial 2-D RoPE (method, sections 1, 2).

The embedding is trained because the release's loop trains it (docs/differences-from-release.md, point 13).

Shapes: B batch, A attention heads, N tokens (row-major over a square grid), d width, h head dimension.
"""

import torch
from torch import Tensor

FREQUENCY_BASE = 10_000.0


def grid_indices(side: int) -> tuple[Tensor, Tensor]:
    """Row and column index of each token of a ``side`` x ``side`` grid, row-major: two float64 tensors (N,)."""
    index = torch.arange(side, dtype=torch.float64)
    rows, columns = torch.meshgrid(index, index, indexing="ij")
    return rows.flatten(), columns.flatten()


def sincos_2d(width: int, side: int) -> Tensor:
    """The MAE/DiT position embedding: (N, d) float64; first half of d codes the column, second half the row.

    Raises ValueError unless ``width`` is divisible by 4.
    """
    if width % 4:
        raise ValueError(f"width {width} must be divisible by 4 for 2-D sine-cosine position codes")
    quarter = width // 4
    omega = FREQUENCY_BASE ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = grid_indices(side)
    angles = [position[:, None] * omega for position in (columns, rows)]
    return torch.cat([torch.cat([a.sin(), a.cos()], dim=1) for a in angles], dim=1)


def axial_rope(head_dim: int, side: int) -> Tensor:
    """Table (2, N, h), float64, of cosines and signed sines: ``x * cos + swap_pairs(x) * sin`` turns x (..., N, h).

    First half of h turns by row index, second half by column index; neighbouring pairs (2i, 2i+1) turn by the same angle.
    Raises ValueError unless ``head_dim`` is divisible by 4.
    """
    if head_dim % 4:
        raise ValueError(f"head dimension {head_dim} must be divisible by 4 for axial 2-D RoPE")
    half = head_dim // 2
    frequencies = FREQUENCY_BASE ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)
    angles = torch.cat([position[:, None] * frequencies for position in grid_indices(side)], dim=1)
    sin = angles.sin()
    return torch.stack([angles.cos().repeat_interleave(2, dim=1), torch.stack([-sin, sin], dim=2).flatten(1)])


def swap_pairs(x: Tensor) -> Tensor:
    """Exchange the neighbours (2i, 2i+1) of the last axis."""
    return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
