"""SLURM: the submission of a job array by submitit, and the states that squeue and sacct tell."""

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from experiments.settings import ClusterConfig, StudyConfig
from experiments.study.jobs import RunJob
from gat.errors import UserError

QUEUED = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
    "SUSPENDED",
}
RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "STOPPED"}
SPECIFIC = {"partition", "account", "qos", "constraint", "exclude", "signal_delay_s", "array_parallelism", "setup"}
QUERY_TIMEOUT_S = 60


def is_here() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def resources(study: StudyConfig, cluster: ClusterConfig) -> dict[str, int]:
    """Nodes, tasks and GPUs per node of one run: a task per process, on GPUs one GPU each.

    Raises :class:`UserError` if the processes do not fill the nodes that they need.
    """
    if not study.on_gpu:
        return {"nodes": 1, "tasks_per_node": study.processes}
    if cluster.gpus_per_node < 1:
        raise UserError(f"study {study.name!r} runs on GPUs, but cluster.gpus_per_node={cluster.gpus_per_node}")
    nodes = -(-study.processes // cluster.gpus_per_node)
    if study.processes % nodes:
        raise UserError(
            f"study.processes={study.processes} do not spread evenly over {nodes} nodes of "
            f"cluster.gpus_per_node={cluster.gpus_per_node}: change either"
        )
    per_node = study.processes // nodes
    return {"nodes": nodes, "tasks_per_node": per_node, "gpus_per_node": per_node}


def submit(jobs: list[RunJob], logs: Path, parameters: dict[str, Any], shape: dict[str, int]) -> list[str]:
    """Submit ``jobs`` as one array and return their ids. ``parameters``: hydra-submitit-launcher's; ``shape``: resources.

    Raises :class:`UserError` with sbatch's own words if it refuses.
    """
    given = {key: value for key, value in parameters.items() if value not in (None, [], {})}
    executor = submitit.AutoExecutor(logs, cluster="slurm", slurm_max_num_timeout=given.pop("max_num_timeout"))
    own = {f"slurm_{key}": given.pop(key) for key in SPECIFIC & given.keys()}
    executor.update_parameters(
        **given | shape,
        **own,
        stderr_to_stdout=True,
        slurm_additional_parameters=given.pop("additional_parameters", {}),
    )
    try:
        with executor.batch(), contextlib.redirect_stderr(io.StringIO()):  # sbatch's words are told below
            submitted = [executor.submit(job) for job in jobs]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise UserError(f"sbatch refused the jobs: {refusal(str(error))}: see the cluster config") from error
    return [str(job.job_id) for job in submitted]


def refusal(text: str) -> str:
    """sbatch's own message in what submitit makes of it."""
    lines = re.findall(r"sbatch: (?:error: )?(?:Batch job submission failed: )?(.+)", text)
    return "; ".join(dict.fromkeys(line.strip() for line in lines)) or text.strip().splitlines()[-1]


def job_states(ids: Collection[str]) -> dict[str, str]:
    """SLURM's word for each job it still knows, by id (``12_3``); a waiting one's with the reason, e.g. ``PENDING Priority``.

    squeue forgets a job minutes after its end; sacct, where accounting is on, does not. Raises :class:`UserError` if squeue
    does not answer.
    """
    arrays = sorted({job.split("_")[0] for job in ids})
    if not arrays:
        return {}
    listed = ",".join(
        [*arrays, arrays[0]]
    )  # squeue fails if the only id is unknown to it; of several it passes such over
    _, kept = _ask(["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(arrays)])  # fails without accounting
    failed, current = _ask(["squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%r", "-j", listed])
    if failed:
        raise UserError(f"squeue does not answer ({failed}): the states of the jobs are unknown; try again later")
    return {job: state for job, state in (kept | current).items() if job in ids}


def _ask(command: list[str]) -> tuple[str, dict[str, str]]:
    """What went wrong (or an empty string), and state and reason by job of a table with columns job, state, reason."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=QUERY_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), {}
    if done.returncode:
        return done.stderr.strip() or f"exit code {done.returncode}", {}
    rows = (line.split("|") for line in done.stdout.splitlines())
    return "", {job: " ".join([state.split(" ")[0], *(r for r in why if r != "None")]) for job, state, *why in rows}
