"""Sweeps on a real SLURM cluster, by the real commands. ``.ci/run`` starts a one-node cluster for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from experiments.study.states import run_states
from experiments.study.submission import Submission, read_submissions
from gat.data.prepared import PreparedSet
from gat.training.results import read_metrics
from tests.small_run import metrics_of, write_images
from tests.small_sweep import SMALL_STUDY, command, states_of, submit, until, until_ended

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
LONG = ("training.total_steps=80", "training.checkpoint_steps=1000")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and what the sweeps of this module leave; skips, or in CI fails, where there is no cluster."""
    answer = shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    if not answer:
        reason = "no SLURM cluster answers here: .ci/run starts one"
        assert not os.environ.get("REQUIRE_SLURM"), reason
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "images").mkdir()
    write_images(folder / "images")
    return folder


def on_slurm(folder: Path, *arguments: str) -> Submission:
    submission = submit(folder, *arguments)
    assert submission.launcher == "slurm"
    return submission


def scontrol(*arguments: str) -> None:
    subprocess.run(["scontrol", *arguments], check=True)


def test_a_sweep_from_submission_to_table(folder: Path) -> None:
    extra = "+cluster.additional_parameters.comment=trial"
    submission = on_slurm(folder, "sweep=mng", extra)
    assert set(states_of(submission).values()) <= {"queued", "running"}  # the command returned before the jobs ended
    assert len({entry.job for entry in submission.entries}) == 5
    assert "job" in command("status", folder, "sweep=mng").stdout
    assert until_ended(submission) == dict.fromkeys(("exponential", "linear", "flat", "none", "msg"), "finished")
    again = command("run", folder, "-m", *SMALL_STUDY, "sweep=mng")
    assert "5 runs, 0 submitted" in again.stdout
    assert not any(entry.submitted for entry in read_submissions(folder / "runs")[-1].entries)
    collected = command("collect", folder, "sweep=mng")
    assert "5 rows of 5 runs here, 0 missing" in collected.stdout


def test_asked_for_again_while_under_way_nothing_is_submitted(folder: Path) -> None:
    first = on_slurm(folder, "sweep=noise_nesting")
    second = on_slurm(folder, "sweep=noise_nesting")
    assert not any(entry.submitted for entry in second.entries)
    assert set(until_ended(first).values()) == {"finished"}
    assert states_of(second) == states_of(first)


def test_requeued_run_equals_one_never_interrupted(folder: Path) -> None:
    submission = on_slurm(folder, "sweep.name=requeued", "training.seed=3", *LONG)  # no other test's run
    (entry,) = submission.entries
    assert entry.job is not None
    run = Path(entry.run_folder)
    until(lambda: len(read_metrics(run)) > 5)
    subprocess.run(["scancel", "--signal=USR2", entry.job], check=True)
    until(lambda: states_of(submission) == {"baseline": "queued"})
    assert 5 < read_metrics(run)[-1]["step"] < 80
    scontrol("update", f"jobid={entry.job}", "StartTime=now")  # SLURM would wait two minutes
    assert until_ended(submission) == {"baseline": "finished"}
    plain = command("run", folder, *SMALL_STUDY, *LONG, "training.seed=3", "paths.run=plain")
    assert plain.returncode == 0, plain.stderr
    assert metrics_of(run) == metrics_of(folder / "plain")
    name = "checkpoints/step-00000080.safetensors"
    ours, theirs = load_file(run / name), load_file(folder / "plain" / name)
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


def test_a_task_per_process(folder: Path) -> None:
    submission = on_slurm(folder, "sweep.name=pair", "study.processes=2", "training.seed=1")
    assert until_ended(submission) == {"baseline": "finished"}
    record = Path(submission.entries[0].run_folder, "record.json").read_text()
    assert '"processes": 2' in record


def test_failures_are_told_as_such(folder: Path) -> None:
    submission = on_slurm(folder, "sweep=consistency", "model.num_classes=9")
    assert set(until_ended(submission).values()) == {"failed"}
    told = command("status", folder, "sweep=consistency").stdout
    assert "failed: consistency, plain, seed 0: the data has 2 classes, fewer than model.num_classes=9" in told
    killed = on_slurm(folder, "sweep.name=killed", "training.seed=2", *LONG)
    (entry,) = killed.entries
    assert entry.job is not None
    until(lambda: len(read_metrics(Path(entry.run_folder))) > 1)
    process = f"^{sys.executable} -u -m submitit.core._submit {killed.logs}"
    subprocess.run(["pkill", "-KILL", "-f", process], check=True)  # as the kernel does where memory is out
    assert until_ended(killed) == {"baseline": "failed"}
    (state,) = run_states(killed.entries, read_submissions(folder / "runs")).values()
    assert state.detail.startswith("died without a word")
    assert state.log is not None
    assert state.log.exists()


def test_refused_by_sbatch(folder: Path) -> None:
    before = read_submissions(folder / "runs")
    done = command("run", folder, "-m", *SMALL_STUDY, "sweep=repa", "cluster.partition=nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: sbatch refused the jobs: invalid partition specified: nowhere")
    assert done.stderr.count("\n") == 1
    assert read_submissions(folder / "runs") == before


def test_preparation_in_shards(folder: Path) -> None:
    """Two jobs divide three parts; one is requeued in the middle, and what they make is what one process makes."""
    pixels = np.random.default_rng(0).integers(0, 256, (8200, 8, 8, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        (folder / "many" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "many" / str(i % 2) / f"{i}.png")
    settings = (*SMALL_STUDY, "data.root=many", "data.resolution_px=8", "evaluation.samples=0", "teacher=none")
    done = command("prepare", folder, "-m", *settings, "prepare.shards=2", "paths.prepared=sharded")
    assert done.returncode == 0, done.stderr
    assert "2 shards submitted as jobs" in done.stdout
    job = done.stdout.split("as jobs ")[1].split()[0]
    until(lambda: bool(list(folder.glob("sharded/*/part-*.json"))))
    scontrol("requeue", job)
    until(lambda: bool(list(folder.glob("sharded/*/manifest.json"))))
    subprocess.run(["scancel", job.split("_")[0]], check=True)  # the requeued one, which would wait two minutes
    assert command("prepare", folder, *settings).returncode == 0
    (sharded,), (plain,) = folder.glob("sharded/image_folder-8px-*"), folder.glob("prepared/image_folder-8px-*")
    assert PreparedSet(sharded).manifest.parts == PreparedSet(plain).manifest.parts
    assert len(PreparedSet(sharded)) == len(pixels)
