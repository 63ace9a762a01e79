"""Progress where a bar cannot be shown: in a file or a job's log."""

from pathlib import Path

import pytest

from gat import progress
from gat.progress import Progress
from gat.training.run import run
from tests.conftest import compose_config
from tests.small_run import SMALL, write_images


def test_lines_at_once_at_each_interval_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(total=3, desc="preparing", unit="image") as shown:
        first = capsys.readouterr().err
        assert first.startswith("preparing: 0 of 3, 00:00 elapsed, ")
        assert first.count("\n") == 1
        shown.update()
        assert not capsys.readouterr().err
        monkeypatch.setattr(shown, "mininterval", 0)
        shown.set_postfix({"d_loss": "0.5"}, refresh=False)
        shown.update()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("preparing: 2 of 3, ")
        assert line.endswith("image/s, d_loss=0.5")
        assert " left, " in line
        shown.write("step 2")
        assert "\r" not in capsys.readouterr().err
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("preparing: 2 of 3, ")


def test_passing_work_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Progress([1, 2], desc="samples", leave=False)) == [1, 2]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("samples: 0 of 2")


def test_a_run_names_each_step_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_S", 0.0)
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images")
    paths = (
        f"data.root={tmp_path / 'images'}",
        f"paths.prepared={tmp_path / 'prepared'}",
        f"paths.run={tmp_path / 'run'}",
    )
    run(compose_config(*SMALL, *paths, "training.log_steps=1"))
    lines = capsys.readouterr().err.splitlines()
    named = list(dict.fromkeys(line.partition(":")[0] for line in lines))
    assert [name for name in named if name in ("autoencoder", "preparing", "reference", "train")] == [
        *("autoencoder", "preparing", "reference", "train")
    ]
    trained = [line for line in lines if line.startswith("train: ")]
    assert [line.split(",")[0] for line in trained[:3]] == ["train: 0 of 4", "train: 1 of 4", "train: 2 of 4"]
    assert all(word in trained[2] for word in ("d_loss=", "g_loss=", "img/s=", " left, "))
