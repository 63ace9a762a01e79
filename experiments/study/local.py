"""Without SLURM: a background process that works through a submission's jobs, a few at a time.

The jobs are submitit's local ones, so that logs, several processes per run and signals are as under SLURM.
``python -m experiments.study.local SUBMISSION_FOLDER JOBS_AT_A_TIME PROCESSES ON_GPU`` is that process.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import submitit

from experiments.study.jobs import RunJob
from experiments.study.queue_state import JOBS_FILE, QUEUE_FILE, process_mark
from experiments.study.submission import Submission, read_submission
from gat.files import write_json

POLL_S = 0.5
NO_LIMIT_MIN = 365 * 24 * 60


def start_queue(submission: Submission, jobs_at_a_time: int, processes: int, *, on_gpu: bool) -> int:
    """Start the background process, which outlives this one; returns its process id."""
    command = [sys.executable, "-m", "experiments.study.local", str(submission.folder)]
    command += [str(jobs_at_a_time), str(processes), str(int(on_gpu))]
    environment = dict(os.environ)
    if not on_gpu:  # the threads of jobs side by side would wait for each other
        threads = max(1, len(os.sched_getaffinity(0)) // (jobs_at_a_time * processes))
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with (submission.folder / "queue.log").open("w") as log:
        queue = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    write_json(submission.folder / QUEUE_FILE, {"process": process_mark(queue.pid)})
    return queue.pid


class Queue:
    """Works through the jobs of ``submission``, ``width`` at a time, each on its own share of the GPUs."""

    def __init__(self, submission: Submission, width: int, processes: int, *, on_gpu: bool) -> None:
        self.submission, self.processes, self.on_gpu = submission, processes, on_gpu
        self.waiting = [entry.index for entry in submission.entries if entry.submitted]
        self.free_slots = list(range(width))
        self.running: dict[int, tuple[int, submitit.Job[str]]] = {}  # by index: slot and job
        self.told: dict[int, dict[str, str]] = {}

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
        gpus = list(range(slot * self.processes, (slot + 1) * self.processes)) if self.on_gpu else []
        executor.update_parameters(
            timeout_min=NO_LIMIT_MIN,
            tasks_per_node=self.processes,
            gpus_per_node=len(gpus),
            visible_gpus=gpus,
            stderr_to_stdout=True,
        )
        job = executor.submit(RunJob(self.submission.config_file(index), self.submission.error_file(index)))
        self.running[index] = (slot, job)
        self.tell(index, "running", job.job_id)

    def tell(self, index: int, state: str, job: str) -> None:
        """Keep the state of a job for whoever asks."""
        self.told[index] = {"state": state, "job": job}
        write_json(self.submission.folder / JOBS_FILE, self.told)

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: have the running jobs save and end, then end."""
        self.waiting.clear()
        for _, job in self.running.values():
            os.kill(int(job.job_id), signal.SIGTERM)


def main(folder: str, width: str, processes: str, on_gpu: str) -> None:
    """The background process."""
    queue = Queue(read_submission(Path(folder)), int(width), int(processes), on_gpu=on_gpu == "1")
    signal.signal(signal.SIGTERM, queue.stop)
    queue.work()


if __name__ == "__main__":
    main(*sys.argv[1:])
