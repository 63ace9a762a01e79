"""Preparation of 60,000 real photographs: in one process and in four, killed and continued, with equal results.

Runs where ``CIFAR10_IMAGES`` names CIFAR-10 as JPEGs: a tar archive of, or a folder with, train/CLASS/ and test/CLASS/.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.settings import CONF
from gat.data.prepared import MANIFEST, PreparedSet
from tests.data_helpers import random_autoencoder
from tests.small_sweep import PATIENCE_S, until

IMAGES = os.environ.get("CIFAR10_IMAGES")
COUNT, PARTS = 60_000, 15
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IMAGES is None, reason="CIFAR10_IMAGES does not name CIFAR-10 as JPEGs (archive or folder)"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/CLASS/train/ and .../test/, and a random autoencoder of factor 8."""
    folder = tmp_path_factory.mktemp("cifar10")
    assert IMAGES is not None
    given = Path(IMAGES).absolute()
    if given.is_file():
        shutil.unpack_archive(given, folder / "given")
        given = folder / "given"
    for split in ("train", "test"):
        (place,) = [path for path in (given / split, *given.glob(f"*/{split}")) if path.is_dir()]
        for name in place.iterdir():
            target = folder / "images" / name.name / split
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir()
            for file in name.iterdir():
                (target / file.name).hardlink_to(file) if given.is_relative_to(folder) else (
                    target / file.name
                ).symlink_to(file)
    random_autoencoder(levels=4).save_pretrained(folder / "vae")
    return folder


def started(folder: Path, cache: str, workers: int) -> "subprocess.Popen[str]":
    arguments = ["data=image_folder", "data.root=images", "autoencoder=sd_vae_mse", "autoencoder.path=vae"]
    arguments += [f"paths.prepared={cache}", f"loader.workers={workers}", "prepare.statistics=false"]
    return subprocess.Popen(
        [sys.executable, str(CONF.parent / "prepare.py"), *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> None:
    said, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    print(said)  # noqa: T201 - shown with -s: time and memory


def prepared(folder: Path, cache: str) -> PreparedSet:
    (found,) = (folder / cache).glob(f"*/{MANIFEST}")
    return PreparedSet(found.parent)


@pytest.fixture(scope="module")
def whole(folder: Path) -> PreparedSet:
    """Prepared by one process, with two workers."""
    ended(started(folder, "one", workers=2))
    return prepared(folder, "one")


def test_one_process(whole: PreparedSet) -> None:
    manifest = whole.manifest
    assert (len(whole), len(manifest.parts), whole.num_classes) == (COUNT, PARTS, 10)
    assert manifest.class_names == sorted(manifest.class_names)
    assert [int((whole.labels == label).sum()) for label in range(10)] == [COUNT // 10] * 10
    assert (manifest.skipped, manifest.ignored_files, manifest.upscaled) == (0, 0, 0)


def test_four_processes(folder: Path, whole: PreparedSet) -> None:
    for process in [started(folder, "four", workers=0) for _ in range(4)]:
        ended(process)
    four = prepared(folder, "four")
    assert four.manifest.parts == whole.manifest.parts  # among it the checksums
    assert four.manifest.labels_sha256 == whole.manifest.labels_sha256
    four.verify()


def test_killed_and_continued(folder: Path, whole: PreparedSet) -> None:
    process = started(folder, "killed", workers=1)
    until(lambda: len(list(folder.glob("killed/*/part-*.json"))) >= 3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)  # no worker keeps the pipe open
    before = {file: file.stat().st_mtime_ns for file in folder.glob("killed/*/part-*.json")}
    assert 3 <= len(before) < PARTS
    time.sleep(0.1)
    ended(started(folder, "killed", workers=1))
    assert {file: file.stat().st_mtime_ns for file in before} == before  # not made again
    assert prepared(folder, "killed").manifest.parts == whole.manifest.parts
    assert not list(folder.glob("killed/*/.part-*"))
