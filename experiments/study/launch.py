"""From the points of a sweep to submitted jobs. What is done or under way is left alone."""

import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from experiments.settings import Surroundings, run_config, surroundings
from experiments.study import local, slurm
from experiments.study.claims import check_claims
from experiments.study.estimate import preview
from experiments.study.jobs import RunJob, read_config
from experiments.study.plan import Compose, Planned, flat, plan
from experiments.study.points import SEED, expand
from experiments.study.states import ENDED, UNDER_WAY, RunState, run_states
from experiments.study.submission import (
    SWEEPS_FOLDER,
    Entry,
    Submission,
    last_jobs,
    new_submission,
    read_submissions,
)
from experiments.study.table import wait_for
from gat.errors import UserError, require_choice
from gat.files import one_at_a_time, replacing, told
from gat.numerics import NUMERICS
from gat.platform import git_state
from gat.processes import Processes
from gat.training.run_folder import RunFolder
from gat.training.run_identity import earlier_run, effective, evaluation_id, has_effect, identity


def launch(
    master: DictConfig, points: Sequence[Sequence[str]], compose: Compose, parameters: dict[str, Any]
) -> Submission | None:
    """Submit the runs of ``points`` that are neither done nor under way, and return at once (or wait, if asked to).

    ``parameters``: hydra-submitit-launcher's. Returns the submission, None after a dry run. Raises :class:`UserError` for
    mistakes in any of them, before anything is submitted.
    """
    settings = surroundings(master)
    place = launcher_of(settings.launch.to)
    shape = slurm.resources(settings.study, settings.cluster) if place == "slurm" else {}
    check_claims(settings.sweep, {run[-1].partition("=")[2].strip("'") for run in expand(master.sweep, {})})
    planned = plan(points, compose)
    for run in planned:
        Processes(count=settings.study.processes).rows(run.config.training.batch_size)  # tells if they do not divide it
    runs = Path(planned[0].config.paths.runs)
    if settings.launch.dry_run:
        print(preview(planned, run_config(compose([])), settings))
        return None
    if place == "local":
        local.check_room(settings.study, settings.launch.local_jobs)
    with (
        told(f"runs folder {runs}", "submit the sweep again"),
        one_at_a_time(runs / SWEEPS_FOLDER / ".lock", "submitting"),
    ):
        submission, states = _freeze(master, planned, runs, settings, place)
        submission = _submit(submission, settings, parameters, shape)
    report(submission, states, planned)
    if settings.launch.wait and wait_for(submission):
        sys.exit(1)
    return submission


def launcher_of(choice: str) -> str:
    """``slurm`` or ``local``; :class:`UserError` for SLURM where there is none."""
    require_choice("launch.to", choice, ("auto", "slurm", "local"))
    if choice == "slurm" and not slurm.is_here():
        raise UserError(
            "launch.to=slurm, but this machine has no sbatch: use launch.to=local, or log in to the cluster"
        )
    return ("slurm" if slurm.is_here() else "local") if choice == "auto" else choice


def _freeze(
    master: DictConfig, planned: list[Planned], runs: Path, settings: Surroundings, place: str
) -> tuple[Submission, list[RunState]]:
    """Write the configurations; the states from before say which runs need a job."""
    entries = [entry_of(index, run) for index, run in enumerate(planned)]
    known = run_states(entries, read_submissions(runs))
    states = [known[entry.goal] for entry in entries]
    sweep = cast(dict[str, Any], OmegaConf.to_container(master.sweep, resolve=True))
    submission = new_submission(
        runs,
        settings.study.name,
        settings.sweep.name,
        launcher=place,
        command=sys.argv,
        git=git_state(),
        numerics=NUMERICS,
        base=base_of(master),
        claim=sweep["claim"],
        diagnostic_claims=sweep["diagnostic_claims"],
        diagnostics=asdict(settings.study.diagnostics) if settings.study.diagnostics else None,
        entries=[
            replace(e, submitted=s.kind not in (*ENDED, *UNDER_WAY)) for e, s in zip(entries, states, strict=True)
        ],
    )
    (submission.folder / "configs").mkdir(parents=True)
    for entry, run in zip(entries, planned, strict=True):
        with replacing(submission.config_file(entry.index)) as stream:
            stream.write(OmegaConf.to_yaml(OmegaConf.structured(run.config)).encode())
    return submission, states


def entry_of(index: int, run: Planned) -> Entry:
    """The run as a submission lists it, without a job."""
    training = run.config.training
    return Entry(
        index=index,
        arm=run.arm,
        seed=training.seed,
        overrides=run.overrides,
        identity=identity(run.config),
        run_folder=str(run.folder),
        total_steps=training.total_steps,
        batch_size=training.batch_size,
        evaluation=evaluation_id(run.config),
        submitted=False,
        job=None,
    )


def base_of(master: DictConfig) -> str:
    """Return a hash of a sweep's settings less arm, point and seed: submissions with the same one belong together.

    The version of the numerics and the sweep's own overrides count, as the study makes them, but for those that change no
    result; where the command line narrows its grid they are the same sweep.
    """
    sweep = OmegaConf.to_container(master.sweep, resolve=True)
    assert isinstance(sweep, dict)
    config = run_config(master)
    settings = flat(effective(config)) | {"model.discriminator_size": config.model.discriminator_size}
    shared = {key: value for key, value in settings.items() if key not in (*sweep["grid"], SEED)}
    claim, logged = sweep["claim"], "training.log_steps"
    counted = (logged,) if claim and claim["at"] == "steps" else ()  # what the claim is about is what was logged
    shared |= dict.fromkeys(counted, config.training.log_steps)

    def effective_of(overrides: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in overrides.items() if has_effect(name) or name in counted}

    own = {key: effective_of(sweep[key]) for key in ("common", "grid")}
    own |= {"arms": {name: effective_of(overrides) for name, overrides in sweep["arms"].items()}}
    return hashlib.sha256(json.dumps([NUMERICS, shared, own], sort_keys=True).encode()).hexdigest()[:12]


def _submit(
    submission: Submission, settings: Surroundings, parameters: dict[str, Any], shape: dict[str, Any]
) -> Submission:
    """Submit the jobs, and write the submission; if they are refused, nothing of it remains."""
    indices = [entry.index for entry in submission.entries if entry.submitted]
    if submission.launcher == "slurm" and indices:
        jobs = [RunJob(submission.config_file(i), submission.error_file(i), submission.numerics) for i in indices]
        try:
            ids = slurm.submit(jobs, submission.logs, parameters, shape)
        except BaseException:
            shutil.rmtree(submission.folder)
            raise
        submission = submission.with_jobs(dict(zip(indices, ids, strict=True)))
    submission.write()
    if submission.launcher == "local" and indices:
        local.start_queue(submission, settings.study, settings.launch.local_jobs)
    return submission


def report(submission: Submission, before: list[RunState], planned: list[Planned]) -> None:
    """Print what was submitted and what was not, and how to follow it."""
    submitted = [entry for entry in submission.entries if entry.submitted]
    print(
        f"sweep {submission.sweep}, study {submission.study}: {len(submission.entries)} runs, {len(submitted)} submitted"
    )
    jobs = last_jobs(read_submissions(submission.folder.parents[3]))
    for entry, state, run in zip(submission.entries, before, planned, strict=True):
        last = jobs.get(entry.run_folder)
        short = [] if has_kept(run, state, last) else ["without all the checkpoints to keep"]
        if state.kind in UNDER_WAY and last is not None and last[1].goal != entry.goal:
            short.append("for another length or evaluation: submit again once it has ended")
        left = f"left alone: {state.kind}" + (f" ({', '.join(short)})" if short else "")
        what = f"job {entry.job}" if entry.job else "queued here" if entry.submitted else left
        print(f"  {entry.arm}, seed {entry.seed}: {what}  {entry.run_folder}")
        if entry.submitted and (older := earlier_run(Path(entry.run_folder), run.config)):
            print(f"    {older}")
    print(f"submission  {submission.folder}")
    runs = submission.folder.parents[3]
    chosen = shlex.join([f"sweep={submission.sweep}", f"study={submission.study}", f"runs={runs}"])
    print(f"progress    python experiments/status.py {chosen}")
    print(f"results     python experiments/collect.py {chosen}")


def has_kept(run: Planned, state: RunState, last: tuple[Submission, Entry] | None) -> bool:
    """Whether a run has, or will have, every checkpoint that its configuration asks to keep now.

    Another sweep may have asked for the run without them. ``last``: the submission that made the run's last job.
    """
    training = run.config.training
    if state.kind not in ("finished", *UNDER_WAY) or not training.keep_checkpoints:
        return True
    keep = training.keep_steps or training.total_steps
    if state.kind in UNDER_WAY and last is not None:
        own = read_config(last[0].config_file(last[1].index)).training
        return own.keep_checkpoints and keep % (own.keep_steps or training.total_steps) == 0
    wanted = {*range(keep, training.total_steps + 1, keep), training.total_steps}
    return all(RunFolder(run.config).checkpoint_file(step).exists() for step in wanted)
