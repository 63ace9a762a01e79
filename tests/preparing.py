"""A small case of preparation: twelve photos in three classes, a random autoencoder on disk, and a cache."""

import io
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gat.config import AutoencoderConfig, DataConfig
from gat.data import claims, making, parts
from gat.data.identity import prepared_folder
from gat.data.parts import PartWriter
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from tests.data_helpers import (
    CPU,
    autoencoder_config,
    folder_config,
    random_autoencoder,
    random_images,
    write_image_folder,
)

CLASSES, PER_CLASS, SIDE_PX = ("ant", "bee", "cat"), 4, 32
COUNT = len(CLASSES) * PER_CLASS
IMAGES = random_images(COUNT, SIDE_PX)
LAST_OF_PART_1 = 7


@dataclass(frozen=True)
class Case:
    """Image i of all is ``IMAGES[i]``; batches of three leave a last one of one image in parts of four."""

    place: Path
    cache_name: str = "prepared"

    @property
    def root(self) -> Path:
        """The photos."""
        return self.place / "photos"

    @property
    def cache(self) -> Path:
        return self.place / self.cache_name

    @property
    def data(self) -> DataConfig:
        return folder_config(self.root)

    @property
    def autoencoder(self) -> AutoencoderConfig:
        return autoencoder_config(kind="pretrained", path=str(self.place / "vae"), batch_size=3)

    @property
    def folder(self) -> Path:
        """Where the set will be."""
        return prepared_folder(self.data, self.autoencoder, self.cache)

    def prepare(self, workers: int = 0, **changes: Any) -> PreparedSet:
        """Prepare it, with ``changes`` to the settings of the data."""
        return prepare(replace(self.data, **changes), self.autoencoder, self.cache, CPU, workers)

    def elsewhere(self, name: str) -> "Case":
        """The same photos and autoencoder, another cache."""
        return replace(self, cache_name=name)

    def corrupt(self, *names: str) -> None:
        """Spoil images, such as ``ant/1.png``."""
        for name in names:
            (self.root / name).write_bytes(b"\x89PNG and no more")

    def mend(self) -> None:
        """Write all images as they were."""
        write_image_folder(self.root, CLASSES, PER_CLASS)


def make_case(place: Path) -> Case:
    """A case on disk."""
    case = Case(place)
    case.mend()
    random_autoencoder().save_pretrained(place / "vae")
    return case


def parts_of_four(patch: pytest.MonkeyPatch) -> None:
    """Twelve images are three parts, one per class."""
    patch.setattr(claims, "PART_ROWS", 4)


def parts_made(patch: pytest.MonkeyPatch) -> list[int]:
    """The list to which the number of every part is added that is begun from now on."""
    begun: list[int] = []
    writing_part = parts.writing_part

    def spied(folder: Path, number: int, shape: tuple[int, ...]) -> AbstractContextManager[PartWriter]:
        begun.append(number)
        return writing_part(folder, number, shape)

    patch.setattr(making, "writing_part", spied)
    return begun


def in_the_middle(patch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """``happens`` when three of the four images of part 1 are written."""
    add = PartWriter.add

    def spied(
        writer: PartWriter, moments: Any, images: Iterable[bytes], labels: Iterable[int], sources: Iterable[int]
    ) -> None:
        if LAST_OF_PART_1 in sources:
            happens()
        add(writer, moments, images, labels, sources)

    patch.setattr(PartWriter, "add", spied)


def files_of_parts(folder: Path) -> dict[str, bytes]:
    """Content by name, of the finished parts."""
    return {file.name: file.read_bytes() for file in folder.glob("part-*")}


def decoded(encoded: Iterable[bytes]) -> NDArray[np.uint8]:
    """Pixels (n, P, P, 3) of n image files."""
    return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])


def names_in(folder: Path) -> set[str]:
    """All files and folders, the hidden ones too."""
    return {path.name for path in folder.iterdir()}


def finished_parts(folder: Path) -> list[int]:
    """Their numbers; fails if a part is there in part."""
    numbers = [{int(f.stem[5:]) for f in folder.glob(f"part-*.{kind}")} for kind in ("json", "arrow")]
    assert numbers[0] == numbers[1]
    assert not list(folder.glob(".part-*"))
    return sorted(numbers[0])


def assert_equal_sets(case: Case, other: Case) -> None:
    """Bit by bit, with nothing beside them."""
    assert finished_parts(case.folder) == finished_parts(other.folder)
    assert files_of_parts(case.folder) == files_of_parts(other.folder)
    assert case.prepare().manifest == other.prepare().manifest
    assert names_in(case.folder) == names_in(other.folder)


def assert_nothing_left(cache: Path) -> None:
    """Locks aside."""
    assert not cache.exists() or not [path for path in cache.iterdir() if path.suffix != ".lock"]
