"""Statistics on disk: ADM's files and our own, and files that are neither or of something else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gat.errors import UserError
from gat.evaluation.statistics_file import images_in, images_side, load_statistics, save_statistics
from tests.test_frechet import random_statistics


def test_round_trip(tmp_path: Path) -> None:
    written = random_statistics(5, 0)
    save_statistics(tmp_path / "reference.npz", written)
    read = load_statistics(tmp_path / "reference.npz")
    assert np.array_equal(read.mu, written.mu)
    assert np.array_equal(read.sigma, written.sigma)
    assert [f.name for f in tmp_path.iterdir()] == ["reference.npz"]


def test_reference_in_adm_form(tmp_path: Path) -> None:
    """ADM's files hold more arrays beside mu and sigma, some in float32."""
    mu, sigma = np.array([1.5, 2.5], np.float32), np.eye(2, dtype=np.float32)
    np.savez(
        tmp_path / "adm.npz", mu=mu, sigma=sigma, mu_s=mu[:1], sigma_s=sigma, arr_0=np.zeros((2, 4, 4, 3), np.uint8)
    )
    read = load_statistics(tmp_path / "adm.npz")
    assert read.mu.dtype == read.sigma.dtype == np.float64
    assert read.mu.tolist() == [1.5, 2.5]
    assert read.sigma.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("key", ["mu", "sigma"])
def test_file_without_mu_or_sigma(tmp_path: Path, key: str) -> None:
    arrays: dict[str, Any] = {key: np.ones((1, 1))}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=r"x\.npz: no reference statistics .*: it must be an \.npz with mu and sigma"):
        load_statistics(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("mu", "sigma"),
    [
        (np.ones(3), np.ones((2, 2))),
        (np.ones(3), np.ones(3)),
        (np.ones((1, 3)), np.eye(3)),
        (np.ones(3), np.ones((3, 2))),
    ],
)
def test_arrays_of_other_shapes(tmp_path: Path, mu: NDArray, sigma: NDArray) -> None:
    np.savez(tmp_path / "x.npz", mu=mu, sigma=sigma)
    with pytest.raises(UserError, match=r"x\.npz: mu .* and sigma .* do not fit, expected \(d,\) and \(d, d\)"):
        load_statistics(tmp_path / "x.npz")


@pytest.mark.parametrize("compress", [False, True])
def test_truncated_or_damaged_file(tmp_path: Path, compress: bool) -> None:
    file = tmp_path / "x.npz"
    (np.savez_compressed if compress else np.savez)(file, mu=np.arange(40.0), sigma=np.eye(40))
    whole = file.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:10], b"", whole[:middle] + b"\xff" * 20 + whole[middle + 20 :]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.npz: no reference statistics"):
            load_statistics(file)


def test_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("mu, sigma")
    for name in ("array.npy", "text.npz", "nowhere.npz"):
        with pytest.raises(UserError, match=rf"{name}: no reference statistics"):
            load_statistics(tmp_path / name)


def test_side_of_the_images_in_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "adm.npz", mu=np.ones(2), sigma=np.eye(2), arr_0=np.zeros((3, 16, 16, 3), np.uint8))
    np.savez(tmp_path / "bare.npz", mu=np.ones(2), sigma=np.eye(2))
    assert images_side(tmp_path / "adm.npz") == 16
    assert images_side(tmp_path / "bare.npz") is None
    assert load_statistics(tmp_path / "adm.npz", image_px=16).mu.tolist() == [1, 1]
    with pytest.raises(UserError, match=r"adm\.npz: statistics of images of 16 pixels, but the samples have 32"):
        load_statistics(tmp_path / "adm.npz", image_px=32)


def test_statistics_of_another_extractor_or_size(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    save_statistics(file, random_statistics(3, 0), {"extractor": "a@1", "image_px": 32, "images": "digits"})
    load_statistics(file, "a@1", 32)
    with pytest.raises(UserError, match=r"own\.npz: statistics of features a@1, not b@1: use those of one extractor"):
        load_statistics(file, "b@1")
    with pytest.raises(UserError, match=r"own\.npz: statistics of images of 32 pixels, but the samples have 64"):
        load_statistics(file, "a@1", 64)


def test_statistics_that_are_no_numbers(tmp_path: Path) -> None:
    wrong = {
        "sigma holds values that are not finite": np.full((2, 2), np.nan),
        "sigma is not symmetric": np.array([[1.0, 0.5], [0.0, 1.0]]),
        "sigma is complex128, not real": np.array([[1.0, 0.5j], [-0.5j, 1.0]]),
        "sigma has the eigenvalue -1 < 0": np.diag([2.0, -1.0]),
    }
    for message, sigma in wrong.items():
        np.savez(tmp_path / "x.npz", mu=np.zeros(2), sigma=sigma)
        with pytest.raises(UserError, match=rf"x\.npz: {message}"):
            load_statistics(tmp_path / "x.npz")


@pytest.mark.parametrize("origin", ["[1, 2]", '"text"', "3"])
def test_origin_of_another_form(tmp_path: Path, origin: str) -> None:
    np.savez(tmp_path / "x.npz", mu=np.zeros(2), sigma=np.eye(2), origin=np.array(origin))
    with pytest.raises(UserError, match=r"x\.npz: its origin is a (list|str|int), not a JSON mapping"):
        load_statistics(tmp_path / "x.npz")


def test_no_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mu=np.ones(2), sigma=np.eye(2), arr_0=np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="arr_0 is empty"):
        load_statistics(tmp_path / "x.npz")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_images_are_read_as_they_were_written(tmp_path: Path, write: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    write(tmp_path / "x.npz", arr_1=np.arange(7), arr_0=images)
    found = images_in(tmp_path / "x.npz")
    assert isinstance(found, np.memmap) == (write is np.savez)  # ten gigabytes are not read at once
    assert np.array_equal(found, images)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 4, 4, 3)), np.zeros((2, 3, 4, 4), np.uint8), np.zeros((2, 4, 5, 3), np.uint8)]
)
def test_images_that_are_none(tmp_path: Path, images: NDArray) -> None:
    np.savez(tmp_path / "x.npz", mu=np.ones(2), sigma=np.eye(2), arr_0=images)
    with pytest.raises(UserError, match=r"arr_0 is .*, not uint8 images \(n, P, P, 3\)"):
        load_statistics(tmp_path / "x.npz")
