"""The state of every run: from its folder, and from the scheduler of the last job that was made for it."""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.study import squeue
from experiments.study.queue_state import is_alive, read_queue
from experiments.study.submission import Entry, Goal, Submission, last_jobs
from gat.evaluation.kinds import FRECHET
from gat.training.results import diverged_by, number_of_kind, numbers_of, read_metrics, read_record, under_way

ENDED = ("finished", "diverged")
UNDER_WAY = ("queued", "running")
SILENT_TAIL_BYTES = 4096
KILLED = "killed or crashed: where memory ran out, run fewer at a time with launch.local_jobs=1"


@dataclass(frozen=True)
class RunState:
    """``kind``: ``not submitted``, ``queued``, ``running``, ``finished``, ``diverged`` or ``failed``; ``detail``: in words.

    ``job``: the scheduler's id, ``log``: its output; ``metrics`` and ``evaluated``: the last line of the run's metrics, and
    the last one with an evaluation.
    """

    kind: str
    detail: str
    job: str | None
    log: Path | None
    metrics: dict[str, Any]
    evaluated: dict[str, Any]


def run_states(entries: Iterable[Entry], submissions: list[Submission]) -> dict[Goal, RunState]:
    """Return states by :attr:`Entry.goal`. ``submissions``: all there are, oldest first."""
    jobs = last_jobs(submissions)
    wanted = {entry.goal: entry for entry in entries}
    left = {
        entry.run_folder: (read_record(Path(entry.run_folder), entry.identity), read_metrics(Path(entry.run_folder)))
        for entry in wanted.values()
    }
    ended = {goal: has_ended(entry, *left[entry.run_folder]) for goal, entry in wanted.items()}
    open_ = {entry.run_folder for goal, entry in wanted.items() if not ended[goal] and entry.run_folder in jobs}
    ids = {jobs[folder][1].job for folder in open_ if jobs[folder][0].launcher == "slurm"}
    words = squeue.job_states({job for job in ids if job}) if ids else {}  # where all have ended, no SLURM is needed
    return {
        goal: _state(entry, *left[entry.run_folder], jobs.get(entry.run_folder), words)
        for goal, entry in wanted.items()
    }


def _state(
    entry: Entry,
    record: dict[str, Any] | None,
    lines: list[dict[str, Any]],
    last: tuple[Submission, Entry] | None,
    words: dict[str, str],
) -> RunState:
    job = log = None
    kind, detail = "not submitted", ""
    if last is not None:
        submission, launched = last
        live, detail, job = _slurm(launched, words) if submission.launcher == "slurm" else _local(submission, launched)
        log = submission.log_file(job) if job else None
        kind = live or "failed"
        if kind == "failed":
            detail = _why(submission.error_file(launched.index), detail, log)
    if kind in ("failed", "not submitted") and under_way(Path(entry.run_folder)):
        kind, detail = "running", "by a process outside any queue"
    if record is not None and has_ended(entry, record, lines):
        lost = diverged_by(record, entry.total_steps)
        kind, detail = ("diverged", record["diverged"]["reason"]) if lost else ("finished", "")
    elif record is not None and kind == "failed" and last is not None and last[1].goal != entry.goal:
        kind, detail = "not submitted", "trained, but not so far, or not measured so"
    lines = [line for line in lines if line["step"] <= entry.total_steps]
    evaluated = [line for line in lines if number_of_kind(line, FRECHET, entry.evaluation)]
    return RunState(kind, detail, job, log, *(some[-1] if some else {} for some in (lines, evaluated)))


def has_ended(entry: Entry, record: dict[str, Any] | None, lines: Sequence[dict[str, Any]]) -> bool:
    """Return whether a run has ended: diverged, or finished with the numbers of the entry's evaluation.

    A run that diverged in time has none to wait for; one that went on beyond the entry's length has them in its metrics.
    """
    if record is None:
        return False
    if diverged_by(record, entry.total_steps):
        return True
    known = (*lines, record["final_metrics"])
    end = next((line for line in known if line["step"] == entry.total_steps), None)
    return end is not None and (not entry.evaluation or bool(numbers_of(end, entry.evaluation)))


def _slurm(entry: Entry, words: dict[str, str]) -> tuple[str | None, str, str | None]:
    """``queued``, ``running`` or None; SLURM's word; the job."""
    word = words.get(entry.job or "", "")
    state = word.split(" ")[0]
    live = "queued" if state in squeue.QUEUED else "running" if state in squeue.RUNNING else None
    return live, word, entry.job


def _local(submission: Submission, entry: Entry) -> tuple[str | None, str, str | None]:
    if submission.host != socket.gethostname():
        gone = f"if it is gone for good, remove {submission.folder} and submit again"
        return "running", f"in the local queue of {submission.host}: ask there; {gone}", None
    alive, jobs = read_queue(submission)
    told = jobs.get(entry.index)
    if told is None:
        return "queued" if alive else None, "" if alive else "the local queue ended before it began", None
    running, job = told["state"] == "running", told["job"]
    if running and not alive and not is_alive(told.get("process")):
        return None, "the local queue ended", job
    left = (submission.logs / f"{job}_0_result.pkl").exists()  # by submitit, of whatever ended by itself
    killed = not running and not left
    return "running" if running else None, KILLED if killed else "", job


def _why(error_file: Path, word: str, log: Path | None) -> str:
    """Return why a job ended without a record: by its error file, else by the scheduler, else by the end of its output."""
    if error_file.exists():
        return error_file.read_text(encoding="utf-8").strip()
    ordinary = word.split(" ")[0] in ("", "COMPLETED", "FAILED")
    said = "" if ordinary else f" ({word})"
    tail = _last_line(log) if log else ""
    return f"died without a word{said}" + (f"; its output ends: {tail}" if tail else "")


def _last_line(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - SILENT_TAIL_BYTES))
        lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""
