"""What a sweep would cost, before anything is submitted: FLOPs of training, and device-hours at a stated rate."""

import math
import shlex
from dataclasses import asdict
from typing import Any

import pandas as pd

from experiments.settings import ClaimConfig, StudyConfig, Surroundings
from experiments.study.claims import COMPARISONS
from experiments.study.plan import Planned, flat
from experiments.study.points import ARM, SEED
from experiments.study.power import FEWEST_SEEDS, POWER, detectable, level_at, looks_of
from experiments.study.rates import rate_of
from gat.config import Config
from gat.models.flops import iteration_flops
from gat.models.sizes import discriminator_dims, generator_dims, resized
from gat.training.run_folder import RunFolder

SECONDS_PER_HOUR = 3600
UNCOMPARED = ("paths",)


def training_flops(config: Config, study: StudyConfig) -> float | None:
    """FLOPs of a whole run; None if the study does not say how large its latents are.

    Counted: matrix products of G and D. Not counted: teacher, autoencoder, evaluation, preparation.
    """
    if study.latent_side is None or study.num_classes is None or study.teacher_width is None:
        return None
    model, objective = config.model, config.objective
    shared = {
        "patch": model.patch,
        "num_classes": study.num_classes,
        "latent_side": study.latent_side,
        "channels": config.autoencoder.latent_channels,
        "num_stages": 1 if objective.mng_schedule == "none" else model.num_stages,
    }
    aligned = config.teacher.name is not None and objective.alignment_weight > 0
    width = study.teacher_width if objective.generator_alignment_weight else 0
    generator = generator_dims(model.family, model.size, teacher_width=width, **shared)
    discriminator = discriminator_dims(
        model.family, model.discriminator_size or model.size, teacher_width=study.teacher_width * aligned, **shared
    )
    generator, discriminator = resized(generator, model), resized(discriminator, model)
    batch = config.training.batch_size
    fraction = objective.penalty_fraction
    per_step = iteration_flops(generator, discriminator, batch, penalty_fraction=fraction, aligned=aligned)
    return float(per_step) * config.training.total_steps


def preview(planned: list[Planned], default: Config, around: Surroundings) -> str:
    """What a dry run prints: what the seeds can find, every job with its overrides, and its cost."""
    study, cluster = around.study, around.cluster
    rows, sources = [], set()
    for run in planned:
        flops = training_flops(run.config, study)
        rate = rate_of(run.config, study, cluster)
        hours = flops / (rate.tflops * 1e12) / SECONDS_PER_HOUR if flops is not None and rate else None
        if rate is not None:
            sources.add(f"{rate.tflops:.4g} TFLOP/s per device, {rate.source}")
        record = RunFolder(run.config).ended_record()
        rows.append(
            {
                "arm": run.arm,
                "seed": run.config.training.seed,
                "steps": run.config.training.total_steps,
                "batch": run.config.training.batch_size,
                "PFLOP": flops / 1e15 if flops is not None else None,
                "device-hours": hours,
                "state": record["status"] if record else "not run",
                "run": run.folder.name,
            }
        )
    table = pd.DataFrame(rows)
    settings, base = [_settings(run.config) for run in planned], _settings(default)
    shared = {key: value for key, value in settings[0].items() if all(other[key] == value for other in settings)}
    lines = told_power(around.sweep.claim, study)
    lines += [f"settings that differ from the default's ({len(planned)} runs, study {study.name}):"]
    lines += [f"  {key}: {base[key]} -> {value}" for key, value in shared.items() if base[key] != value]
    lines += ["jobs:", table.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4g}")]
    lines += ["their settings beyond those:"]
    lines += dict.fromkeys(_own(run, mine, shared) for run, mine in zip(planned, settings, strict=True))
    total = f"total {table['PFLOP'].sum():.4g} PFLOP" if table["PFLOP"].notna().all() else "total FLOPs unknown"
    at = f"{table['device-hours'].sum():.4g} device-hours at {'; '.join(sorted(sources))}" if sources else ""
    unstated = "no rate stated: set cluster.sustained_tflops for device-hours"
    lines += [f"{total}, {at or unstated} (G and D in training; teacher, autoencoder and evaluation not counted)"]
    return "\n".join([*lines, "dry run: nothing was submitted"])


def planned_power(claim: ClaimConfig | None, study: StudyConfig) -> tuple[tuple[int, ...], float] | None:
    """Return at how many seeds a claim is looked at, and which ratio of distances all of them find with a power of 0.8.

    None for a claim that compares no distances of arms, or where the study states no scatter.
    """
    if claim is None or claim.metric != "frechet" or study.scatter is None or claim.seeds < FEWEST_SEEDS:
        return None
    if not any(test["kind"] in COMPARISONS for test in claim.rule):
        return None
    looks = looks_of(claim.seeds, claim.looks)
    level = level_at(len(looks) - 1, looks, 1 - claim.confidence)
    return looks, math.exp(detectable(study.scatter, claim.seeds, level=level))


def told_power(claim: ClaimConfig | None, study: StudyConfig) -> list[str]:
    """Return what :func:`planned_power` says in lines; none if it says nothing."""
    found = planned_power(claim, study)
    if claim is None or found is None:
        return []
    looks, ratio = found
    lines = [
        f"{looks[-1]} seeds per arm find a ratio of distances of {ratio:.3g} with a power of {POWER:.0%}, if log distances "
        f"scatter by {study.scatter} over seeds (study.scatter; study.effect={study.effect})"
    ]
    if claim.family is not None:
        lines[0] += f"; before Holm's correction within the family {claim.family}"
    if len(looks) > 1:
        first, last = (level_at(look, looks, 1 - claim.confidence) for look in (0, 1))
        seeds = ",".join(map(str, range(looks[0])))
        lines += [
            f"first look: {looks[0]} seeds (decides if p < {first:.2g}); last: {looks[1]} (p < {last:.2g}); for the first "
            f"add training.seed={seeds}"
        ]
    return lines


def _settings(config: Config) -> dict[str, Any]:
    return {key: value for key, value in flat(asdict(config)).items() if not key.startswith(UNCOMPARED)}


def _own(run: Planned, settings: dict[str, Any], shared: dict[str, Any]) -> str:
    """Return the settings, seeds apart, in which an arm differs from others, and the overrides that made it."""
    own = [f"{key}={value}" for key, value in settings.items() if key not in shared and key != SEED]
    typed = [o for o in run.overrides if not o.startswith((ARM, SEED, "launch.", "cluster"))]
    return f"  {run.arm}: {', '.join(own)}  [overrides: {shlex.join(typed)}]"
