"""analysis/interpolation.py as a user types it."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.interpolation import look, main, rows_of_checkpoint
from analysis.opening import opened
from analysis.paths import summary
from analysis.perceptual import load_distance
from gat.errors import UserError

CPU = torch.device("cpu")


def values_of(*arguments: str) -> dict[str, str]:
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


def test_as_typed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"runs={trained}", "paths=6", "frames=4", f"out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["interpolation.py", *arguments])
    main()
    stem = "interpolation-step-00000004-w-efficientnet-lite0"
    files = {f"{stem}{end}" for end in (".csv", ".json", ".png", "-steps.png", "-steps.pdf")}
    assert {file.name for file in tmp_path.iterdir()} == files
    table = pd.read_csv(tmp_path / f"{stem}.csv")
    assert table["kind"].tolist() == ["within", "between"] * 3
    moving = table.dropna()
    assert moving["largest_step_share"].between(0.25, 1).all()
    assert (moving["step_max"] / moving["step_mean"] / 4).tolist() == pytest.approx(
        moving["largest_step_share"].tolist()
    )
    facts = json.loads((tmp_path / f"{stem}.json").read_text())
    assert (facts["distance"], facts["space"], facts["frames"]) == ("EfficientNetLite0-perceptual", "w", 4)
    assert (facts["even_step_share"], facts["generator"]["step"]) == (0.25, 4)
    (one,) = facts["summary"]
    assert (one["run"], one["step"], [kind["kind"] for kind in one["kinds"]]) == ("run", 4, ["within", "between"])
    assert [kind["paths"] + kind["left_out"] for kind in one["kinds"]] == [3, 3]
    within = moving[moving["kind"] == "within"]["straightness"]
    assert one["kinds"][0]["straightness"] == pytest.approx(within.mean())
    told = capsys.readouterr().out
    assert told.startswith("run, step 4 (MNG: exponential)\n")
    assert f"{within.mean():.4g}" in told


def test_the_sheet(trained: Path, tmp_path: Path) -> None:
    """Two sheets of four rows, every second of five images, under titles; the first cell is the first end."""
    it = opened(f"{trained}/run", CPU)
    rows, save = rows_of_checkpoint(it, paths=12, seed=0, distance=load_distance("efficientnet-lite0", CPU))
    save(tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert len(rows) == 12
    assert summary(rows)[0]["paths"] + summary(rows)[0]["left_out"] == 6
    assert len(pixels) == 2 * (10 + 14 + 8 + 14 + 4 + 1 + 4 * 97)
    assert pixels.shape[1] > 9 * 97


def test_over_training_and_against_another(trained: Path, tmp_path: Path) -> None:
    arguments = (f"run={trained}/run", f"against={trained}/run", "checkpoints=all", "space=z")
    look(values_of(*arguments, "paths=2", "frames=2", f"out={tmp_path}"))
    (file,) = tmp_path.glob("*.csv")
    table = pd.read_csv(file)
    assert file.stem == "interpolation-all-z-efficientnet-lite0-against-run"
    assert table["step"].tolist() == [2, 2, 4, 4] * 2
    assert table[:4].equals(table[4:].reset_index(drop=True))  # the same run twice
    facts = json.loads(file.with_suffix(".json").read_text())
    assert [one["step"] for one in facts["summary"]] == [2, 4, 2, 4]
    assert len(facts["generators"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["space=x"], "space='x' is unknown: choose one of w, z"),
        (["paths=0"], "paths=0 must be at least 1"),
        (["frames=none"], "frames='none' is no whole number"),
        (["distance=ssim"], "distance='ssim' is unknown"),
        (["checkpoints=some"], "checkpoints='some' is unknown: choose one of last, all"),
        (["checkpoint=x.pt"], "checkpoint= and run= are both given"),
    ],
)
def test_mistakes_are_one_line(trained: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        look(values_of(f"run={trained}/run", f"out={tmp_path}", *arguments))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
