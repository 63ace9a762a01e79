"""The command: a mistake is one line on standard error and exit code 2, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import experiments.run

BROKEN = b"\xff\xd8\xff\xe0 no JPEG"


def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *overrides: str) -> str:
    """The one line that the command answers to a mistake."""
    monkeypatch.setattr(sys, "argv", ["run.py", *overrides])
    with pytest.raises(SystemExit) as stopped:
        experiments.run.main()
    assert stopped.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image folder with one good and one corrupt image, in the working directory of the command."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "x.jpg").write_bytes(BROKEN)
    return tmp_path / "images"


def test_mistakes(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*overrides: str) -> str:
        return command(capfd, monkeypatch, *overrides)

    assert "model size 'XS' is unknown in family 'mini': choose one of S, B, L, XL" in answer("model.size=XS")
    assert "data.root is not set" in answer("data=image_folder")
    source = ("data=image_folder", f"data.root={folder}")
    assert "2 of 2 images are corrupt, first: " in answer(*source)
    assert f"{folder}/a/x.jpg" in answer(*source)
    assert "no image can be read: is this the right folder?" in answer(*source, "data.on_corrupt=skip")
    assert "data.root=/nowhere: cannot be read" in answer("data=image_folder", "data.root=/nowhere")
    assert "set autoencoder.path=FOLDER" in answer(
        "autoencoder.kind=pretrained", f"autoencoder.path={folder}", "paths.prepared=p"
    )
    assert not (folder.parent / "runs").exists()
    assert not [file for file in (folder.parent / "prepared").iterdir() if file.suffix != ".lock"]


@pytest.mark.slow
def test_as_a_user_types_it(tmp_path: Path) -> None:
    script = Path(experiments.run.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "model.size=XS"],
        cwd=tmp_path,
        env=os.environ | {"HYDRA_FULL_ERROR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: model size 'XS' is unknown")
    assert not list(tmp_path.iterdir())
