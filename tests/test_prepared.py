"""A prepared folder: what it gives, and how damage to each of its files is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gat.data.prepared import ARRAYS, MANIFEST, Manifest, PreparedSet, read_manifest
from gat.errors import UserError
from tests.data_helpers import random_autoencoder

COUNT, CHANNELS, SIDE, PX = 5, 2, 4, 16


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "format_version": 1,
        "source": "test",
        "class_names": ["ant", "bee"],
        "count": COUNT,
        "skipped": 0,
        "latent_channels": CHANNELS,
        "latent_side": SIDE,
        "image_px": PX,
        "autoencoder": "somewhere",
        "scale": 0.5,
        "settings": {"data": {"source": "test"}},
    }
    return Manifest(**fields | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every number of every array differs from row to row."""
    moments = np.arange(COUNT * 2 * CHANNELS * SIDE * SIDE).reshape(COUNT, 2 * CHANNELS, SIDE, SIDE)
    np.save(tmp_path / "moments.npy", moments.astype(np.float16))
    np.save(tmp_path / "labels.npy", np.array([0, 1, 1, 0, 1], np.int64))
    np.save(tmp_path / "images.npy", np.arange(COUNT, dtype=np.uint8).repeat(PX * PX * 3).reshape(COUNT, PX, PX, 3))
    manifest().write(tmp_path)
    return tmp_path


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_manifest_round_trip(tmp_path: Path) -> None:
    written = manifest(class_names=["Käfer", "蝶"], scale=0.18215)
    written.write(tmp_path)
    assert read_manifest(tmp_path) == written


def test_sizes(folder: Path) -> None:
    data = PreparedSet(folder)
    assert len(data) == COUNT
    assert data.num_classes == 2
    assert data.images[3, 0, 0].tolist() == [3, 3, 3]


def test_latents_of_rows_in_the_order_asked_for(folder: Path) -> None:
    moments, labels = PreparedSet(folder).latents(np.array([4, 0, 4]))
    assert moments.dtype == torch.float16
    assert labels.dtype == torch.int64
    assert labels.tolist() == [1, 0, 1]
    per_row = 2 * CHANNELS * SIDE * SIDE
    expected = torch.stack([torch.arange(row * per_row, (row + 1) * per_row) for row in (4, 0, 4)])
    assert torch.equal(moments.flatten(1), expected.half())


def test_arrays_stay_on_disk(folder: Path) -> None:
    data = PreparedSet(folder)
    for array in (data.moments, data.labels, data.images):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_autoencoder_of_its_own_or_by_the_manifest(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("vae")
    random_autoencoder(levels=2).save_pretrained(elsewhere)
    change_manifest(folder, lambda m: m.update(autoencoder=str(elsewhere)))
    assert len(PreparedSet(folder).autoencoder().config["block_out_channels"]) == 2
    random_autoencoder(levels=3).save_pretrained(folder / "autoencoder")
    assert len(PreparedSet(folder).autoencoder().config["block_out_channels"]) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format_version": 1}', "\udcff"])
def test_damaged_manifest(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        UserError, match=rf"{MANIFEST}: not a manifest of a prepared set .*: delete {folder} to prepare"
    ):
        PreparedSet(folder)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a manifest of a prepared set"):
        PreparedSet(tmp_path)


def test_manifest_of_another_format(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(format_version=2))
    with pytest.raises(UserError, match=rf"format 2, but this version reads 1: delete {folder} to prepare it again"):
        PreparedSet(folder)


def test_manifest_with_a_field_of_another_version(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(crop="random"))
    with pytest.raises(UserError, match=r"not a manifest of a prepared set \(.*'crop'.*\): delete"):
        PreparedSet(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_array_missing_truncated_or_empty(folder: Path, name: str) -> None:
    file = folder / f"{name}.npy"
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"not an array"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.npy: cannot be read .*: delete {folder} to prepare it again"):
            PreparedSet(folder)
    file.unlink()
    with pytest.raises(UserError, match=rf"{name}\.npy: cannot be read"):
        PreparedSet(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_array_of_another_shape_or_type(folder: Path, name: str) -> None:
    file = folder / f"{name}.npy"
    array = np.load(file)
    for other in (array[:-1], array[None], array.astype(np.float32)):
        np.save(file, other)
        with pytest.raises(
            UserError, match=rf"{name}\.npy: {other.dtype} .*, but the manifest says .*: delete {folder}"
        ):
            PreparedSet(folder)


@pytest.mark.parametrize(
    ("field", "arrays"),
    [("count", ARRAYS), ("latent_channels", ("moments",)), ("latent_side", ("moments",)), ("image_px", ("images",))],
)
def test_manifest_that_does_not_fit_the_arrays(folder: Path, field: str, arrays: tuple[str, ...]) -> None:
    change_manifest(folder, lambda m: m.update({field: m[field] + 1}))
    with pytest.raises(UserError, match=rf"({'|'.join(arrays)})\.npy: .* but the manifest says"):
        PreparedSet(folder)
