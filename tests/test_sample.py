"""experiments/sample.py as a user types it: grids, sets, interpolations, and mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from experiments import drawing
from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.sampling import draw_inputs
from gat.pretrained import load_pretrained
from tests.conftest import composed
from tests.helpers import dims_of


def draw(trained: Path, *overrides: str) -> list[str]:
    typed = (f"checkpoint={trained}/run", f"paths.prepared={trained}/prepared", *overrides)
    return drawing.draw(composed(*typed), list(typed))


def expected_images(trained: Path, z: Tensor, labels: Tensor, truncation: float) -> np.ndarray:
    """(n, P, P, 3) by hand."""
    (manifest,) = (trained / "prepared").glob("*/manifest.json")
    data = PreparedSet(manifest.parent)
    stages = load_pretrained(str(trained / "run")).generator(z, labels, truncation=truncation)
    return to_uint8(decode(data.autoencoder(), stages[-1], data.manifest.scale)).permute(0, 2, 3, 1).numpy()


def test_a_set_in_adms_form(trained: Path, tmp_path: Path) -> None:
    told = draw(trained, "sample.kind=npz", "sample.count=7", "sample.seed=3", f"out={tmp_path}/set")
    assert told == [f"7 samples: {tmp_path}/set.npz"]
    written = np.load(tmp_path / "set.npz")
    z, labels = draw_inputs(7, dims_of(2), 3, "uniform")
    assert written["arr_1"].tolist() == labels.tolist()
    assert np.array_equal(written["arr_0"], expected_images(trained, z, labels, 0.25))  # the run's own truncation


def test_chosen_classes_in_turn_without_truncation(trained: Path, tmp_path: Path) -> None:
    chosen = ("sample.classes=[1]", "evaluation.truncation=0", "sample.kind=png", "sample.count=3")
    draw(trained, *chosen, f"out={tmp_path}/set")
    z, labels = draw_inputs(3, dims_of(2), 0, "uniform")[0], torch.ones(3, dtype=torch.int64)
    images = np.stack([np.asarray(Image.open(tmp_path / "set" / f"{i:06d}.png")) for i in range(3)])
    assert np.array_equal(images, expected_images(trained, z, labels, 0))


def test_a_grid_has_a_row_per_class(trained: Path, tmp_path: Path) -> None:
    told = draw(trained, "sample.count=3", f"out={tmp_path}/grid.png")
    assert told == [f"{tmp_path}/grid.png: 3 samples of each class (a row each): 0 (apples), 1 (pears)"]
    assert Image.open(tmp_path / "grid.png").size == (3 * 33 + 1, 2 * 33 + 1)


def test_default_place_is_the_runs_folder(trained: Path) -> None:
    draw(trained, "sample.count=1")
    assert (trained / "run" / "samples" / "step-00000004-grid-seed0.png").is_file()


def test_an_interpolation_is_a_loop_with_a_contact_sheet(trained: Path, tmp_path: Path) -> None:
    path = ("sample.kind=interpolation", "sample.seeds=[4,5,6]", "sample.classes=[0,1]", "sample.frames=2")
    told = draw(trained, *path, f"out={tmp_path}/walk.gif")
    assert "6 frames through seed 4 of 0 (apples), seed 5 of 1 (pears), seed 6 of 0 (apples)" in told[0]
    assert re.match(r"change per frame .*: [\d.]+ on average, at most [\d.]+", told[1])
    assert getattr(Image.open(tmp_path / "walk.gif"), "n_frames", 1) > 1
    assert (tmp_path / "walk-sheet.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sample.kind=jpg"], "sample.kind='jpg' is unknown: choose one of grid, interpolation, png, webdataset, npz"),
        (["sample.classes=[0,2]"], "sample.classes=2: there are classes 0 to 1"),
        (["sample.classes=[]"], r"sample.classes=\[\] draws nothing"),
        (["sample.count=0"], "sample.count=0 must be at least 1"),
        (["evaluation.truncation=3"], "evaluation.truncation=3.0 must be at least 0 and at most 1"),
        (["sample.kind=interpolation", "sample.seeds=[1]"], "at least 2 anchors"),
        (["sample.kind=interpolation", "out=walk.jpg"], r"walk\.jpg: suffix='\.jpg' is unknown"),
    ],
)
def test_mistakes(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        draw(trained, *overrides)
    assert not list(tmp_path.iterdir())
