"""Pictures in columns with headings.

Shapes: n images, P image side in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from gat.samples.pictures import PADDING_PX, enlarged, picture

CELL_PX = 96
LABEL_PX = 14


def save_labelled(images: Tensor, file: Path, labels: Sequence[str]) -> None:
    """Write a PNG of images (n, 3, P, P), uint8, in rows of ``len(labels)``, each of which stands above its column.

    Images of less than 96 pixels a side are enlarged, each pixel a square.
    """
    cells = enlarged(images, CELL_PX)
    grid = make_grid(cells, nrow=len(labels), padding=PADDING_PX, pad_value=255).permute(1, 2, 0).cpu().numpy()
    lines = 1 + max(label.count("\n") for label in labels)
    head = np.full((lines * LABEL_PX + 4, *grid.shape[1:]), 255, dtype=np.uint8)
    sheet = Image.fromarray(np.concatenate([head, grid]))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL_PX - 3)
    step = cells.shape[-1] + PADDING_PX
    for column, label in enumerate(labels):
        draw.multiline_text((PADDING_PX + column * step, 1), label, fill="black", font=font, spacing=2)
    with picture(file) as stream:
        sheet.save(stream, "png")
