"""evaluate.py on images from the user: the numbers that the checkpoint gets, and mistakes."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import drawing, evaluating
from gat.config import MeasureConfig
from gat.errors import UserError
from gat.evaluation.samples import GivenSamples
from tests.conftest import composed
from tests.small_run import SMALL

FD, COUNT = "FD-EfficientNetLite0-12", 12


def evaluate(*overrides: str) -> dict[str, Any]:
    """Run evaluate.py, and return its record."""
    record = evaluating.evaluate(composed(*overrides), list(overrides))
    assert record is not None
    return record


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_numbers_of_given_images_are_those_of_the_samples_through_the_checkpoint(
    trained: Path, tmp_path: Path, kind: str
) -> None:
    run = (f"checkpoint={trained}/run", f"paths.prepared={trained}/prepared")
    drawn = (*run, f"sample.kind={kind}", f"sample.count={COUNT}", f"out={tmp_path}/set")
    drawing.draw(composed(*drawn), list(drawn))
    rules = (f"evaluation.samples={COUNT}", f"out={tmp_path}/out")
    expected = evaluate(*run, *rules)["numbers"]
    data = (*SMALL, f"data.root={trained}/images", f"paths.prepared={trained}/prepared")
    place = tmp_path / ("set.npz" if kind == "npz" else "set")
    record = evaluate(*data, *rules, f"samples={place}")
    assert record["numbers"].keys() == expected.keys()
    for name, number in record["numbers"].items():
        assert number["value"] == expected[name]["value"], name
        assert number["interval"] == expected[name]["interval"], name
    assert record["kind"] == "images"
    protocol, theirs = record["numbers"][FD]["protocol"], expected[FD]["protocol"]
    assert {protocol[key] for key in ("decoder", "to_uint8", "labels")} == {"given"}
    for key in ("samples", "covariance", "extractor", "reference", "image_px"):
        assert protocol[key] == theirs[key], key
    assert evaluate(*data, *rules, f"samples={place}")["measured_at"] == record["measured_at"]  # not measured again


def test_a_classifier_of_the_named_data_measures_against_a_file(trained: Path, tmp_path: Path) -> None:
    """The classifier is trained on the prepared images; here the file holds their own statistics."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", arr_0=images)
    data = (
        *SMALL,
        f"data.root={trained}/images",
        f"paths.prepared={trained}/prepared",
        f"samples={tmp_path}/x.npz",
        f"out={tmp_path}/out",
    )
    rules = ("evaluation.extractor=classifier", f"evaluation.samples={COUNT}", "measure.metrics=[frechet]")
    name = f"FD-classifier-{COUNT}"
    expected = evaluate(*data, *rules)["numbers"][name]["value"]
    (file,) = trained.glob("prepared/*/reference-classifier*.npz")
    assert evaluate(*data, *rules, f"evaluation.reference={file}")["numbers"][name]["value"] == expected


def test_the_first_images_are_taken(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", arr_0=images)
    given = GivenSamples(tmp_path / "x.npz", 4, 3)
    batches = [batch.permute(0, 2, 3, 1).numpy() for batch in given.batches(slice(0, 250))]
    assert [len(batch) for batch in batches] == [3, 1]
    assert np.array_equal(np.concatenate(batches), images[:4])


def png(file: Path, side: int = 8, mode: str = "RGB") -> None:
    Image.new(mode, (side, side)).save(file)


def test_images_that_cannot_be_measured(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(UserError, match="holds 0 images, at least 2 are needed: give a folder of PNGs, or an .npz"):
        GivenSamples(folder, 2, 4)
    for i in range(3):
        png(folder / f"{i}.png")
    with pytest.raises(UserError, match=r"holds 3 images, fewer than evaluation\.samples=4: .* evaluation\.samples=3"):
        GivenSamples(folder, 4, 4)
    png(folder / "2.png", side=16)
    with pytest.raises(UserError, match=r"2\.png: is 16 pixels wide, the first image 8"):
        list(GivenSamples(folder, 3, 4).batches(slice(0, 3)))
    png(folder / "0.png", mode="L")
    with pytest.raises(UserError, match=r"0\.png: is L, 8 x 8 pixels, not a square RGB image"):
        GivenSamples(folder, 3, 4)
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png: cannot be read as a PNG"):
        GivenSamples(folder, 3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"arr_1": np.zeros(3)}, "no arr_0"),
        ({"arr_0": np.zeros((0, 8, 8, 3), np.uint8)}, "arr_0 is empty"),
        ({"arr_0": np.zeros((3, 8, 8, 3))}, "arr_0 is float64"),
    ],
)
def test_files_without_images(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(UserError, match=rf"samples=.*x\.npz: holds no images .*{message}"):
        GivenSamples(tmp_path / "x.npz", 2, 4)


def test_mistakes_in_the_arguments(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="samples=x and .*run are both given: leave one out"):
        evaluate("samples=x", f"checkpoint={trained}/run")
    with pytest.raises(UserError, match=r"samples=.*none\.npz: there is no such file or folder"):
        evaluate(f"samples={tmp_path}/none.npz", f"out={tmp_path}")


def zip_of_images(file: Path, method: int = zipfile.ZIP_STORED) -> bytearray:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("arr_0.npy", buffer.getvalue())
    return bytearray(file.read_bytes())


@pytest.mark.parametrize("fault", ["damaged lzma", "encrypted", "unknown method", "no pixels"])
def test_odd_zips_are_told_in_one_line(tmp_path: Path, fault: str) -> None:
    file = tmp_path / "x.npz"
    content = zip_of_images(file, zipfile.ZIP_LZMA if fault == "damaged lzma" else zipfile.ZIP_STORED)
    directory = content.index(b"PK\x01\x02")  # flags stand at 8 there, the method at 10; in the local header at 6 and 8
    if fault == "damaged lzma":
        content[60:200] = b"\xff" * 140
    elif fault == "encrypted":
        content[6] |= 1
        content[directory + 8] |= 1
    elif fault == "unknown method":
        content[8] = content[directory + 10] = 99
    file.write_bytes(content)
    if fault == "no pixels":
        np.savez(file, arr_0=np.zeros((4, 0, 0, 3), np.uint8))
    with pytest.raises(UserError, match="holds no images"):
        list(GivenSamples(file, 4, 4).batches(slice(0, 4)))


def test_numbers_against_another_count_of_real_images_are_not_those_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    known = {"KID-8": {"kind": "kid", "value": 0.01, "protocol": {"id": "p"}}}
    record = {"measure": {"reference_images": 16}, "numbers": known}
    file.write_text(json.dumps(record))
    measure = MeasureConfig(metrics=["kid"], also_extractors=[], also_samples=[], reference_images=16)
    assert evaluating.known_numbers(file, measure) == known
    other = replace(measure, reference_images=5)
    with pytest.raises(UserError, match=r"measure\.reference_images=5: .*holds KID-8 for 16: set that, or another out"):
        evaluating.known_numbers(file, other)
    known["KID-8"]["kind"] = "frechet"
    file.write_text(json.dumps(record))
    assert evaluating.known_numbers(file, other) == known
