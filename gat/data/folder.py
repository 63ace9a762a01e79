"""Folders of image files, a folder per class: listed once, then known by the frozen list."""

import json
import os
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
from numpy.typing import NDArray
from PIL import Image

from gat.errors import UserError
from gat.files import replacing

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


class CorruptImageError(UserError):
    """An image that cannot be decoded; the message names it."""


@dataclass
class FolderSource:
    """Image files, a folder per class. ``files`` are relative to ``root``; ``ignored`` counts files that are no images."""

    root: Path
    class_names: Sequence[str]
    labels: NDArray[np.int64]
    files: Sequence[str]
    ignored: int = 0

    @property
    def name(self) -> str:
        """Kind and place."""
        return f"image_folder:{self.root.resolve()}"

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> Image.Image:
        """Decode one file to RGB; :class:`CorruptImageError` if that fails."""
        return read_image(self.root / self.files[index])

    def columns(self) -> dict[str, Any]:
        """What is frozen."""
        return {"file": self.files, "label": self.labels}

    def freeze(self, file: Path) -> None:
        """Keep the list as a Feather file: later changes of the folder do not change what is prepared."""
        facts = {"classes": json.dumps(list(self.class_names)), "ignored": str(self.ignored)}
        table = pa.table(self.columns())
        with replacing(file) as stream:
            pyarrow.feather.write_feather(table.replace_schema_metadata(facts), stream)


def frozen_folder(file: Path, root: Path) -> FolderSource:
    """The source of a frozen list; :class:`UserError` if that is damaged."""
    values = read_frozen(file, ("file", "label"))
    return FolderSource(root, values["classes"], values["label"], values["file"], values["ignored"])


def read_frozen(file: Path, columns: Sequence[str]) -> dict[str, Any]:
    """A frozen list by name: ``columns``, ``classes``, ``ignored``; :class:`UserError` if it is damaged."""
    try:
        table = pyarrow.feather.read_table(file)
        facts = table.schema.metadata
        values = {"classes": json.loads(facts[b"classes"]), "ignored": int(facts[b"ignored"])}
        for name in columns:
            column = table.column(name)
            values[name] = column.to_numpy() if name == "label" else column.to_pylist()
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{file}: no list of images ({error}): delete {file.parent} to prepare it again") from error
    return values


def read_image(file: Path) -> Image.Image:
    """An image file as RGB at its own size, the first frame if it has several, not turned by its EXIF data (as ADM's).

    :class:`CorruptImageError` for what Pillow cannot read, or takes for a decompression bomb (over 179 million pixels);
    plain :class:`UserError` for a file that has gone since it was listed, or cannot be opened: that is no image's fault.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of palettes with transparency, and of images over 89 million pixels
            with Image.open(file) as image:
                return to_rgb(image)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            reason = getattr(error, "strerror", None) or "memory ran out"
            raise UserError(
                f"{file}: cannot be opened ({reason}): mend that, and start the same command again"
            ) from error
        raise CorruptImageError(f"{file}: not a readable image ({error})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: of 16-bit grey the high byte (Pillow's own conversion clips it at 255); an alpha channel is dropped.

    ValueError for floating-point pixels, whose range is not known.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def open_image_folder(root: Path) -> FolderSource:
    """A folder per class, labels by sorted folder name; files are found at any depth below.

    :class:`UserError` for a missing root, no class folders, a class folder that is empty or cannot be read, a link that
    leads nowhere or round in a circle, and classes that share a folder or (after Unicode normalisation) a name.
    """
    names = class_folders(root)
    files: list[str] = []
    counts: list[int] = []
    ignored = sum(not entry.name.startswith(".") for entry in root.iterdir() if entry.is_file())
    for name in names:
        found, others = list_images(root / name)
        for file in (name, *found):
            check_name(root / name, file)
        files += [f"{name}/{file}" for file in found]
        counts.append(len(found))
        ignored += others
    return FolderSource(root, names, np.repeat(np.arange(len(names)), counts), files, ignored)


def check_name(place: Path, name: str) -> None:
    """:class:`UserError` for a name whose bytes are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = str(place / name).encode(errors="surrogateescape").decode(errors="replace")
        raise UserError(f"{shown}: its name is not UTF-8: rename it") from error


def class_folders(root: Path) -> list[str]:
    """Names of the class folders, sorted; :class:`UserError` as :func:`open_image_folder`."""
    try:
        entries = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        lost = [name for name in entries if not (root / name).exists()]  # follows links
        names = [name for name in entries if (root / name).is_dir()]
    except OSError as error:
        place = f"data.root={root}" if error.filename == str(root) else error.filename
        raise UserError(f"{place}: cannot be read ({error.strerror}): give a folder with a folder per class") from error
    if lost:
        raise UserError(f"{root / lost[0]}: a link that leads nowhere, or round in a circle: mend or remove it")
    if not names:
        raise UserError(f"data.root={root}: no class folders in it: each class needs a folder of images")
    places: dict[Path, str] = {}
    spelled: dict[str, str] = {}
    for name in names:
        place, plain = (root / name).resolve(), unicodedata.normalize("NFC", name)
        if root.resolve().is_relative_to(place):
            raise UserError(f"{root / name}: a link to {place}, which holds all the classes: remove it")
        other = places.setdefault(place, name)
        if other != name:
            raise UserError(f"{root}: classes {other!r} and {name!r} are the same folder {place}: remove a link")
        twin = spelled.setdefault(plain, name)
        if twin != name:
            raise UserError(f"{root}: two class folders are called {plain!r}, spelled with other bytes: rename one")
    return names


def list_images(folder: Path) -> tuple[list[str], int]:
    """Image files at any depth below a class folder, relative to it and sorted, none hidden; and how many other files.

    Links to files count, links to folders are not followed. :class:`UserError` if there are no images, or the folder cannot
    be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: class folder cannot be read ({error.strerror}): mend its permissions"
        ) from error

    found: list[str] = []
    others = 0
    for base, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [f for f in folders if not f.startswith(".")]
        images = [n for n in names if os.path.splitext(n)[1].lower() in IMAGE_SUFFIXES and not n.startswith(".")]  # noqa: PTH122
        others += len(names) - len(images)
        below = os.path.relpath(base, folder)
        found += images if below == "." else [f"{below}/{name}" for name in images]
    if not found:
        raise UserError(f"{folder}: class folder holds no images: fill or remove it")
    return sorted(found), others
