"""Figures and pictures as they go into the page: WebP of at most 1,200 pixels in a data: URI, with a caption."""

import base64
import io
import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from analysis.style import TABLES, checksum
from gat.errors import UserError, first_line

WIDE = 1.7
"""Of width over height, from where a picture takes the whole line."""
OTHERS = "Others"
FIGURES = "figures"
LARGEST_PX, QUALITY = 1200, 75
"""Of the longer side, and of WebP's: the page holds all pictures, and the PNGs lie beside it."""


@dataclass(frozen=True)
class Picture:
    """A PNG as the page shows it."""

    name: str
    caption: str
    uri: str
    width_px: int
    height_px: int
    drawn_from: Mapping[str, str] | None
    """SHA-256 of files by path in the study's folder, as the PNG says; None if it says nothing."""
    warning: str = ""

    @property
    def wide(self) -> bool:
        """Whether it takes the whole line."""
        return self.width_px > WIDE * self.height_px


def read_picture(file: Path, name: str, caption: str | None) -> Picture:
    """Read a PNG file, made smaller; without a caption its name is one. :class:`UserError` for one that is no whole PNG."""
    content = io.BytesIO()
    try:
        with Image.open(file, formats=["PNG"]) as image:
            width_px, height_px = image.size
            image.load()
            drawn_from = json.loads(image.info[TABLES]) if TABLES in image.info else None
            image.thumbnail((LARGEST_PX, LARGEST_PX))
            image.convert("RGB").save(content, "WEBP", quality=QUALITY, method=6)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: is no whole PNG ({first_line(error)}): draw it again, or remove it") from error
    uri = "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
    return Picture(name, caption or name, uri, width_px, height_px, drawn_from)


def figures_in(study: Path, captions: Mapping[str, str]) -> list[Picture]:
    """Figures of a study's folder that have a caption (by file name without suffix), in its order; others are left out.

    One whose tables have changed since has a warning.
    """
    files = {name: study / FIGURES / f"{name}.png" for name in captions}
    found = {name: read_picture(file, words(name), captions[name]) for name, file in files.items() if file.is_file()}
    return [replace(one, warning=warning_of(one, study, name)) for name, one in found.items()]


def warning_of(picture: Picture, study: Path, name: str) -> str:
    """Return a warning if a figure was drawn from tables other than the present ones; else an empty string."""
    again = shlex.join(["python", "analysis/figures.py", f"study={study.name}", f"figures={name}"])
    if picture.drawn_from is None:
        return f"It does not say which tables it was drawn from: {again}"
    if any(checksum(study / file) != sum_then for file, sum_then in picture.drawn_from.items()):
        return f"Drawn from older tables: {again}"
    return ""


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
