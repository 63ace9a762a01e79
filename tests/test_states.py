"""States of runs from what is on disk and what the scheduler says; squeue and sacct are scripts with given answers."""

import json
import os
from pathlib import Path

import pytest

from experiments.study.queue_state import process_mark
from experiments.study.states import RunState, run_states
from experiments.study.submission import Submission, read_submission, read_submissions
from experiments.study.table import rows_of, table
from gat.errors import UserError
from gat.files import lock
from gat.training.results import number_of_kind
from tests.submissions import numbers_line, submission_of, write_run

FINISHED = {"identity": "abc", "status": "finished", "diverged": None, "final_metrics": {"step": 4}}
DIVERGED = {"identity": "abc", "status": "diverged", "diverged": {"step": 3, "reason": "d_loss is nan"}}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of runs; beside it the scheduler's tools, silent."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    tool(tmp_path, "squeue", "exit 0")
    tool(tmp_path, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    return tmp_path / "runs"


def tool(folder: Path, name: str, script: str) -> None:
    file = folder / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def states(submission: Submission) -> list[RunState]:
    runs = submission.folder.parents[3]
    known = run_states(submission.entries, read_submissions(runs))
    return [known[entry.goal] for entry in submission.entries]


def test_of_slurm_jobs(runs: Path) -> None:
    submission = submission_of(runs, "7_0", "7_1", "7_2", "7_3", "7_4", None)
    tool(
        runs.parent,
        "squeue",
        'echo "7_0|PENDING|Priority"; echo "7_1|RUNNING|None"; echo "7_2|OUT_OF_MEMORY|OutOfMemory"; echo "99|RUNNING|None"',
    )
    write_run(runs / "run-1", [{"step": 2, "images_per_s": 8.0}, {"step": 3, "images_per_s": 2.0}])
    submission.error_file(3).parent.mkdir()
    submission.error_file(3).write_text("the data has 10 classes [node1]\n")
    submission.log_file("7_4").write_text("Traceback\n  ...\nModuleNotFoundError: No module named 'gat'\n\n")
    queued, running, killed, failed, silent, never = states(submission)
    assert (queued.kind, queued.detail, queued.job) == ("queued", "PENDING Priority", "7_0")
    assert (running.kind, running.metrics["step"]) == ("running", 3)
    assert (killed.kind, killed.detail) == ("failed", "died without a word (OUT_OF_MEMORY OutOfMemory)")
    assert (failed.kind, failed.detail) == ("failed", "the data has 10 classes [node1]")
    assert silent.detail == "died without a word; its output ends: ModuleNotFoundError: No module named 'gat'"
    assert silent.log == submission.logs / "7_4_0_log.out"
    assert (never.kind, never.job) == ("not submitted", None)


def test_accounting_remembers_what_squeue_forgot(runs: Path) -> None:
    submission = submission_of(runs, "7_0", "7_1")
    tool(runs.parent, "sacct", 'echo "7_0|CANCELLED by 1000"; echo "7_1|COMPLETED"')
    tool(runs.parent, "squeue", 'echo "7_1|COMPLETING|None"')
    cancelled, current = states(submission)
    assert (cancelled.kind, cancelled.detail) == ("failed", "died without a word (CANCELLED)")
    assert current.kind == "running"


def test_squeue_that_does_not_answer_is_no_failure_of_runs(runs: Path) -> None:
    submission = submission_of(runs, "7_0")
    tool(runs.parent, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(
        UserError, match="squeue does not answer .Unable to contact slurm controller.: .* try again later"
    ):
        states(submission)


def test_runs_that_have_ended_need_no_slurm(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = submission_of(runs, "7_0", "7_1")
    write_run(runs / "run-0", [{"step": 4}], FINISHED)
    write_run(runs / "run-1", [{"step": 3}], DIVERGED)
    monkeypatch.setenv("PATH", "")
    assert [state.kind for state in states(submission)] == ["finished", "diverged"]
    write_run(runs / "run-2", [])
    with pytest.raises(UserError, match="squeue does not answer"):
        states(submission_of(runs, "7_0", "7_1", "7_2"))


def test_records_outweigh_jobs(runs: Path) -> None:
    submission = submission_of(runs, "7_0", "7_1", "7_2")
    write_run(runs / "run-0", [{"step": 4}], FINISHED)
    write_run(runs / "run-1", [{"step": 3}], DIVERGED)
    write_run(runs / "run-2", [], FINISHED | {"identity": "another"})
    assert [(s.kind, s.detail) for s in states(submission)][:2] == [("finished", ""), ("diverged", "d_loss is nan")]
    assert states(submission)[2].kind == "failed"


def test_the_last_job_counts_whatever_sweep_made_it(runs: Path) -> None:
    first = submission_of(runs, "7_0")
    submission_of(runs, "8_0", sweep="other")
    submission_of(runs, None)  # asked for again while it was queued: no job of its own
    tool(runs.parent, "squeue", 'echo "8_0|RUNNING|None"')
    (state,) = states(first)
    assert (state.kind, state.job) == ("running", "8_0")


def test_of_local_jobs_whose_queue_is_gone(runs: Path) -> None:
    submission = submission_of(runs, "", "", launcher="local")
    (submission.folder / "queue.json").write_text('{"process": "1@1"}')
    (submission.folder / "queue-jobs.json").write_text('{"0": {"state": "running", "job": "55"}}')
    assert [(s.kind, s.detail) for s in states(submission)] == [
        ("failed", "died without a word (the local queue ended)"),
        ("failed", "died without a word (the local queue ended before it began)"),
    ]


def test_a_local_job_outlives_its_queue(runs: Path) -> None:
    """After SIGKILL of the queue one job still prepares, one trains without submitit's process, and one has died."""
    submission = submission_of(runs, "", "", "", launcher="local")
    (submission.folder / "queue.json").write_text('{"process": "1@1"}')
    jobs = {i: {"state": "running", "job": "55", "process": "1@1"} for i in range(3)}
    jobs[0]["process"] = str(process_mark(os.getpid()))
    (submission.folder / "queue-jobs.json").write_text(json.dumps(jobs))
    for i in (1, 2):
        write_run(runs / f"run-{i}", [])
    with (runs / "run-1" / ".lock").open("w") as held, (runs / "run-2" / ".lock").open("w"):
        assert lock(held, wait=False)
        assert [state.kind for state in states(submission)] == ["running", "running", "failed"]
        assert lock(held, wait=False)  # looking has not changed the lock
    assert [state.kind for state in states(submission)] == ["running", "failed", "failed"]


def test_a_run_that_somebody_trains_by_hand_is_running(runs: Path) -> None:
    submission = submission_of(runs, "7_0", None)
    for i in range(2):
        write_run(runs / f"run-{i}", [{"step": 3}])
    with (runs / "run-0" / ".lock").open("w") as first, (runs / "run-1" / ".lock").open("w") as second:
        assert lock(first, wait=False)
        assert lock(second, wait=False)
        assert [(state.kind, state.detail) for state in states(submission)] == [
            ("running", "by a process outside any queue")
        ] * 2


def test_of_local_jobs_that_the_kernel_killed(runs: Path) -> None:
    """submitit leaves a result of whatever ends by itself, well or with an exception, and none of what is killed."""
    submission = submission_of(runs, "", "", launcher="local")
    (submission.folder / "queue-jobs.json").write_text(
        '{"0": {"state": "ended", "job": "55"}, "1": {"state": "ended", "job": "56"}}'
    )
    (submission.logs / "55_0_result.pkl").touch()
    assert [s.detail for s in states(submission)] == [
        "died without a word",
        "died without a word (killed or crashed: where memory ran out, run fewer at a time with launch.local_jobs=1)",
    ]


def test_a_queue_of_another_machine_cannot_be_seen_from_here(runs: Path) -> None:
    submission = submission_of(runs, "", launcher="local")
    file = submission.folder / "submission.json"
    file.write_text(file.read_text().replace(f'"host": "{submission.host}"', '"host": "elsewhere"'))
    (state,) = states(submission)
    gone = f"if it is gone for good, remove {submission.folder} and submit again"
    assert (state.kind, state.detail) == ("running", f"in the local queue of elsewhere: ask there; {gone}")


def test_a_damaged_submission_is_told(runs: Path) -> None:
    submission = submission_of(runs, "7_0")
    (submission.folder / "submission.json").write_text("{")
    with pytest.raises(UserError, match=r"submission\.json: not a submission .*remove its folder"):
        read_submission(submission.folder)


def test_distance_is_told_from_the_floor() -> None:
    line = {"step": 1} | numbers_line({"FID-5K-reconstruction": 1.0, "FID-5K": 2.0})
    found = number_of_kind(line, "frechet")
    assert found is not None
    assert (found[0], found[1]["value"]) == ("FID-5K", 2.0)
    assert number_of_kind(line, "frechet", "another") is None
    assert number_of_kind({"step": 1}, "frechet") is None


def test_table(runs: Path) -> None:
    submission = submission_of(runs, "7_0", "7_1")
    tool(runs.parent, "squeue", 'echo "7_0|RUNNING|None"')
    write_run(runs / "run-0", [{"step": 1} | numbers_line({"FD-x-1K": 12.345}), {"step": 2, "images_per_s": 4.0}])
    rows = rows_of([submission])
    lines = table(rows, run_states(submission.entries, [submission])).splitlines()
    assert lines[1].split() == [
        *("mini/test", "arm0", "0", "running", "7_0", "2/4", "4", "0:00:02", "FD-x-1K", "12.35", "at", "1", "RUNNING")
    ]
    assert lines[3] == "1 running, 1 failed"
    assert lines[4] == "failed: test, arm1, seed 0: died without a word"
    assert lines[5].strip() == f"log {submission.logs}/7_1_0_log.out"
