"""What the stages draw: sizes by hand, and analysis/stages.py as a user types it."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.blocks import inputs_of
from analysis.opening import opened
from analysis.sheets import Sheet, save_labelled, save_sheets
from analysis.stages import drawn, look, main, rows_of_checkpoint, stage_sizes, summary
from gat.errors import UserError
from tests.helpers import CLASSES, dims_of, mini_generator


def test_sizes_by_hand() -> None:
    """Two stages of two samples: rewrites 3 and (4, 0), (0, 5)."""
    first = torch.tensor([3.0, 3.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 2)
    second = first + torch.tensor([[4.0, 0.0], [0.0, 5.0]]).view(1, 2, 1, 1, 2)
    rewrites, to_final = stage_sizes(torch.cat([first, second]))
    assert rewrites == pytest.approx(np.array([[3, 8**0.5], [3, 12.5**0.5]]))
    assert to_final == pytest.approx(np.array([[8**0.5, 0], [12.5**0.5, 0]]))
    assert (to_final[:, -1] == 0).all()


def test_rewrites_are_what_the_heads_write() -> None:
    generator = mini_generator().requires_grad_(False)
    written = []
    for head in generator.heads:
        head.register_forward_hook(lambda *given: written.append(given[2]))
    z, labels = inputs_of(5, dims_of(CLASSES), None, seed=0)
    rewrites, to_final = stage_sizes(generator(z.double(), labels))
    of_heads = torch.stack(written).square().mean(dim=(2, 3, 4)).sqrt().T
    assert rewrites == pytest.approx(of_heads.numpy())
    missing = (written[2] + written[3]).square().mean(dim=(1, 2, 3)).sqrt()
    assert to_final[:, 1] == pytest.approx(missing.numpy())


def test_summary_by_hand() -> None:
    found = summary(np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([[2.0, 0.0], [2.0, 0.0]]))
    assert [one.stage for one in found] == [1, 2]
    assert (found[0].rewrite, found[0].rewrite_low, found[0].rewrite_high) == (2, 1, 3)
    assert (found[1].rewrite, found[1].rewrite_low, found[1].rewrite_high) == (2, 2, 2)
    assert (found[0].to_final, found[1].to_final) == (2, 0)


def test_batches_do_not_matter(trained: Path) -> None:
    it = opened(f"{trained}/run", torch.device("cpu"))
    z, labels = inputs_of(5, dims_of(2), None, seed=0)
    whole, images = drawn(it, z, labels, 64, 3)
    parts, same_images = drawn(it, z, labels, 2, 3)
    assert images.shape == (3, 4, 3, 32, 32)
    assert (images.float() - same_images.float()).abs().max() <= 1
    assert [one.rewrite for one in parts] == pytest.approx([one.rewrite for one in whole], rel=1e-5)


def test_a_diverged_run_is_told(trained: Path) -> None:
    it = opened(f"{trained}/run", torch.device("cpu"))
    it.subject.generator.class_embedding.weight.fill_(torch.nan)
    z, labels = inputs_of(2, dims_of(2), None, seed=0)
    with pytest.raises(UserError, match="stages are not finite: the run has diverged, choose an earlier checkpoint"):
        drawn(it, z, labels, 2, 1)


def test_a_labelled_picture(tmp_path: Path) -> None:
    """Cells are whole: four colours where they belong, under labels that leave ink."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=torch.uint8)
    save_labelled(colours[:, :, None, None].expand(-1, -1, 32, 32), tmp_path / "p.png", ["one", "two\nlines"])
    pixels = np.asarray(Image.open(tmp_path / "p.png"))
    assert pixels.shape == (2 * 14 + 4 + 3 + 2 * 96, 3 + 2 * 96, 3)
    assert (pixels[:32] < 128).any()
    assert pixels[32 + 50, 50].tolist() == [255, 0, 0]
    assert pixels[32 + 50, 150].tolist() == [0, 255, 0]
    assert pixels[32 + 150, 50].tolist() == [0, 0, 255]


def values_of(*arguments: str) -> dict[str, str]:
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


def test_as_typed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stages.py", f"runs={trained}", "samples=4", "rows=2", f"out={tmp_path}"])
    main()
    stem = "stages-step-00000004"
    assert {file.name for file in tmp_path.iterdir()} == {f"{stem}.{kind}" for kind in ("csv", "json", "png")}
    table = pd.read_csv(tmp_path / f"{stem}.csv")
    assert table["stage"].tolist() == [1, 2, 3, 4]
    assert table["to_final"].tolist()[-1] == 0
    assert (table["rewrite_low"] <= table["rewrite"]).all()
    assert (table["rewrite"] <= table["rewrite_high"]).all()
    facts = json.loads((tmp_path / f"{stem}.json").read_text())
    assert (facts["samples"], facts["generator"]["step"], facts["generator"]["truncation"]) == (4, 4, 0.25)
    assert facts["rows_of_picture"] == [0, 1]
    assert Image.open(tmp_path / f"{stem}.png").size == (4 * 97 + 1, 32 + 2 * 97 + 1)
    assert f"{table['rewrite'][0]:.4g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["samples=0"], "samples=0 must be at least 1"),
        (["rows=0"], "rows=0 must be at least 1"),
        (["rows=few"], "rows='few' is no whole number"),
        (["classes=2"], "classes=2: there are classes 0 to 1"),
        (["checkpoint=x.pt"], "checkpoint= and run= are both given"),
    ],
)
def test_mistakes_are_one_line(trained: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        look(values_of(f"run={trained}/run", f"out={tmp_path}", *arguments))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_checkpoint_are_the_commands(trained: Path, tmp_path: Path) -> None:
    look(values_of(f"run={trained}/run", f"out={tmp_path}", "samples=8", "seed=3"))
    table = pd.read_csv(tmp_path / "stages-step-00000004.csv")
    rows, save = rows_of_checkpoint(opened(f"{trained}/run", torch.device("cpu")), samples=8, seed=3)
    assert list(rows[0]) == list(table.columns[2:])
    assert [row["to_final"] for row in rows] == pytest.approx(table["to_final"].tolist())
    save(tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "stages-step-00000004.png").read_bytes()


def test_over_training(trained: Path, tmp_path: Path) -> None:
    look(values_of(f"run={trained}/run", "checkpoints=all", "samples=4", "rows=2", f"out={tmp_path}"))
    ends = (".csv", ".json", ".png", "-sizes.png", "-sizes.pdf")
    assert {file.name for file in tmp_path.iterdir()} == {f"stages-all{end}" for end in ends}
    table = pd.read_csv(tmp_path / "stages-all.csv")
    assert table["step"].tolist() == [2] * 4 + [4] * 4
    assert table["stage"].tolist() == 2 * [1, 2, 3, 4]
    assert Image.open(tmp_path / "stages-all.png").size[1] == 2 * (10 + 14 + 8 + 32 + 2 * 97 + 1)


def test_two_runs_see_the_same_samples(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to(trained / "run")
    file = f"{trained}/run/checkpoints/step-00000002.safetensors"
    look(values_of(f"run={other}", f"against={file}", "samples=4", f"out={tmp_path}/out"))
    table = pd.read_csv(tmp_path / "out/stages-step-00000004-against-run.csv")
    assert table["step"].tolist() == [4] * 4 + [2] * 4
    alone = tmp_path / "alone"
    look(values_of(f"checkpoint={file}", "samples=4", f"out={alone}"))
    assert table["rewrite"][4:].tolist() == pd.read_csv(alone / "stages-step-00000002.csv")["rewrite"].tolist()


def test_sheets_above_each_other(tmp_path: Path) -> None:
    """Cells are whole, under their titles and right of their rows' labels; the narrower sheet ends in white."""
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[None, :, None, None].expand(2, -1, 96, 96)
    save_sheets([("first", Sheet(red, ["a", "b"], ["row"])), ("", Sheet(red, ["a"]))], tmp_path / "p.png")
    pixels = np.asarray(Image.open(tmp_path / "p.png"))
    title, head = 10 + 14 + 8, 14 + 4
    assert pixels.shape[0] == title + head + 98 + head + 195
    left = pixels.shape[1] - 195
    assert left > 10
    assert pixels[title + head + 50, left + 50].tolist() == [255, 0, 0]
    assert pixels[title + 2 * head + 98 + 50, left + 50].tolist() == [255, 0, 0]
    assert (pixels[:title] < 128).any()  # ink of the title
    assert (pixels[title + head : title + head + 98, :left] < 128).any()  # and of the row
    assert (pixels[title + head + 98 :, left + 98 :] == 255).all()
