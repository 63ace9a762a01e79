"""What the background process of local jobs leaves of itself and of them, for whoever asks."""

from pathlib import Path
from typing import Any

from experiments.study.submission import Submission
from gat.files import json_object, reading

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
    queue, jobs = (_read(submission.folder / name) for name in (QUEUE_FILE, JOBS_FILE))
    return is_alive(queue.get("process")), {int(i): job for i, job in jobs.items()}


def _read(file: Path) -> dict[str, Any]:
    """Return what a file of the queue's holds, nothing if there is none; :class:`gat.errors.UserError` if it is damaged."""
    if not file.exists():
        return {}
    with reading(
        file, "of a local queue", "remove it: if its queue is still alive, let that end before you submit again"
    ):
        found = json_object(file)
        if file.name == QUEUE_FILE:
            int(found["process"].split("@")[0])
        for index, job in found.items() if file.name == JOBS_FILE else ():
            int(index), job["state"], job["job"]
    return found
