"""Sweeps of runs that take a second each, launched by the real command from an empty folder."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments.settings import CONF
from experiments.study.states import UNDER_WAY, run_states
from experiments.study.submission import Submission, read_submissions
from tests.small_run import SMALL

COMMANDS = CONF.parent
SMALL_STUDY = ("study=mini", "data.root=images", "training.seed=0", *SMALL)
PATIENCE_S = 240


def command(name: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``python experiments/NAME.py ARGUMENTS`` in ``folder``, one thread per process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SUBMITIT"))}
    return subprocess.run(
        [sys.executable, str(COMMANDS / f"{name}.py"), *arguments],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def submit(folder: Path, *arguments: str) -> Submission:
    """Launch a small sweep and return its submission."""
    done = command("run", folder, "-m", *SMALL_STUDY, *arguments)
    assert done.returncode == 0, done.stderr
    return read_submissions(folder / "runs")[-1]


def states_of(submission: Submission) -> dict[str, str]:
    """Kind of state by arm."""
    states = run_states(submission.entries, read_submissions(submission.folder.parents[3]))
    return {entry.arm: states[entry.goal].kind for entry in submission.entries}


def until(what: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for ``what``."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def until_ended(submission: Submission) -> dict[str, str]:
    """Wait until no run is under way; states by arm."""
    until(lambda: not set(states_of(submission).values()) & set(UNDER_WAY))
    return states_of(submission)
