"""What the background process of local jobs leaves of itself and of them, for whoever asks."""

import json
from pathlib import Path
from typing import Any

from experiments.study.submission import Submission

QUEUE_FILE, JOBS_FILE = "queue.json", "queue-jobs.json"


def process_mark(pid: int) -> str | None:
    """Process id and start time, which tell a process from a later one of the same id; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{pid}@{fields[19]}"


def is_alive(mark: str | None) -> bool:
    """Return whether the process with this :func:`process_mark` still runs."""
    return mark is not None and process_mark(int(mark.split("@")[0])) == mark


def read_queue(submission: Submission) -> tuple[bool, dict[int, dict[str, Any]]]:
    """Whether the queue's process is alive, and its jobs by index: ``state`` (running, ended), ``job``, ``process``."""
    queue, jobs = (submission.folder / name for name in (QUEUE_FILE, JOBS_FILE))
    mark = json.loads(queue.read_text(encoding="utf-8"))["process"] if queue.exists() else None
    return is_alive(mark), {
        int(i): job for i, job in json.loads(jobs.read_text(encoding="utf-8")).items()
    } if jobs.exists() else {}
