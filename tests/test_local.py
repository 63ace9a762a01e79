"""Sweeps without SLURM: the background queue, its jobs' states, what fails, what is not run again; the table of results."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from experiments.study.queue_state import is_alive, process_mark
from experiments.study.states import run_states
from experiments.study.submission import Submission, read_submissions
from gat.training.results import numbers_of
from tests.small_run import write_images
from tests.small_sweep import SMALL_STUDY, command, states_of, submit, until, until_ended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and what the sweeps of this module leave."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "images").mkdir()
    write_images(folder / "images")
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Submission:
    """A sweep of two runs that has ended; both ran at a time."""
    submission = submit(folder, "sweep=repa", "launch.to=local", "launch.local_jobs=2")
    assert "finished" not in states_of(submission).values()  # the command has returned before
    assert until_ended(submission) == {"aligned": "finished", "not_aligned": "finished"}
    return submission


@pytest.mark.slow
def test_second_submission_runs_nothing(finished: Submission, folder: Path) -> None:
    done = command("run", folder, "-m", *finished.command[2:])
    assert "2 runs, 0 submitted" in done.stdout
    assert "aligned, seed 0: left alone: finished" in done.stdout
    assert not [entry for entry in read_submissions(folder / "runs")[-1].entries if entry.submitted]


@pytest.mark.slow
def test_status_and_collect(finished: Submission, folder: Path) -> None:
    told = command("status", folder, "sweep=repa", "study=mini")
    assert told.returncode == 0, told.stderr
    assert "2 finished" in told.stdout
    assert "4/4" in told.stdout
    collected = command("collect", folder, "sweep=repa")
    assert "results/mini/repa.csv: 2 rows of 2 runs here, 0 missing" in collected.stdout
    table = pd.read_csv(folder / "results/mini/repa.csv")
    assert list(table["arm"]) == ["aligned", "not_aligned"]
    assert list(table["alignment_weight"]) == [1.0, 0.0]
    record = json.loads(Path(finished.entries[0].run_folder, "record.json").read_text())
    assert table["distance"][0] == pytest.approx(numbers_of(record["final_metrics"])["FD-classifier-8"]["value"])
    head = json.loads((folder / "results/mini/repa.json").read_text())
    assert head["claim"]["id"] == "repa"
    assert not head["missing"]


@pytest.mark.slow
def test_failed_run_is_told(folder: Path) -> None:
    again = ("sweep=headline", "model.num_classes=9", "launch.to=local")
    done = command("run", folder, "-m", *SMALL_STUDY, *again, "launch.wait=true")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "failed: headline, XL, seed 0: the data has 2 classes, fewer than model.num_classes=9" in done.stdout
    submission = read_submissions(folder / "runs")[-1]
    (state,) = run_states(submission.entries, [submission]).values()
    assert state.log is not None
    assert "Traceback" not in state.log.read_text()
    missing = command("collect", folder, "sweep=headline").stdout
    assert "missing: XL, seed 0: failed the data has 2 classes" in missing
    (row,) = pd.read_csv(folder / "results/mini/headline.csv").to_dict("records")
    assert (row["status"], row["arm"]) == ("failed", "XL")


@pytest.mark.slow
def test_stopped_queue_saves_and_the_same_command_goes_on(folder: Path) -> None:
    length = ("training.total_steps=150", "training.checkpoint_steps=1000")
    typed = (
        "sweep.name=long",
        *length,
        "training.seed=3",
        "launch.to=local",
    )  # no other test's run, which this would extend
    submission = submit(folder, *typed)
    (entry,) = submission.entries
    metrics = Path(entry.run_folder, "metrics.jsonl")
    until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2)
    assert states_of(submission) == {"baseline": "running"}
    mark = json.loads((submission.folder / "queue.json").read_text())["process"]
    os.kill(int(mark.split("@")[0]), signal.SIGTERM)
    assert until_ended(submission) == {"baseline": "failed"}
    (state,) = run_states([entry], [submission]).values()
    assert state.detail.startswith("interrupted after step")
    reached = state.metrics["step"]
    assert 2 < reached < 150
    assert list(Path(entry.run_folder, "checkpoints").iterdir())
    second = submit(folder, *typed)
    assert until_ended(second) == {"baseline": "finished"}
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 151))


@pytest.mark.slow
def test_a_killed_queues_run_is_left_alone_until_it_ends(folder: Path) -> None:
    typed = ("sweep.name=orphan", "training.total_steps=150", "training.seed=4", "launch.to=local")
    submission = submit(folder, *typed)
    (entry,) = submission.entries
    until(lambda: (submission.folder / "queue-jobs.json").exists())
    mark = json.loads((submission.folder / "queue.json").read_text())["process"]
    os.kill(int(mark.split("@")[0]), signal.SIGKILL)
    until(lambda: not is_alive(mark))
    assert states_of(submission) == {"baseline": "running"}  # before it trains
    until(lambda: Path(entry.run_folder, "metrics.jsonl").exists())
    second = submit(folder, *typed)
    assert [one.submitted for one in second.entries] == [False]
    assert until_ended(submission) == {"baseline": "finished"}


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    mark = process_mark(os.getpid())
    assert mark is not None
    assert mark.startswith(f"{os.getpid()}@")
    assert process_mark(2**22 + 1) is None
