"""Submissions: what was asked for, when, from which code, and where each job's files lie.

RUNS/sweeps/STUDY/SWEEP/ID/submission.json   every run of the sweep, also those that needed no job
                           configs/N.yaml    the frozen configuration of run N: what its job reads
                           logs/             output of the jobs, named by job
                           errors/N.txt      why run N's last job failed, in a line
                           queue*.json       local launcher: the queue's process, and its jobs
"""

import socket
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gat.errors import UserError
from gat.files import json_object, reading, write_json
from gat.training.results import FIRST_NUMERICS

SWEEPS_FOLDER = "sweeps"
Goal = tuple[str, int, str]
"""A run's folder, length and evaluation."""
FILE = "submission.json"


@dataclass(frozen=True)
class Entry:
    """One run of a submission. ``job``: the scheduler's id; None if no job was needed, or (local) until it starts."""

    index: int
    arm: str
    seed: int
    overrides: list[str]
    identity: str
    run_folder: str
    total_steps: int
    batch_size: int
    submitted: bool
    job: str | None
    evaluation: str = ""
    """Id of the evaluation's settings; empty: no evaluation, or (older submissions) not recorded."""

    @property
    def goal(self) -> Goal:
        """What is asked of the run: entries of several sweeps may ask one run for other lengths and evaluations."""
        return (self.run_folder, self.total_steps, self.evaluation)


@dataclass(frozen=True)
class Submission:
    """A sweep as it was typed once. ``base``: hash of its settings less arm and seed; ``git``: commit at submission.

    ``numerics``: version of what training computes (:mod:`gat.numerics`), which its jobs check.
    """

    id: str
    study: str
    sweep: str
    launcher: str
    submitted_at: str
    host: str
    command: list[str]
    git: dict[str, Any]
    base: str
    claim: dict[str, Any] | None
    folder: Path
    entries: list[Entry]
    diagnostic_claims: list[dict[str, Any]] = field(default_factory=list)
    diagnostics: dict[str, Any] | None = None
    """With what analysis/diagnose.py is to measure; None where the study did not say."""
    numerics: int = FIRST_NUMERICS

    def config_file(self, index: int) -> Path:
        """Frozen configuration of a run."""
        return self.folder / "configs" / f"{index}.yaml"

    def error_file(self, index: int) -> Path:
        """Why the run's last job failed."""
        return self.folder / "errors" / f"{index}.txt"

    @property
    def logs(self) -> Path:
        """Folder of the jobs' output."""
        return self.folder / "logs"

    def log_file(self, job: str) -> Path:
        """Output of the main process of a job."""
        return self.logs / f"{job}_0_log.out"

    def write(self) -> None:
        """Write ``submission.json``, whole or not at all."""
        values = asdict(self)
        del values["folder"]
        write_json(self.folder / FILE, values)

    def with_jobs(self, jobs: dict[int, str]) -> "Submission":
        """The same with the scheduler's ids, by index of the run."""
        return replace(self, entries=[replace(e, job=jobs.get(e.index, e.job)) for e in self.entries])


def new_submission(runs: Path, study: str, sweep: str, **values: Any) -> Submission:
    """Return a new submission with its own id and folder, not yet written; raise :class:`UserError` for % in its path."""
    now = datetime.now(UTC)
    number = f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    folder = runs.absolute() / SWEEPS_FOLDER / study / sweep / number
    require_no_pattern(folder)
    return Submission(
        id=number,
        study=study,
        sweep=sweep,
        submitted_at=now.isoformat(timespec="microseconds"),
        host=socket.gethostname(),
        folder=folder,
        **values,
    )


def require_no_pattern(folder: Path) -> None:
    """Raise :class:`UserError` for % in a folder of logs: sbatch and submitit would replace patterns such as ``%j``.

    ``%%`` is no way out: sbatch reads it as one percent sign, submitit as two.
    """
    if "%" in str(folder):
        raise UserError(
            f"{folder}: holds %, which SLURM and submitit replace in a job's paths: choose paths.runs, study.name and "
            "sweep.name without %"
        )


def read_submission(folder: Path) -> Submission:
    """Read the submission in ``folder``; raise :class:`UserError` if its file is damaged."""
    file = folder / FILE
    with reading(file, "a submission", "remove its folder, and submit the sweep again"):
        values = json_object(file)
        entries = [Entry(**entry) for entry in values.pop("entries")]
        return Submission(folder=folder.absolute(), entries=entries, **values)


def read_submissions(runs: Path, *, sweep: str | None = None, study: str | None = None) -> list[Submission]:
    """All submissions under ``runs``, oldest first; of one sweep or study if named."""
    files = (runs / SWEEPS_FOLDER).glob(f"{study or '*'}/{sweep or '*'}/*/{FILE}")
    return sorted((read_submission(file.parent) for file in files), key=lambda s: (s.submitted_at, s.id))


def last_jobs(submissions: Iterable[Submission]) -> dict[str, tuple[Submission, Entry]]:
    """By run folder the last submission that made a job for it, whatever the sweep. ``submissions``: oldest first."""
    return {entry.run_folder: (s, entry) for s in submissions for entry in s.entries if entry.submitted}
