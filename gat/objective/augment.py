"""DiffAugment on latents with explicit parameters (method, section 4).

In this order: colour (brightness, saturation, contrast), translation, cutout, horizontal flip. One draw per sample, shared
by all its stages and by the penalties' perturbed copies. Shapes: K stages, B batch, C channels, H = W latent side.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

TRANSLATION_SHARE = 0.125
CUTOUT_SHARE = 0.5


@dataclass(frozen=True)
class AugmentRates:
    """Share of the samples that each augmentation touches; 0 takes it out."""

    color: float = 0.5
    translation: float = 1.0
    cutout: float = 1.0
    flip: float = 0.4


@dataclass(frozen=True)
class AugmentParams:
    """One draw per sample; each field (B,).

    ``color``, ``cutout`` and ``flip`` say which samples are touched. ``brightness``, ``saturation``, ``contrast``: uniforms u
    in [0, 1). ``shift_rows``, ``shift_columns``: cells that the content moves up and left. ``cutout_rows``,
    ``cutout_columns``: centre cell of the cut square.
    """

    color: Tensor
    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    shift_rows: Tensor
    shift_columns: Tensor
    cutout: Tensor
    cutout_rows: Tensor
    cutout_columns: Tensor
    flip: Tensor

    def rows(self, selection: slice) -> "AugmentParams":
        """The draws of some of the samples."""
        return AugmentParams(**{f.name: getattr(self, f.name)[selection] for f in fields(self)})


def draw_params(batch: int, side: int, rates: AugmentRates, generator: torch.Generator) -> AugmentParams:
    """Draw the parameters of ``batch`` samples of latents of ``side`` cells from ``generator``, on its device."""

    def uniform() -> Tensor:
        return torch.rand(batch, generator=generator, device=generator.device)

    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (batch,), generator=generator, device=generator.device)

    shift = int(side * TRANSLATION_SHARE + 0.5)
    last_center = side - cutout_cells(side) % 2
    moved = uniform() < rates.translation
    return AugmentParams(
        color=uniform() < rates.color,
        brightness=uniform(),
        saturation=uniform(),
        contrast=uniform(),
        shift_rows=integers(-shift, shift) * moved,
        shift_columns=integers(-shift, shift) * moved,
        cutout=uniform() < rates.cutout,
        cutout_rows=integers(0, last_center),
        cutout_columns=integers(0, last_center),
        flip=uniform() < rates.flip,
    )


def cutout_cells(side: int) -> int:
    """Side of the cut square, in cells."""
    return int(side * CUTOUT_SHARE + 0.5)


def augment(images: Tensor, params: AugmentParams, means_of: Tensor) -> Tensor:
    """Apply one draw per sample: (..., B, C, H, W) -> the same shape; leading axes (stages) share the draw.

    ``means_of`` (B, C, H, W): the images whose means saturation and contrast are taken about. The release stores these
    means with the draws and reuses both: all stages of a fake use those of its last stage, a perturbed copy those of the
    unperturbed image (its ``losses/diffaug.py``, ``losses/Rp_PT_loss.py``). Gradients flow through the means.
    """
    return _move_and_cut(_color(images, params, means_of), params)


def _color(x: Tensor, params: AugmentParams, means_of: Tensor) -> Tensor:
    """Brightness, saturation, contrast. As in the release, both means are those of the image before brightness."""

    def column(values: Tensor) -> Tensor:
        return values.to(x.dtype).view(-1, 1, 1, 1)

    channel_mean = means_of.mean(dim=-3, keepdim=True)
    image_mean = means_of.mean(dim=(-3, -2, -1), keepdim=True)
    bright = x + (column(params.brightness) - 0.5)
    saturated = torch.lerp(channel_mean, bright, 2 * column(params.saturation))
    contrasted = torch.lerp(image_mean, saturated, column(params.contrast) + 0.5)
    return torch.where(params.color.view(-1, 1, 1, 1), contrasted, x)


def _move_and_cut(x: Tensor, params: AugmentParams) -> Tensor:
    """Translation, cutout and flip as one gather of cells and one mask."""
    side = x.shape[-1]
    cells = torch.arange(side, device=x.device)
    columns = torch.where(params.flip[:, None], cells.flip(0), cells)  # (B, W): column before the flip
    rows = cells.expand(len(params.flip), -1)
    keep = ~(_cut(rows, params.cutout_rows)[:, :, None] & _cut(columns, params.cutout_columns)[:, None, :])
    keep = keep | ~params.cutout[:, None, None]
    rows = rows + params.shift_rows[:, None]
    columns = columns + params.shift_columns[:, None]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    source = rows.clamp(0, side - 1)[:, :, None] * side + columns.clamp(0, side - 1)[:, None, :]
    index = source.flatten(1)[:, None].expand(*x.shape[:-2], -1)
    moved = x.flatten(-2).gather(-1, index).view(x.shape)
    return moved * (keep & inside)[:, None].to(x.dtype)


def _cut(cells: Tensor, centers: Tensor) -> Tensor:
    """Which cells (B, side) of one axis lie within the cut square around ``centers`` (B,)."""
    # `cells` are those of the image before the flip, so that the square is cut where the release cuts it.
    size = cutout_cells(cells.shape[-1])
    low = centers[:, None] - size // 2
    return (cells >= low) & (cells < low + size)
