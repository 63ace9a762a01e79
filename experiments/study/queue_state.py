"""State files of the local queue: its background process and its jobs, as other commands read them."""

from pathlib import Path
from typing import Any

from experiments.study.submission import Submission
from gat.files import json_object, reading

QUEUE_FILE, JOBS_FILE = "queue.json", "queue-jobs.json"


def process_mark(pid: int) -> str | None:
    """Return process id and start time, which distinguish it from a later process of the same id; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{pid}@{fields[19]}"


def is_alive(mark: str | None) -> bool:
    """Return whether the process with this :func:`process_mark` is still running."""
    return mark is not None and process_mark(int(mark.split("@")[0])) == mark


def read_queue(submission: Submission) -> tuple[bool, dict[int, dict[str, Any]]]:
    """Return whether the queue is alive, and its jobs by index: ``state`` (running, ended), ``job``, ``process``."""
    queue, jobs = (_read(submission.folder / name) for name in (QUEUE_FILE, JOBS_FILE))
    return is_alive(queue.get("process")), {int(i): job for i, job in jobs.items()}


def _read(file: Path) -> dict[str, Any]:
    """Return the contents of a queue's file, {} if it is missing; raise :class:`gat.errors.UserError` if it is damaged."""
    if not file.exists():
        return {}
    with reading(
        file, "of a local queue", "remove it; if the queue is still running, wait for its end before you submit again"
    ):
        found = json_object(file)
        if file.name == QUEUE_FILE:
            int(found["process"].split("@")[0])
        for index, job in found.items() if file.name == JOBS_FILE else ():
            int(index), job["state"], job["job"]
    return found
