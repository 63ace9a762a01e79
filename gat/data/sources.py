"""Data sources behind one interface: labelled images at their native size."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gat.data.folder import class_folders, open_image_folder
from gat.data.repa import labels_in, open_repa
from gat.errors import UserError, require_choice

SOURCES = ("digits", "fashion_mnist", "image_folder", "repa")
FASHION_MNIST_ROOT = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class ImageSource(Protocol):
    """Labelled images. ``name`` identifies the source in manifests."""

    @property
    def name(self) -> str:
        """Kind, and place if it has one."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """Classes in the order of their numbers."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class (count,) of every image."""
        ...

    @property
    def ignored(self) -> int:
        """Files beside the images that are none."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def image(self, index: int) -> Image.Image:
        """The image as RGB at its native size; :class:`gat.data.folder.CorruptImageError` if it cannot be decoded."""
        ...


@dataclass
class ArraySource:
    """Images held in memory: ``pixels`` (count, side, side) uint8 grey, ``labels`` (count,)."""

    name: str
    class_names: Sequence[str]
    labels: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> Image.Image:
        """The grey image as RGB."""
        return Image.fromarray(self.pixels[index]).convert("RGB")


def open_source(source: str, root: str | None) -> ImageSource:
    """Open a source by name. :class:`UserError` for an unknown name or missing files."""
    require_choice("data.source", source, SOURCES)
    if source == "digits":
        return load_digits()
    if source == "fashion_mnist":
        return load_fashion_mnist(Path(root) if root else FASHION_MNIST_ROOT, download=root is not None)
    if root is None:
        raise UserError(f"data.root is not set: data.source={source} needs data.root=FOLDER")
    return (open_repa if source == "repa" else open_image_folder)(Path(root))


def class_count(source: str, root: str | None) -> int | None:
    """Return the number of classes without listing images; None if it cannot be read (opening the source then says why)."""
    if source in ("digits", "fashion_mnist"):
        return 10
    if root is None:
        return None
    try:
        if source == "repa":
            return len({str(label) for label in labels_in(Path(root)).values()})
        return len(class_folders(Path(root)))
    except UserError:
        return None


def load_digits() -> ArraySource:
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels, inside its package."""
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return ArraySource("digits", [str(d) for d in range(10)], digits.target.astype(np.int64), pixels)


def load_fashion_mnist(root: Path, *, download: bool) -> ArraySource:
    """Fashion-MNIST's 60,000 training images, 28x28 pixels, from the IDX files in ``root``.

    With ``download``, torchvision fetches them into ``root`` where they are missing.
    """
    images, labels = root / "train-images-idx3-ubyte.gz", root / "train-labels-idx1-ubyte.gz"
    if not images.exists() and download:
        from torchvision.datasets import FashionMNIST

        try:
            FashionMNIST(str(root), download=True)
        except Exception as error:  # torchvision lets every kind of network error through
            raise UserError(
                f"{images} is missing and cannot be downloaded ({error}): put the IDX files there"
            ) from error
        raw = root / "FashionMNIST" / "raw"
        images, labels = raw / images.name, raw / labels.name
    for file in (images, labels):
        if not file.exists():
            raise UserError(
                f"{file} is missing: install Debian's package dataset-fashion-mnist, or give data.root=FOLDER "
                "(where it is missing there, it is downloaded)"
            )
    source = ArraySource("fashion_mnist", FASHION_MNIST_CLASSES, read_idx(labels).astype(np.int64), read_idx(images))
    if source.pixels.ndim != 3 or source.labels.shape != source.pixels.shape[:1] or (source.labels > 9).any():
        raise UserError(
            f"{images} {source.pixels.shape} and {labels} {source.labels.shape} do not fit: put Fashion-MNIST's there"
        )
    return source


def read_idx(file: Path) -> NDArray[np.uint8]:
    """A gzipped IDX file of unsigned bytes. :class:`UserError` if it is not one."""
    try:
        with gzip.open(file) as stream:
            data = stream.read()
        assert data[:3] == b"\0\0\x08"
        shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, zlib.error, AssertionError, ValueError, IndexError) as error:
        raise UserError(f"{file}: not a gzipped IDX file of unsigned bytes") from error
