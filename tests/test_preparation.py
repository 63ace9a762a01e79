"""``experiments/prepare.py``: a whole preparation, a look at it, mistakes, and what ``-m`` asks of SLURM."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import experiments.prepare
from experiments.study import slurm
from tests.small_run import SMALL, write_images
from tests.small_sweep import command

DATA = ("data.root=images", *SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, prepared."""
    folder = tmp_path_factory.mktemp("preparation")
    (folder / "images").mkdir()
    write_images(folder / "images")
    done = command("prepare", folder, *DATA)
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder


def set_in(folder: Path) -> Path:
    (found,) = (folder / "prepared").glob("image_folder-*")
    return found


def test_it_says_what_it_made(folder: Path) -> None:
    said = (folder / "said.txt").read_text()
    assert "16 images of 32 pixels in 2 classes" in said
    assert "FD-EfficientNetLite0-8-reconstruction" in said
    assert "1 parts" in said


def test_a_run_finds_everything(folder: Path) -> None:
    """Nothing that a run computes once is left: neither set, reference statistics nor the teacher's tokens are written."""
    before = {file: file.stat().st_mtime_ns for file in set_in(folder).rglob("*") if not file.name.startswith(".")}
    assert any("reference-efficientnet-lite0" in file.name for file in before)
    assert any(file.name.startswith("teacher-") for file in before)
    done = command("run", folder, *DATA)
    assert done.returncode == 0, done.stderr
    assert {
        file: file.stat().st_mtime_ns for file in set_in(folder).rglob("*") if not file.name.startswith(".")
    } == before


Answer = Callable[..., tuple[int, str]]


@pytest.fixture
def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Answer:
    """The command in this process: exit code, and what it printed (its errors where it failed)."""
    monkeypatch.chdir(folder)

    def answer(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
        try:
            experiments.prepare.command()
        except SystemExit as stopped:
            return int(stopped.code or 0), capfd.readouterr().err
        return 0, capfd.readouterr().out

    return answer


def test_status_and_verify(folder: Path, answer: Answer) -> None:
    name = set_in(folder).name
    assert answer(*DATA, "prepare.action=status") == (0, f"prepared/{name}: finished\n")
    assert answer(*DATA, "prepare.action=verify") == (0, f"prepared/{name}: 1 parts, all checksums are right\n")
    shutil.copytree(set_in(folder), folder / "damaged" / name)
    file = folder / "damaged" / name / "part-00000.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, error = answer(*DATA, "prepare.action=verify", "paths.prepared=damaged")
    assert code == 2
    assert "part-00000.arrow: its checksum is not the manifest's (1 of 1 parts are damaged)" in error


def test_unfinished(folder: Path, answer: Answer) -> None:
    half = folder / "half" / set_in(folder).name
    shutil.copytree(set_in(folder), half)
    for name in ("manifest.json", "part-00000.json"):
        (half / name).unlink()
    code, said = answer(*DATA, "prepare.action=status", "paths.prepared=half")
    assert code == 0
    assert said.startswith(
        f"half/{half.name}: 0 of 1 parts of 4096 images made, 0 being made: if nobody is at it, start"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare.action=look",), "prepare.action='look' is unknown: choose one of make, status, verify"),
        (("prepare.action=status", "paths.prepared=nowhere"), "not begun: leave prepare.action=status away to begin"),
        (("prepare.action=verify", "paths.prepared=nowhere"), "not prepared: leave prepare.action=verify away"),
        (("data.root=nowhere",), "data.root=nowhere: cannot be read"),
        (("data.image_format=jpeg",), "data.image_format=jpeg is never lossless: set data.image_quality"),
        (("loader.workers=-1",), "loader.workers=-1"),
        (("prepare.shards=2",), "prepare.shards=2 needs -m"),
        (("prepare.action=status", "-m"), "prepare.action=status makes no jobs: leave out -m"),
        (("launch.to=local", "-m"), "-m makes jobs for SLURM"),
        (("prepare.shards=0", "-m"), "prepare.shards=0 must be at least 1"),
    ],
)
def test_mistakes_are_one_line(answer: Answer, arguments: tuple[str, ...], message: str) -> None:
    code, errors = answer(*DATA, *arguments)
    assert code == 2
    assert message in errors
    assert len([line for line in errors.splitlines() if line.startswith("error: ")]) == 1


def test_a_percent_sign_in_a_path_of_logs_is_refused(
    folder: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "is_here", lambda: True)
    code, errors = answer(*DATA, "paths.runs=50%j", "-m")
    assert code == 2
    assert "50%j: holds %, which SLURM and submitit replace" in errors
    assert not (folder / "50%j").exists()


@pytest.mark.skipif(not slurm.is_here(), reason="no sbatch here")
def test_dry_run_on_slurm(answer: Answer) -> None:
    shards = ("-m", "prepare.shards=3", "launch.dry_run=true", "cluster.cpus_per_task=2", "data.root=images")
    _, small = answer(*shards, "data=image_folder")
    assert "3 jobs of {'nodes': 1, 'tasks_per_node': 1, 'timeout_min': 1440, 'cpus_per_task': 2} would prepare" in small
    large = (*shards, "data=imagenet256", "autoencoder=sd_vae_mse")
    assert "'gpus_per_node': 1" in answer(*large)[1]
    assert "'gpus_per_node'" not in answer(*large, "training.device=cpu")[1]
