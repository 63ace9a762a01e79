"""Pictures in columns with headings, one sheet or several above each other.

Shapes: n images, P image side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from gat.samples.pictures import PADDING_PX, enlarged, picture

CELL_PX = 96
LABEL_PX = 14
GAP_PX = 10  # above a sheet's title
FONT, TITLE_FONT = ImageFont.load_default(LABEL_PX - 3), ImageFont.load_default(LABEL_PX)


@dataclass(frozen=True)
class Sheet:
    """Images (n, 3, P, P), uint8, in rows of ``len(headings)``, each of which stands above its column."""

    images: Tensor
    headings: Sequence[str]
    rows: Sequence[str] = ()
    """What stands left of the rows; empty: nothing."""

    def save(self, file: Path) -> None:
        """Write a PNG. Images of less than 96 pixels a side are enlarged, each pixel a square."""
        save_sheets([("", self)], file)


def save_labelled(images: Tensor, file: Path, labels: Sequence[str]) -> None:
    """Write a PNG of images (n, 3, P, P), uint8, in rows of ``len(labels)``, as a :class:`Sheet`."""
    Sheet(images, labels).save(file)


def save_sheets(sheets: Sequence[tuple[str, Sheet]], file: Path) -> None:
    """Write a PNG of sheets above each other, each under its title (empty: none)."""
    left = max((_width(label) for _, sheet in sheets for label in sheet.rows), default=0)
    parts = [drawn for title, sheet in sheets for drawn in (*_titled(title), _drawn(sheet, left))]
    width = max(part.shape[1] for part in parts)
    whole = np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in parts])
    with picture(file) as stream:
        Image.fromarray(whole).save(stream, "png")


def _drawn(sheet: Sheet, left: int) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) of a sheet, its rows' labels in ``left`` pixels."""
    cells = enlarged(sheet.images, CELL_PX)
    grid = make_grid(cells, nrow=len(sheet.headings), padding=PADDING_PX, pad_value=255).permute(1, 2, 0).cpu().numpy()
    lines = 1 + max(heading.count("\n") for heading in sheet.headings)
    top = lines * LABEL_PX + 4
    blank = np.pad(grid, ((top, 0), (left, 0), (0, 0)), constant_values=255)
    canvas = Image.fromarray(blank)
    draw, step = ImageDraw.Draw(canvas), cells.shape[-1] + PADDING_PX
    for column, heading in enumerate(sheet.headings):
        draw.multiline_text((left + PADDING_PX + column * step, 1), heading, fill="black", font=FONT, spacing=2)
    for row, label in enumerate(sheet.rows):
        middle = top + PADDING_PX + row * step + step // 2
        draw.multiline_text((PADDING_PX, middle), label, fill="black", font=FONT, spacing=2, anchor="lm")
    return np.asarray(canvas)


def _titled(title: str) -> list[NDArray[np.uint8]]:
    """Pixels of a title, or nothing."""
    if not title:
        return []
    canvas = Image.new("RGB", (int(TITLE_FONT.getlength(title)) + 8, GAP_PX + LABEL_PX + 8), "white")
    ImageDraw.Draw(canvas).text((PADDING_PX, GAP_PX), title, fill="black", font=TITLE_FONT)
    return [np.asarray(canvas)]


def _width(text: str) -> int:
    """Of text with lines, in pixels, and some room."""
    return 8 + max(int(FONT.getlength(line)) for line in text.split("\n"))
