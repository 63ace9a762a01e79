"""Submissions made by hand: what the scheduler and the runs left behind, without either."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.study.submission import Entry, Submission, new_submission

ENTRY = Entry(
    index=0,
    arm="one",
    seed=0,
    overrides=[],
    identity="abc",
    run_folder="",
    total_steps=4,
    batch_size=4,
    submitted=True,
    job=None,
)


def submission_of(
    runs: Path, *jobs: str | None, launcher: str = "slurm", total_steps: int = 4, **values: Any
) -> Submission:
    """A written submission of a run ``RUNS/run-N`` per job; the runs of None needed no job."""
    entries = [
        replace(
            ENTRY,
            index=i,
            arm=f"arm{i}",
            run_folder=str(runs / f"run-{i}"),
            total_steps=total_steps,
            submitted=job is not None,
            job=job,
        )
        for i, job in enumerate(jobs)
    ]
    given = {
        "study": "mini",
        "sweep": "test",
        "command": [],
        "git": {"commit": "c0ffee", "dirty": False},
        "base": "base",
    }
    submission = new_submission(runs, **(given | {"claim": None} | values), launcher=launcher, entries=entries)
    submission.logs.mkdir(parents=True)
    submission.write()
    return submission


def write_run(folder: Path, metrics: list[dict[str, Any]], record: dict[str, Any] | None = None) -> None:
    """A run's folder with its metrics, and its record if it has ended."""
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    if record is not None:
        needed = {"diverged": None, "final_metrics": metrics[-1] if metrics else {"step": 0}}
        (folder / "record.json").write_text(json.dumps(needed | record))


def numbers_line(numbers: Mapping[str, float | None], protocol: str = "p", evaluation: str = "e") -> dict[str, Any]:
    """Return what an evaluation adds to a line of metrics; kinds are inferred from the names that tests use."""
    kinds = {"reconstruction": "frechet_reconstruction", "precision": "precision"}
    made = {
        name: {
            "kind": next((kind for word, kind in kinds.items() if word in name), "frechet"),
            "value": value,
            "protocol": protocol,
        }
        for name, value in numbers.items()
    }
    return {"evaluations": {evaluation: made}}
