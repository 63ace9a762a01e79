"""SLURM: the submission of a job array by submitit."""

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from experiments.settings import ClusterConfig, StudyConfig
from experiments.study.jobs import Job
from gat.errors import UserError

SPECIFIC = {
    *("partition", "account", "qos", "constraint", "exclude", "signal_delay_s", "array_parallelism", "setup"),
    "additional_parameters",
}


def is_here() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def resources(study: StudyConfig, cluster: ClusterConfig) -> dict[str, Any]:
    """Return the resources of a run: time; a task per process, with a GPU on GPUs; cores per task and memory if stated.

    Raises :class:`UserError` if the processes do not fill their nodes, or for a wrong time limit or ``gpu_option``.
    """
    stated = {
        "timeout_min": minutes(cluster.timeout_min),
        "cpus_per_task": study.cpus_per_process if cluster.cpus_per_task is None else cluster.cpus_per_task,
        "mem_gb": study.mem_gb if cluster.mem_gb is None else cluster.mem_gb,
    }
    shape = {key: value for key, value in stated.items() if value is not None}
    if not study.on_gpu:
        return {"nodes": 1, "tasks_per_node": study.processes} | shape
    if cluster.gpus_per_node < 1:
        raise UserError(f"study {study.name!r} runs on GPUs, but cluster.gpus_per_node={cluster.gpus_per_node}")
    nodes = -(-study.processes // cluster.gpus_per_node)
    if study.processes % nodes:
        raise UserError(
            f"study.processes={study.processes} do not spread evenly over {nodes} nodes of "
            f"cluster.gpus_per_node={cluster.gpus_per_node}: change either"
        )
    per_node = study.processes // nodes
    return {"nodes": nodes, "tasks_per_node": per_node} | gpu_request(cluster.gpu_option, per_node) | shape


def gpu_request(option: str, count: int) -> dict[str, Any]:
    """Return submitit's parameter that asks sbatch for ``count`` GPUs per node, by ``cluster.gpu_option``."""
    form = re.fullmatch(r"none|(gpus-per-node|gres)(?::([\w.-]+))?", option)
    if form is None:
        raise UserError(
            f"cluster.gpu_option={option!r} is unknown: choose gpus-per-node or gres, with a type after a colon if the site "
            "requires one (gres:h100), or none"
        )
    if option == "none":
        return {}
    if option == "gpus-per-node":
        return {"gpus_per_node": count}
    wanted = f"{form[2]}:{count}" if form[2] else str(count)
    return {"slurm_gres": f"gpu:{wanted}"} if form[1] == "gres" else {"slurm_gpus_per_node": wanted}


def minutes(limit: str) -> int:
    """Return a time limit in minutes, rounded up as by SLURM.

    ``limit``: a number of minutes or one of sbatch's formats, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` and
    ``D-HH:MM:SS``. Raises :class:`UserError` for anything else, and for 0: without a limit a job is not requeued in time.
    """
    form = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit.strip())
    given = [int(part) for part in form.groups()[1:] if part is not None] if form else []
    if form and form[1] is not None:  # hours first
        hours, minute, second = [*given, 0, 0][:3]
        total = 60 * (24 * int(form[1]) + hours) + minute + bool(second)
    elif len(given) == 3:
        total = 60 * given[0] + given[1] + bool(given[2])
    else:  # minutes first
        total = sum(given[:1]) + any(given[1:])
    if total < 1:
        raise UserError(
            f"cluster.timeout_min={limit} is no time limit: give minutes, or SLURM's HH:MM:SS, D-HH or D-HH:MM:SS"
        )
    return total


def submit(jobs: Sequence[Job], logs: Path, parameters: dict[str, Any], shape: dict[str, Any]) -> list[str]:
    """Submit ``jobs`` as one array and return their ids. ``parameters``: hydra-submitit-launcher's; ``shape``: resources.

    Raises :class:`UserError` with sbatch's own words if it refuses.
    """
    given = {key: value for key, value in parameters.items() if value not in (None, [], {})}
    executor = submitit.AutoExecutor(logs, cluster="slurm", slurm_max_num_timeout=given.pop("max_num_timeout"))
    own = {f"slurm_{key}": given.pop(key) for key in SPECIFIC & given.keys()}
    if "cpus_per_task" in shape:  # srun does not take it over from sbatch since SLURM 22.05
        own["slurm_srun_args"] = [f"--cpus-per-task={shape['cpus_per_task']}"]
    executor.update_parameters(**given, **shape, **own, stderr_to_stdout=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # sbatch's words are told below
            submitted = [executor.submit(job) for job in jobs]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise UserError(f"sbatch refused the jobs: {refusal(str(error))}: see the cluster config") from error
    return [str(job.job_id) for job in submitted]


def refusal(text: str) -> str:
    """sbatch's own message in what submitit makes of it."""
    lines = re.findall(r"sbatch: (?:error: )?(?:Batch job submission failed: )?(.+)", text)
    return "; ".join(dict.fromkeys(line.strip() for line in lines)) or text.strip().splitlines()[-1]
