"""Tidy rows from the runs of a sweep: one per run and evaluation (or logged step). Column dictionary: results/README.md."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.study.states import ENDED, RunState
from experiments.study.submission import Entry, Submission
from gat.evaluation.kinds import FRECHET, RECONSTRUCTION
from gat.files import reading
from gat.models.discriminator import DiscriminatorDims
from gat.models.flops import iteration_flops
from gat.models.generator import GeneratorDims
from gat.training.results import RECORD, diverged_by, number_of_kind, numbers_of, numerics_of, read_metrics, read_record

SETTINGS = {
    "size": "model.size",
    "discriminator_size": "model.discriminator_size",
    "patch": "model.patch",
    "batch_size": "training.batch_size",
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
}
OF_PROTOCOL = ("samples", "extractor", "truncation", "labels", "decoder", "to_uint8", "covariance")


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
    with reading(folder / RECORD, "a whole record of a run", "restore it from a copy, or train the run again"):
        return _rows(submission, entry, record, at, head, tail)


def _rows(
    submission: Submission, entry: Entry, record: dict[str, Any], at: str, head: dict[str, Any], tail: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of an ended run; ``head`` and ``tail`` are the first and last columns of each."""
    lines = [line for line in read_metrics(Path(entry.run_folder)) if line["step"] <= entry.total_steps]
    measured = [line for line in lines if number_of_kind(line, FRECHET, entry.evaluation)]
    chosen = lines if at == "steps" else measured or lines[-1:]
    tail |= facts(record, entry.total_steps) | {
        "submitted_commit": submission.git["commit"],
        "submitted_dirty": submission.git["dirty"],
    }
    if not chosen:
        return [head | tail]
    measured_of = functools.partial(_measured, evaluation=entry.evaluation, record=record)
    return [head | measured_of(line) | tail | {"end": line["step"] == entry.total_steps} for line in chosen]


def _measured(line: Mapping[str, Any], evaluation: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of one line; a Fréchet distance stands under ``distance``, its name under ``distance_name``."""
    distance, floor = (number_of_kind(line, kind, evaluation) for kind in (FRECHET, RECONSTRUCTION))
    metrics = {key: value for key, value in line.items() if key != "evaluations"}
    others = {
        name: number["value"]
        for name, number in numbers_of(line, evaluation).items()
        if number["kind"] != RECONSTRUCTION and (distance is None or name != distance[0])
    }
    return (metrics | others) | {
        "distance": distance[1]["value"] if distance else None,
        "distance_low": distance[1].get("interval", (None, None))[0] if distance else None,
        "distance_high": distance[1].get("interval", (None, None))[1] if distance else None,
        "distance_name": distance[0] if distance else None,
        "protocol": distance[1]["protocol"] if distance else None,
        "reconstruction_distance": floor[1]["value"] if floor else None,
        **(_rules(record, distance[1]["protocol"]) if distance else dict.fromkeys(OF_PROTOCOL)),
        "training_gflops": _iteration_gflops(record) * line["step"],
    }


def _rules(record: dict[str, Any], used: str) -> dict[str, Any]:
    """Return the rules of the protocol of id ``used``; the extractor without the digest of its weights."""
    protocol = record["protocols"][used]
    return {name: protocol[name] for name in OF_PROTOCOL} | {"extractor": protocol["extractor"].partition("@")[0]}


def records_of(runs: Sequence[tuple[Submission, Entry]]) -> dict[str, dict[str, Any]]:
    """Records of ended runs by name, less where things lay on the machine that made them."""
    found: dict[str, dict[str, Any]] = {}
    for _, entry in runs:
        folder = Path(entry.run_folder)
        if record := read_record(folder, entry.identity):
            config = {key: value for key, value in record["config"].items() if key != "paths"}
            kept = {key: value for key, value in record.items() if key != "checkpoint"}
            found[folder.name] = kept | {"run_folder": folder.name, "config": config}
    return found


def protocols_of(runs: Sequence[tuple[Submission, Entry]]) -> dict[str, dict[str, Any]]:
    """The protocols of all distances of ended runs, by id."""
    found: dict[str, dict[str, Any]] = {}
    for _, entry in runs:
        folder = Path(entry.run_folder)
        record = read_record(folder, entry.identity)
        for line in read_metrics(folder) if record else []:
            if distance := number_of_kind(line, FRECHET, entry.evaluation):
                used = distance[1]["protocol"]
                found[used] = (record or {})["protocols"][used]
    return found


def _iteration_gflops(record: dict[str, Any]) -> float:
    """GFLOPs of one iteration of all processes, G and D (:func:`gat.models.flops.iteration_flops`)."""
    config, model = record["config"], record["model"]
    generator, discriminator = GeneratorDims(**model["generator"]), DiscriminatorDims(**model["discriminator"])
    fraction = config["objective"]["penalty_fraction"]
    return iteration_flops(generator, discriminator, config["training"]["batch_size"], penalty_fraction=fraction) / 1e9


def facts(record: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return what a record says besides metrics of the run's first ``steps``: settings, sizes, provenance."""
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
        "total_steps": steps,
        "diverged_step": record["diverged"]["step"] if diverged_by(record, steps) else None,
        "seconds": record["seconds_since_start"],
        "ended_at": record["ended_at"],
        "numerics": numerics_of(record),
        "hardware": hardware["gpus"][0] if hardware["device"].startswith("cuda") else hardware["cpu"],
        "processes": hardware["processes"],
        "git_commit": record["git"]["commit"],
        "git_dirty": record["git"]["dirty"],
    }


def _at(values: Mapping[str, Any], path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def split(submissions: Sequence[Submission], like: Submission) -> tuple[list[Submission], list[Submission]]:
    """The submissions of one sweep with the settings (less arm and seed) of ``like``, and the others."""
    mine = [s for s in submissions if s.base == like.base]
    return mine, [s for s in submissions if s.base != like.base]


def newest_runs(submissions: Sequence[Submission]) -> list[tuple[Submission, Entry]]:
    """Of each arm and seed the newest run. ``submissions``: oldest first, of the same settings."""
    return list({(entry.arm, entry.seed): (s, entry) for s in submissions for entry in s.entries}.values())
