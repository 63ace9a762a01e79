"""What SLURM says of jobs: squeue, and sacct where accounting is on."""

import subprocess
from collections.abc import Collection

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
QUERY_TIMEOUT_S = 60


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
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=QUERY_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), {}
    if done.returncode:
        return done.stderr.strip() or f"exit code {done.returncode}", {}
    rows = (line.split("|") for line in done.stdout.splitlines())
    return "", {job: " ".join([state.split(" ")[0], *(r for r in why if r != "None")]) for job, state, *why in rows}
