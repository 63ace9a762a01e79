"""Without SLURM: a background process that works through a submission's jobs, a few at a time.

The jobs are submitit's local ones, so that logs, several processes per run and signals are as under SLURM.
``python -m experiments.study.local SUBMISSION_FOLDER JOBS_AT_A_TIME PROCESSES ON_GPU`` is that process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import submitit
import torch

from experiments.settings import StudyConfig
from experiments.study.jobs import RunJob
from experiments.study.queue_state import JOBS_FILE, QUEUE_FILE, process_mark
from experiments.study.submission import Submission, read_submission
from gat.errors import UserError
from gat.files import write_json
from gat.platform import cores

POLL_S = 0.5
NO_LIMIT_MIN = 365 * 24 * 60


def start_queue(submission: Submission, study: StudyConfig, jobs_at_a_time: int | None) -> int:
    """Start the background process, which outlives this one; returns its process id.

    ``jobs_at_a_time`` None: as many as the GPUs, or the cores, carry.
    """
    width = jobs_at_a_time or fitting_jobs(study)
    command = [sys.executable, "-m", "experiments.study.local", str(submission.folder)]
    command += [str(width), str(study.processes), str(int(uses_gpus(study)))]
    environment = dict(os.environ)
    if not uses_gpus(study):  # threads of jobs side by side would wait for each other
        environment.setdefault("OMP_NUM_THREADS", str(threads_of(study, width)))
    with (submission.folder / "queue.log").open("w", encoding="utf-8") as log:
        queue = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    write_json(submission.folder / QUEUE_FILE, {"process": process_mark(queue.pid)})
    return queue.pid


def check_room(study: StudyConfig, jobs_at_a_time: int | None) -> None:
    """Raise :class:`UserError` if the jobs need more GPUs than the machine has."""
    if not uses_gpus(study):
        return
    needed, here = (jobs_at_a_time or fitting_jobs(study)) * study.processes, len(visible_gpus())
    if needed > here:
        raise UserError(
            f"launch.local_jobs={jobs_at_a_time} of study.processes={study.processes} needs {needed} GPUs, "
            f"but there are {here} here: choose fewer, or launch.to=slurm on a cluster"
        )


def fitting_jobs(study: StudyConfig) -> int:
    """Return how many jobs the machine can run at a time; one if the study states no cores per process."""
    if uses_gpus(study):
        return max(1, torch.cuda.device_count() // study.processes)
    return max(
        1, cores() // (study.processes * (cores() if study.cpus_per_process is None else study.cpus_per_process))
    )


def threads_of(study: StudyConfig, jobs_at_a_time: int) -> int:
    """Threads of a process: as many as SLURM would give it cores, or its share where the study does not say.

    Not more for a job that is alone: rounding depends on the number, and the same run should give the same digits.
    """
    if study.cpus_per_process is not None:
        return min(study.cpus_per_process, cores())
    return max(1, cores() // (jobs_at_a_time * study.processes))


def visible_gpus() -> list[int]:
    """Numbers of the GPUs that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(gpu.isdigit() for gpu in given):
        return [int(gpu) for gpu in given]
    return list(range(torch.cuda.device_count()))


def uses_gpus(study: StudyConfig) -> bool:
    """Whether the study's runs are on GPUs; where it does not say, if there are any here."""
    return torch.cuda.is_available() if study.on_gpu is None else study.on_gpu


class Queue:
    """Works through the jobs of ``submission``, ``width`` at a time, each on its own share of the GPUs."""

    def __init__(self, submission: Submission, width: int, processes: int, *, on_gpu: bool) -> None:
        self.submission, self.processes, self.on_gpu = submission, processes, on_gpu
        self.waiting = [entry.index for entry in submission.entries if entry.submitted]
        self.free_slots = list(range(width))
        self.running: dict[int, tuple[int, submitit.Job[str]]] = {}  # by index: slot and job
        self.told: dict[int, dict[str, str | None]] = {}

    def work(self) -> None:
        """Until no job is left."""
        while self.waiting or self.running:
            while self.waiting and self.free_slots:
                self.start(self.waiting.pop(0), self.free_slots.pop(0))
            for index, (slot, job) in list(self.running.items()):
                if job.done():
                    del self.running[index]
                    self.free_slots.append(slot)
                    self.tell(index, "ended", job.job_id)
            time.sleep(POLL_S)

    def start(self, index: int, slot: int) -> None:
        """Start a job on its slot's GPUs."""
        executor = submitit.LocalExecutor(self.submission.logs)
        gpus = visible_gpus()[slot * self.processes : (slot + 1) * self.processes] if self.on_gpu else []
        executor.update_parameters(
            timeout_min=NO_LIMIT_MIN,
            tasks_per_node=self.processes,
            gpus_per_node=len(gpus),
            visible_gpus=gpus,
            stderr_to_stdout=True,
        )
        job = executor.submit(self.job(index))
        self.running[index] = (slot, job)
        self.tell(index, "running", job.job_id)

    def job(self, index: int) -> RunJob:
        """Return the job of a run."""
        submission = self.submission
        return RunJob(submission.config_file(index), submission.error_file(index), submission.numerics)

    def tell(self, index: int, state: str, job: str) -> None:
        """Write the state of a job, for other commands to read."""
        self.told[index] = {"state": state, "job": job, "process": process_mark(int(job))}
        write_json(self.submission.folder / JOBS_FILE, self.told)

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: have the running jobs save and end, then end."""
        self.waiting.clear()
        for _, job in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)


def main(folder: str, width: str, processes: str, on_gpu: str) -> None:
    """The background process."""
    queue = Queue(read_submission(Path(folder)), int(width), int(processes), on_gpu=on_gpu == "1")
    signal.signal(signal.SIGTERM, queue.stop)
    queue.work()


if __name__ == "__main__":
    main(*sys.argv[1:])
