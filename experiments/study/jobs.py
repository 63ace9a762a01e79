"""One job: the work of a frozen configuration, as submitit carries it out and requeues it."""

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from submitit.helpers import DelayedSubmission

from experiments.exits import exits
from experiments.settings import plain_settings, typed
from gat.config import Config
from gat.errors import Interrupted, LostProcessError, UserError, first_line
from gat.files import replacing
from gat.numerics import NUMERICS
from gat.training.results import FIRST_NUMERICS

REQUEUE_S = 30
GRACE_S = 600  # SLURM kills much sooner
EXIT_TERMINATED = 128 + signal.SIGTERM


def read_config(file: Path) -> Config:
    """Read a frozen configuration; raise :class:`UserError` if this version does not know its settings."""
    try:
        return typed(plain_settings(file))
    except Exception as error:  # YAML and omegaconf each raise their own kinds
        raise UserError(
            f"{file}: not a configuration of this version ({first_line(error)}): submit the sweep again"
        ) from error


def use_own_cores() -> None:
    """As many threads as SLURM gave cores, also where it does not bind the task to them."""
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    if cores and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(cores))


def on_slurm() -> bool:
    """Whether this is a job of SLURM's rather than of the local queue."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def hand_back(stop: Interrupted) -> None:
    """After an interruption, with the state saved: have the job requeued, or wait for SLURM to do so.

    Returns where the job is to end. Raises :class:`UserError` if it cannot be requeued.
    """
    if stop.signals == {signal.SIGTERM}:
        if on_slurm():  # the first sign of a pre-emption, or scancel: a job that ends by itself would not be requeued
            time.sleep(GRACE_S)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what the requeue sends, on the way out
    try:
        signal.raise_signal(signal.SIGUSR2)  # submitit's own handler: counts time-outs, requeues, exits
    except Exception as error:  # too many time-outs, or SLURM refuses
        raise UserError(f"{stop}, but the job was not requeued: {error}") from error
    time.sleep(REQUEUE_S)  # only the main process's does; the others must not end the job before it has


@dataclass(frozen=True)
class Job(ABC):
    """A job. submitit pickles it; what it does is in ``config_file``, frozen when it was submitted."""

    config_file: Path
    error_file: Path

    def __call__(self) -> str:
        """Carry the work out or on; returns how it ended. Time-out and pre-emption requeue the job."""
        self.error_file.unlink(missing_ok=True)
        if not on_slurm():  # SLURM's SIGTERM is ignored (by submitit) but in training: it kills in its own time
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
        use_own_cores()
        with exits():
            try:
                return self.carry_on()
            except Exception as error:
                self.tell(error)
                raise

    @abstractmethod
    def carry_on(self) -> str:
        """The work, from where it was left."""

    def checkpoint(self) -> DelayedSubmission:
        """What submitit runs when the job starts again: the same, which goes on where it was."""
        return DelayedSubmission(self)

    def tell(self, error: Exception) -> None:
        """Keep the error in a line. That another process was lost is no news where that one has told why."""
        if isinstance(error, LostProcessError) and self.error_file.exists():
            return
        text = str(error).strip().splitlines() or [""]
        plain = isinstance(error, UserError | Interrupted | LostProcessError)
        line = text[0] if plain else f"{type(error).__name__}: {text[0]}"
        self.error_file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.error_file) as stream:
            stream.write(f"{line} [{os.uname().nodename}]\n".encode())


@dataclass(frozen=True)
class RunJob(Job):
    """The job of one run, submitted for a version of the numerics."""

    numerics: int = FIRST_NUMERICS

    def carry_on(self) -> str:
        """The run, from its last checkpoint; after an interruption, with the state saved, the job is handed back."""
        from gat.training.run import run  # seconds of imports, which a submission can do without

        if self.numerics != NUMERICS:
            raise UserError(
                f"submitted for version {self.numerics} of the numerics, but the code has version {NUMERICS} now: submit the "
                "sweep again"
            )
        try:
            record = run(read_config(self.config_file))
        except Interrupted as stop:
            self.tell(stop)
            hand_back(stop)
            raise
        return str(record["status"]) if record else "not the main process"
