"""A prepared folder: what it gives, and how damage to each of its files is told."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gat.data import prepared
from gat.data.autoencoder import weights_digest
from gat.data.parts import REMEDY, Part, PartInfo, part_file, writing_part
from gat.data.prepared import LABELS, MANIFEST, PreparedSet, read_manifest
from gat.errors import UserError
from tests.data_helpers import random_autoencoder
from tests.prepared import random_arrays, write_prepared

COUNT, SIDE, PX, PART_ROWS = 10, 4, 16, 4  # parts of 4, 4 and 2 samples
MOMENTS, IMAGES = random_arrays(COUNT, SIDE, PX)
CLASSES = np.array([0, 1, 1, 0, 1, 2, 2, 1, 0, 2], np.int64)
PARTS_KEPT = "delete it and manifest.json, and prepare again"


def written(folder: Path, **autoencoder: str) -> PreparedSet:
    return write_prepared(folder, MOMENTS, IMAGES, CLASSES, part_rows=PART_ROWS, **autoencoder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path).folder


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every set were too large to compare its checksums whenever it is opened."""
    monkeypatch.setattr(prepared, "CHECKED_BYTES", 0)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def flip_a_byte(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0x01
    file.write_bytes(content)


def told(folder: Path, use: Callable[[PreparedSet], object] = len) -> str:
    """What is said where the set is opened, or then used."""
    with pytest.raises(UserError) as error:
        use(PreparedSet(folder))
    return str(error.value)


# what it gives


def test_manifest_round_trip(folder: Path) -> None:
    expected = replace(
        read_manifest(folder), class_names=["Käfer", "蝶"], scale=0.18215, settings={"data": {"a": None}}
    )
    expected.write(folder)
    assert read_manifest(folder) == expected
    assert [(part.number, part.rows) for part in expected.parts] == [(0, 4), (1, 4), (2, 2)]


def test_sizes(folder: Path) -> None:
    data = PreparedSet(folder)
    assert len(data) == COUNT
    assert data.num_classes == 3
    assert data.moments_shape == (8, SIDE, SIDE)
    assert data.moment_bytes == 8 * SIDE * SIDE * 2
    assert data.image_bytes == PX * PX * 3
    assert data.bytes == sum(part_file(folder, number).stat().st_size for number in range(3))


@pytest.mark.parametrize("rows", [range(COUNT), [9, 0, 4, 3, 8, 7], [3, 3, 9, 3], [5], np.array([8, 1])])
def test_rows_in_the_order_asked_for(folder: Path, rows: Sequence[int]) -> None:
    data, picked = PreparedSet(folder), np.array(rows)
    assert np.array_equal(data.moments(rows), MOMENTS[picked])
    assert np.array_equal(data.images(rows), IMAGES[picked])
    moments, labels = data.latents(picked)
    assert (moments.dtype, labels.dtype) == (torch.float16, torch.int64)
    assert np.array_equal(moments.numpy(), MOMENTS[picked])
    assert labels.tolist() == CLASSES[picked].tolist()


def test_rows_across_the_chunks_of_a_part(tmp_path: Path) -> None:
    count = 300
    moments = np.arange(count, dtype=np.float16)[:, None, None, None].repeat(4, axis=1)
    images = np.zeros((count, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count) % 256
    data = write_prepared(tmp_path, moments, images, np.zeros(count, np.int64))
    assert data.moments([256, 255, 299])[:, 0, 0, 0].tolist() == [256, 255, 299]
    assert data.images([255, 256, 299])[:, 0, 0, 0].tolist() == [255, 0, 43]
    assert data.all_moments()[:, 0, 0, 0].tolist() == list(range(count))


def test_all_moments(folder: Path) -> None:
    assert np.array_equal(PreparedSet(folder).all_moments(), MOMENTS)


@pytest.mark.parametrize("rows", [[COUNT], [-1], [0, 3, COUNT]])
def test_rows_that_are_not_there(folder: Path, rows: list[int]) -> None:
    data = PreparedSet(folder)
    for read in (data.moments, data.images):
        with pytest.raises(IndexError, match=f"of {COUNT}$"):
            read(rows)


def test_part_without_samples(folder: Path) -> None:
    """All of its images were corrupt."""
    with writing_part(folder, 3, (8, SIDE, SIDE)) as writer:
        pass
    empty = PartInfo(3, writer.rows, writer.sink.bytes, writer.sink.hash.hexdigest())
    manifest = read_manifest(folder)
    replace(manifest, parts=[manifest.parts[0], empty, *manifest.parts[1:]]).write(folder)
    data = PreparedSet(folder)
    assert np.array_equal(data.moments(range(COUNT)), MOMENTS)
    assert np.array_equal(data.images([3, 4]), IMAGES[3:5])
    assert np.array_equal(data.all_moments(), MOMENTS)


def test_parts_are_opened_when_they_are_needed(folder: Path, unchecked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def opening(file: Path, *arguments: Any) -> Part:
        opened.append(file.name)
        return Part(file, *arguments)

    monkeypatch.setattr(prepared, "Part", opening)
    data = PreparedSet(folder)
    assert opened == []
    data.moments([9, 8])
    assert opened == ["part-00002.arrow"]
    data.images([0, 9])
    assert opened == ["part-00002.arrow", "part-00000.arrow"]
    mapped = Path("/proc/self/maps").read_text()
    assert [str(part_file(folder, number)) in mapped for number in range(3)] == [True, False, True]


# its autoencoder


def test_autoencoder_of_its_own_or_by_the_manifest(tmp_path: Path) -> None:
    models = {levels: random_autoencoder(levels) for levels in (2, 3)}
    models[2].save_pretrained(tmp_path / "vae")
    by_manifest = {"autoencoder": str(tmp_path / "vae"), "autoencoder_sha256": weights_digest(models[2])}
    assert len(written(tmp_path / "a", **by_manifest).autoencoder().config["block_out_channels"]) == 2
    models[3].save_pretrained(tmp_path / "b" / "autoencoder")
    own = by_manifest | {"autoencoder_sha256": weights_digest(models[3])}
    assert len(written(tmp_path / "b", **own).autoencoder().config["block_out_channels"]) == 3


@pytest.mark.parametrize("place", ["vae", "set/autoencoder"])
def test_autoencoder_whose_weights_have_changed(tmp_path: Path, place: str) -> None:
    model = random_autoencoder(2)
    names = {"autoencoder": str(tmp_path / "vae"), "autoencoder_sha256": weights_digest(model)}
    model.save_pretrained(tmp_path / place)
    assert written(tmp_path / "set", **names).autoencoder() is not None
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    model.save_pretrained(tmp_path / place)
    assert told(tmp_path / "set", PreparedSet.autoencoder) == (
        f"autoencoder '{tmp_path / place}' has other weights than the one that {tmp_path / 'set'} was encoded with: put "
        "those back, or delete that folder to prepare it again"
    )


# damaged parts


def test_missing_part(folder: Path, unchecked: None) -> None:
    part_file(folder, 1).unlink()
    assert told(folder) == f"{part_file(folder, 1)}: is missing: {REMEDY}"


@pytest.mark.parametrize("change", [-1, 8])
def test_part_of_another_size(folder: Path, unchecked: None, change: int) -> None:
    file = part_file(folder, 2)
    content = file.read_bytes()
    file.write_bytes(content[:change] if change < 0 else content + bytes(change))
    size = len(content)
    assert told(folder) == f"{file}: has {size + change} bytes, not {size} as its manifest says: {REMEDY}"


def test_altered_part(folder: Path) -> None:
    for number in (1, 2):
        flip_a_byte(part_file(folder, number), 1000)
    expected = "its checksum is not the manifest's (2 of 3 parts are damaged)"
    assert told(folder) == f"{part_file(folder, 1)}: {expected}: {REMEDY}"


def test_checksums_are_compared_up_to_a_size_and_by_verify(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = PreparedSet(folder).bytes
    flip_a_byte(part_file(folder, 1), 1000)
    expected = f"{part_file(folder, 1)}: its checksum is not the manifest's (1 of 3 parts are damaged): {REMEDY}"
    monkeypatch.setattr(prepared, "CHECKED_BYTES", size)
    assert told(folder) == expected
    monkeypatch.setattr(prepared, "CHECKED_BYTES", size - 1)
    assert told(folder, PreparedSet.verify) == expected
    flip_a_byte(part_file(folder, 1), 1000)
    PreparedSet(folder).verify()


def test_part_that_is_no_arrow_file(folder: Path, unchecked: None) -> None:
    file = part_file(folder, 1)
    file.write_bytes(b"x" * file.stat().st_size)
    assert np.array_equal(PreparedSet(folder).moments([0, 9]), MOMENTS[[0, 9]])  # the other parts are whole
    assert told(folder, lambda data: data.moments([4])).startswith(f"{file}: not the part that its manifest lists (")


def test_part_with_a_damaged_image(folder: Path, unchecked: None) -> None:
    file = part_file(folder, 1)
    file.write_bytes(file.read_bytes().replace(b"WEBP", b"WXYZ"))
    data = PreparedSet(folder)
    assert np.array_equal(data.images([0]), IMAGES[:1])
    with pytest.raises(UserError, match=rf"^{file}: row 0 has no image \(.+\): delete it, its"):
        data.images([0, 4])


@pytest.mark.parametrize(("field", "use"), [("latent_side", PreparedSet.all_moments), ("image_px", None)])
def test_sizes_that_do_not_fit(folder: Path, field: str, use: Callable[[PreparedSet], object] | None) -> None:
    change_manifest(folder, lambda m: m.update({field: 2 * m[field]}))
    assert told(folder, use or (lambda data: data.images([0]))).startswith(f"{part_file(folder, 0)}: ")


def test_rows_that_do_not_fit(folder: Path) -> None:
    """The sum is right."""
    change_manifest(folder, lambda m: (m["parts"][0].update(rows=5), m["parts"][1].update(rows=3)))
    expected = f"{part_file(folder, 0)}: not the part that its manifest lists (4 rows of "
    assert told(folder, PreparedSet.all_moments).startswith(expected)


# damaged labels


@pytest.mark.parametrize("content", [None, b"", b"not an array", slice(-1), slice(20)])
def test_labels_that_cannot_be_read(folder: Path, content: bytes | slice | None) -> None:
    file = folder / LABELS
    whole = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else whole[content])
    message = told(folder)
    assert message.startswith(f"{file}: cannot be read (")
    assert message.endswith(f"): {PARTS_KEPT} (the parts are kept)")


@pytest.mark.parametrize("other", [CLASSES[::-1], CLASSES[:-1], CLASSES.astype(np.int32)])
def test_other_labels(folder: Path, unchecked: None, other: NDArray[Any]) -> None:
    np.save(folder / LABELS, other)
    assert told(folder) == f"{folder / LABELS}: its checksum is not the manifest's: {PARTS_KEPT} (parts are kept)"


# damaged manifest


def test_counts_that_do_not_fit(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(count=COUNT + 1))
    expected = "count {}, but its parts hold {} and labels.npy 10: delete {} to prepare it again"
    assert told(folder) == f"{folder / MANIFEST}: " + expected.format(11, 10, folder)
    change_manifest(folder, lambda m: (m.update(count=COUNT), m["parts"].pop()))
    assert told(folder) == f"{folder / MANIFEST}: " + expected.format(10, 8, folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format_version": 2}', "\udcff"])
def test_damaged_manifest(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_bytes(content.encode("utf-8", "surrogateescape"))
    message = told(folder)
    assert message.startswith(f"{folder / MANIFEST}: not a manifest of a prepared set (")
    assert message.endswith("): delete it, and prepare again (the parts are kept)")


def test_no_manifest(tmp_path: Path) -> None:
    assert "not a manifest of a prepared set (" in told(tmp_path)


@pytest.mark.parametrize("version", [1, 3])
def test_manifest_of_another_format(folder: Path, version: int) -> None:
    """Whatever else it holds."""
    (folder / MANIFEST).write_text(json.dumps({"format_version": version, "count": 3}))
    assert told(folder) == (
        f"{folder / MANIFEST}: format {version}, but this version reads 2: delete {folder} to prepare it again"
    )


def test_manifest_with_fields_of_another_version(folder: Path) -> None:
    change_manifest(folder, lambda m: m.update(crop="random"))
    assert "not a manifest of a prepared set (" in told(folder)
    change_manifest(folder, lambda m: (m.pop("crop"), m["parts"][1].update(colour=3)))
    assert "'colour'" in told(folder)
