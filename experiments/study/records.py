"""Tidy rows from the runs of a sweep: one per run and evaluation (or logged step). Column dictionary: results/README.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.study.states import ENDED, RunState, distance_of
from experiments.study.submission import Entry, Submission
from gat.models.discriminator import DiscriminatorDims
from gat.models.flops import iteration_flops
from gat.models.generator import GeneratorDims
from gat.training.run_folder import read_metrics, read_record

SETTINGS = {
    "size": "model.size",
    "discriminator_size": "model.discriminator_size",
    "patch": "model.patch",
    "batch_size": "training.batch_size",
    "total_steps": "training.total_steps",
    "lr_multiple": "optim.lr_multiple",
    "lr_width_of": "optim.lr_width_of",
    "mng_schedule": "objective.mng_schedule",
    "mng_nested": "objective.mng_nested",
    "penalty_fraction": "objective.penalty_fraction",
    "consistency_weight": "objective.consistency_weight",
    "logit_centering_weight": "objective.logit_centering_weight",
    "alignment_weight": "objective.alignment_weight",
    "generator_alignment_weight": "objective.generator_alignment_weight",
    "autoencoder_channels": "autoencoder.channels",
    "autoencoder_path": "autoencoder.path",
    "samples": "evaluation.samples",
    "extractor": "evaluation.extractor",
    "truncation": "evaluation.truncation",
    "labels": "evaluation.labels",
}


def rows_of_run(submission: Submission, entry: Entry, state: RunState, at: str) -> list[dict[str, Any]]:
    """Rows of one run; a run that has not ended gives one row with its status and no numbers.

    ``at``: the claim's: ``steps`` asks for every logged step, otherwise for every evaluation. A run without any (it diverged
    before) gives its last logged step.
    """
    folder = Path(entry.run_folder)
    head = {
        "study": submission.study,
        "sweep": submission.sweep,
        "arm": entry.arm,
        "seed": entry.seed,
        "status": state.kind,
        "detail": state.detail,
    }
    tail = {"run": folder.name, "identity": entry.identity, "submission": submission.id}
    record = read_record(folder, entry.identity)
    if record is None or state.kind not in ENDED:
        return [head | tail]
    lines = read_metrics(folder)
    chosen = lines if at == "steps" else [line for line in lines if distance_of(line)] or lines[-1:]
    tail |= facts(record) | {"submitted_commit": submission.git["commit"], "submitted_dirty": submission.git["dirty"]}
    return [head | _measured(line, record) | tail | {"last": line is chosen[-1]} for line in chosen]


def _measured(line: Mapping[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Metrics of one line; the Fréchet distance stands under ``distance``, its full name under ``distance_name``."""
    name = distance_of(dict(line))
    floor = [key for key in line if key.endswith("-reconstruction")]
    metrics = {key: value for key, value in line.items() if key not in (name, *floor)}
    return metrics | {
        "distance": line[name] if name else None,
        "distance_name": name,
        "reconstruction_distance": line[floor[0]] if floor else None,
        "training_gflops": _iteration_gflops(record) * line["step"],
    }


def _iteration_gflops(record: dict[str, Any]) -> float:
    """GFLOPs of one iteration of all processes, G and D (:func:`gat.models.flops.iteration_flops`)."""
    config, model = record["config"], record["model"]
    generator, discriminator = GeneratorDims(**model["generator"]), DiscriminatorDims(**model["discriminator"])
    fraction = config["objective"]["penalty_fraction"]
    return iteration_flops(generator, discriminator, config["training"]["batch_size"], penalty_fraction=fraction) / 1e9


def facts(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says besides metrics: settings, sizes, provenance."""
    model, hardware = record["model"], record["hardware"]
    settings = {column: _at(record["config"], path) for column, path in SETTINGS.items()}
    settings["discriminator_size"] = settings["discriminator_size"] or settings["size"]
    return settings | {
        "generator_width": model["generator"]["width"],
        "discriminator_width": model["discriminator"]["width"],
        "generator_parameters": model["generator_parameters"],
        "discriminator_parameters": model["discriminator_parameters"],
        "generator_gflops": model["generator_gflops"],
        "discriminator_gflops": model["discriminator_gflops"],
        "diverged_step": record["diverged"]["step"] if record["diverged"] else None,
        "seconds": record["seconds_since_start"],
        "ended_at": record["ended_at"],
        "hardware": hardware["gpus"][0] if hardware["device"].startswith("cuda") else hardware["cpu"],
        "processes": hardware["processes"],
        "git_commit": record["git"]["commit"],
        "git_dirty": record["git"]["dirty"],
    }


def _at(values: Mapping[str, Any], path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def current(submissions: Iterable[Submission]) -> tuple[list[tuple[Submission, Entry]], list[Submission]]:
    """Runs of one sweep as its newest submission has them, and the submissions that do not belong to it.

    Those of the same settings less arm and seed (``base``) count together; of the same arm and seed the newest one counts.
    """
    ordered = list(submissions)
    mine = [s for s in ordered if s.base == ordered[-1].base]
    newest = {(entry.arm, entry.seed): (s, entry) for s in mine for entry in s.entries}
    return list(newest.values()), [s for s in ordered if s.base != ordered[-1].base]
