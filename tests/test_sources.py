"""Data sources: labels, order and pixels of each, and what each says to a mistake."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gat.data import sources
from gat.data.folder import FolderSource
from gat.data.sources import class_count, load_digits, open_source, read_idx
from gat.errors import UserError
from tests.data_helpers import random_images, write_image_folder

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
PIXELS = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)


def write_idx(file: Path, array: NDArray[np.uint8], type_code: int = 8) -> None:
    header = bytes((0, 0, type_code, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    file.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion(root: Path, pixels: NDArray[np.uint8] = PIXELS, labels: tuple[int, ...] = (7, 0, 9)) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_idx(root / IMAGES, pixels)
    write_idx(root / LABELS, np.array(labels, np.uint8))
    return root


# digits


def test_digits_are_all_there() -> None:
    digits = load_digits()
    assert len(digits) == 1797
    assert list(digits.class_names) == list("0123456789")
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_span_the_grey_range() -> None:
    digits = load_digits()
    # the first image's first row is 0 0 5 13 9 1 0 0 of 16 levels
    assert digits.pixels[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    image = digits.image(0)
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert image.getpixel((3, 0)) == (207, 207, 207)
    assert digits.pixels.max() == 255


def test_unknown_source() -> None:
    with pytest.raises(UserError, match=r"data\.source='mnist'.*digits, fashion_mnist, image_folder, repa$"):
        open_source("mnist", None)


# Fashion-MNIST


def test_fashion_mnist_files(tmp_path: Path) -> None:
    source = open_source("fashion_mnist", str(write_fashion(tmp_path)))
    assert len(source) == 3
    assert source.labels.tolist() == [7, 0, 9]
    assert (source.class_names[7], source.class_names[9]) == ("Sneaker", "Ankle boot")
    assert np.asarray(source.image(1))[..., 2].tolist() == [[4, 5], [6, 7]]


@pytest.mark.skipif(not sources.FASHION_MNIST_ROOT.exists(), reason="Debian's package dataset-fashion-mnist is missing")
def test_fashion_mnist_itself() -> None:
    source = open_source("fashion_mnist", None)
    assert len(source) == 60_000
    assert np.bincount(source.labels).tolist() == [6000] * 10
    assert source.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert source.image(0).size == (28, 28)


def test_fashion_mnist_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FASHION_MNIST_ROOT", tmp_path)
    with pytest.raises(UserError, match=rf"{IMAGES} is missing: install .* dataset-fashion-mnist, or give data.root"):
        open_source("fashion_mnist", None)


def test_fashion_mnist_labels_missing(tmp_path: Path) -> None:
    (write_fashion(tmp_path) / LABELS).unlink()
    with pytest.raises(UserError, match=f"{LABELS} is missing"):
        open_source("fashion_mnist", str(tmp_path))


def test_fashion_mnist_is_downloaded_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def publisher(root: str, *, download: bool) -> None:
        assert download
        write_fashion(Path(root) / "FashionMNIST" / "raw")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", publisher)
    assert open_source("fashion_mnist", str(tmp_path)).labels.tolist() == [7, 0, 9]


def test_fashion_mnist_download_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def publisher(root: str, *, download: bool) -> None:
        raise RuntimeError("Error downloading")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", publisher)
    with pytest.raises(UserError, match=rf"{IMAGES} is missing and cannot be downloaded \(Error downloading\): put"):
        open_source("fashion_mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("pixels", "labels"), [(PIXELS, (1, 2)), (PIXELS, (1, 2, 10)), (PIXELS.reshape(3, 4), (1, 2, 3))]
)
def test_fashion_mnist_files_that_do_not_fit(
    tmp_path: Path, pixels: NDArray[np.uint8], labels: tuple[int, ...]
) -> None:
    write_fashion(tmp_path, pixels, labels)
    with pytest.raises(UserError, match="do not fit"):
        open_source("fashion_mnist", str(tmp_path))


def test_idx_of_three_axes(tmp_path: Path) -> None:
    write_idx(tmp_path / "x.gz", PIXELS)
    assert np.array_equal(read_idx(tmp_path / "x.gz"), PIXELS)


def damaged_idx_files() -> Iterator[tuple[str, bytes]]:
    whole = bytes((0, 0, 8, 1, 0, 0, 1, 0)) + bytes(range(256))
    packed = gzip.compress(whole)
    yield "not gzip", whole
    yield "empty", b""
    yield "gzip of nothing", gzip.compress(b"")
    yield "another format", gzip.compress(b"\x89PNG" + whole)
    yield "floats", gzip.compress(bytes((0, 0, 13)) + whole[3:])
    yield "header alone", gzip.compress(whole[:3])
    yield "too few values", gzip.compress(whole[:-1])
    yield "gzip cut short", packed[:-20]
    yield "gzip damaged", packed[:12] + b"\xff" * 40 + packed[52:]


@pytest.mark.parametrize("content", [pytest.param(data, id=name) for name, data in damaged_idx_files()])
def test_not_an_idx_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.gz: not a gzipped IDX file of unsigned bytes"):
        read_idx(file)


# image folder


def test_image_folder(tmp_path: Path) -> None:
    write_image_folder(tmp_path, ("zebra", "ant"), per_class=2)
    source = open_source("image_folder", str(tmp_path))
    assert isinstance(source, FolderSource)
    assert list(source.class_names) == ["ant", "zebra"]
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(np.asarray(source.image(3)), random_images(4, 32)[1])


@pytest.mark.parametrize("name", ["image_folder", "repa"])
def test_root_not_set(name: str) -> None:
    with pytest.raises(UserError, match=rf"data\.root is not set: data\.source={name} needs data\.root=FOLDER"):
        open_source(name, None)


def test_classes_are_counted_without_listing_the_images(tmp_path: Path) -> None:
    (tmp_path / "folders" / "empty").mkdir(parents=True)
    (tmp_path / "folders" / "cat").mkdir()
    (tmp_path / "repa" / "vae-sd").mkdir(parents=True)
    labels = {"labels": [["a.npy", 0], ["b.npy", 0], ["c.npy", 3]]}
    (tmp_path / "repa" / "vae-sd" / "dataset.json").write_text(json.dumps(labels))
    assert class_count("digits", None) == 10
    assert class_count("image_folder", str(tmp_path / "folders")) == 2
    assert class_count("repa", str(tmp_path / "repa")) == 2
    assert class_count("image_folder", str(tmp_path / "nowhere")) is None
    assert class_count("repa", str(tmp_path / "folders")) is None
