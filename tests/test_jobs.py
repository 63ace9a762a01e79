"""What a job does when its run ends in each possible way; the run itself is replaced."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from experiments.study import jobs as module
from experiments.study.jobs import RunJob
from gat.errors import Interrupted, LostProcessError, UserError
from gat.numerics import NUMERICS

REQUEUED = 255


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunJob]:
    """A job whose configuration is never looked at; USR2 exits as submitit's handler does."""

    def requeue(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(REQUEUED)

    monkeypatch.setattr(module, "read_config", lambda file: file)
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, requeue)
    yield RunJob(tmp_path / "0.yaml", tmp_path / "errors" / "0.txt", NUMERICS)
    for number, handler in before.items():
        signal.signal(number, handler)


def ends(monkeypatch: pytest.MonkeyPatch, how: Any) -> None:
    def run(_config: object) -> Any:
        if isinstance(how, Exception):
            raise how
        return how

    monkeypatch.setattr("gat.training.run.run", run)


def told(job: RunJob) -> str:
    return job.error_file.read_text().split(" [")[0]


def test_success_clears_an_old_error(job: RunJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job.tell(UserError("of last time"))
    ends(monkeypatch, {"status": "diverged"})
    assert job() == "diverged"
    assert not job.error_file.exists()
    ends(monkeypatch, None)
    assert job() == "not the main process"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no such file\nmore"), 2, r"no such file\nmore"),
        (LostProcessError("rank 0: another has gone"), 70, "rank 0: another has gone"),
        (Interrupted("after step 3", frozenset({signal.SIGTERM})), 75, "after step 3"),
    ],
)
def test_expected_errors_are_one_line(
    job: RunJob, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, line: str
) -> None:
    ends(monkeypatch, error)
    with pytest.raises(SystemExit) as stopped:
        job()
    assert stopped.value.code == code
    assert told(job) == line


def test_unexpected_errors_keep_their_traceback(job: RunJob, monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, ZeroDivisionError("division by zero"))
    with pytest.raises(ZeroDivisionError):
        job()
    assert told(job) == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "signals", [{signal.SIGUSR2}, {signal.SIGUSR2, signal.SIGTERM}, set()], ids=["time-out", "pre-emption", "another's"]
)
def test_time_out_and_preemption_requeue(
    job: RunJob, monkeypatch: pytest.MonkeyPatch, signals: set[signal.Signals]
) -> None:
    ends(monkeypatch, Interrupted("after step 3", frozenset(signals)))
    with pytest.raises(SystemExit) as stopped:
        job()
    assert stopped.value.code == REQUEUED
    assert told(job) == "after step 3"  # until the job starts again


def test_a_refused_requeue_is_told(job: RunJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_number: int, _frame: FrameType | None) -> NoReturn:
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    signal.signal(signal.SIGUSR2, refuse)
    ends(monkeypatch, Interrupted("after step 3", frozenset({signal.SIGUSR2})))
    with pytest.raises(SystemExit) as stopped:
        job()
    assert stopped.value.code == 2
    assert (
        told(job) == "after step 3, but the job was not requeued: Job not requeued because: timed-out too many times."
    )


def test_slurms_sigterm_is_waited_out(job: RunJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that ends by itself while it is being pre-empted would not be requeued."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    ends(monkeypatch, Interrupted("after step 3", frozenset({signal.SIGTERM})))
    with pytest.raises(SystemExit):
        job()
    assert waited == [module.GRACE_S]
    assert told(job) == "after step 3"


def test_other_processes_wait_for_the_main_one_to_requeue(job: RunJob, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    signal.signal(signal.SIGUSR2, lambda *_: None)  # as submitit's handler in them
    ends(monkeypatch, Interrupted("after step 3", frozenset({signal.SIGUSR2})))
    with pytest.raises(SystemExit) as stopped:
        job()
    assert (stopped.value.code, waited) == (75, [module.REQUEUE_S])


def test_a_lost_process_does_not_hide_why(job: RunJob) -> None:
    job.tell(UserError("out of disk"))
    job.tell(LostProcessError("rank 0: another has gone"))
    assert told(job) == "out of disk"


def test_requeued_job_is_the_same_job(job: RunJob) -> None:
    assert job.checkpoint().function == job


def test_a_job_of_older_numerics_refuses_to_start(tmp_path: Path) -> None:
    """Submitted, then the code was changed; one that was pickled before there were versions is of the first."""
    for job in (
        RunJob(tmp_path / "0.yaml", tmp_path / "0.txt", NUMERICS - 1),
        RunJob(tmp_path / "0.yaml", tmp_path / "0.txt"),
    ):
        with pytest.raises(SystemExit) as stopped:
            job()
        assert stopped.value.code == 2
        told = (tmp_path / "0.txt").read_text(encoding="utf-8")
        assert f"version {job.numerics} of the numerics, but the code has version {NUMERICS}" in told
