"""Figures and pictures as they go into the page: bytes in a data: URI, with a caption."""

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gat.errors import UserError, first_line

WIDE = 1.7
"""Of width over height, from where a picture takes the whole line."""
OTHERS = "Others"


@dataclass(frozen=True)
class Picture:
    """A PNG."""

    name: str
    caption: str
    uri: str
    width_px: int
    height_px: int

    @property
    def wide(self) -> bool:
        """Whether it takes the whole line."""
        return self.width_px > WIDE * self.height_px


def read_picture(file: Path, name: str, caption: str | None) -> Picture:
    """A PNG file, as it is; without a caption its name is one. :class:`UserError` for one that is no whole PNG."""
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            width_px, height_px = image.size
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is no whole PNG ({first_line(error)}): draw it again, or remove it") from error
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    return Picture(name, caption or name, uri, width_px, height_px)


def figures_in(folder: Path, captions: Mapping[str, str]) -> list[Picture]:
    """Every PNG of a folder, by name. ``captions``: by file name without suffix."""
    return [read_picture(file, words(file.stem), captions.get(file.stem)) for file in sorted(folder.glob("*.png"))]


def pictures_in(folder: Path, sweeps: Collection[str], captions: Mapping[str, str]) -> dict[str, list[Picture]]:
    """Every PNG of a folder by the sweep that its name begins with (``SWEEP-...``), sweeps and pictures by name."""
    groups: dict[str, list[Picture]] = {}
    for file in sorted(folder.glob("*.png")):
        sweep = max((one for one in sweeps if file.stem.startswith(f"{one}-")), key=len, default=OTHERS)
        name = words(file.stem.removeprefix(f"{sweep}-"))
        groups.setdefault(sweep, []).append(read_picture(file, name, captions.get(file.stem)))
    return dict(sorted(groups.items(), key=lambda group: (group[0] == OTHERS, group[0])))


def words(stem: str) -> str:
    """A file's name for readers."""
    return " ".join(stem.replace("_", " ").replace("-", " ").split())
