"""An evaluation as a user asks for it: from the settings to its record and the table of its numbers."""

import json
import resource
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from experiments.checkpoints import asked_for
from gat.config import Config, MeasureConfig
from gat.data.workers import told_plainly
from gat.errors import UserError, first_line
from gat.evaluation.assess import Assessment, check_measures
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import NAMED, Protocol
from gat.evaluation.reference import open_reference
from gat.evaluation.subject import open_data, open_subject
from gat.files import told, write_json
from gat.platform import choose_device, full_precision, git_state, hardware, keep_freed_memory, versions
from gat.pretrained import Pretrained
from gat.processes import Processes, joined

FOLDER = "evaluations"
REMEDY = "start the same command again (what is made is kept), or set another out"


def evaluate(settings: DictConfig, overrides: list[str]) -> dict[str, Any] | None:
    """Carry out the evaluation; its record in the main process, None in the others. ``overrides``: what was typed.

    What has been measured is not measured again: numbers of the same checkpoint, protocol and seed stand in one record.
    Raises :class:`gat.errors.UserError` for every mistake in checkpoint, protocol or reference.
    """
    pretrained, config = asked_for(settings, overrides)
    measure = cast(MeasureConfig, OmegaConf.to_object(settings.measure))
    check_measures(config.evaluation, measure)
    with joined(config.training.device) as processes:
        device = choose_device(config.training.device, processes.local_rank)
        keep_freed_memory()
        folder = Path(settings.out) if settings.out else pretrained.place / FOLDER
        with told(f"evaluation in {folder}", REMEDY), told_plainly(), full_precision():
            folder.mkdir(parents=True, exist_ok=True)
            assessment = prepared_assessment(pretrained, config, measure, folder, device, processes)
            file = folder / name_of(pretrained, assessment.protocol(), config.evaluation.seed)
            known = read_numbers(file)
            processes.wait()  # all have looked before the main process goes on to write
            if not set(assessment.names()) <= known.keys():
                began = time.perf_counter()

                def keep(numbers: list[Number]) -> None:
                    record = record_of(pretrained, config, measure, device, processes.count)
                    record |= cost(time.perf_counter() - began, device)
                    record["numbers"] = known | {number.name: number.as_record() for number in numbers}
                    write_json(file, record)

                assessment.numbers(keep)
        return json.loads(file.read_text()) | {"file": str(file)} if processes.is_main else None


def prepared_assessment(
    pretrained: Pretrained,
    config: Config,
    measure: MeasureConfig,
    folder: Path,
    device: torch.device,
    processes: Processes,
) -> Assessment:
    """The generator with what decodes it and what it is compared with."""
    with processes.main_first():
        data = open_data(pretrained, config)
        subject = open_subject(pretrained, config, data, device)
        needed = (config.evaluation.extractor, config.evaluation.batch_size, device, config.loader.workers)
        reference = open_reference(data, config.evaluation.reference, *needed)
    return Assessment(subject, reference, config.evaluation, measure, pretrained.facts, folder, device, processes)


def read_numbers(file: Path) -> dict[str, Any]:
    """Those of a record, by name; none if there is no record. :class:`gat.errors.UserError` if it cannot be read."""
    try:
        numbers: dict[str, Any] = json.loads(file.read_text())["numbers"] if file.is_file() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is no record of an evaluation ({first_line(error)}): remove it") from error
    return numbers


def record_of(
    pretrained: Pretrained, config: Config, measure: MeasureConfig, device: torch.device, processes: int
) -> dict[str, Any]:
    """What is kept of an evaluation."""
    return {
        "checkpoint": pretrained.facts,
        "generator": asdict(pretrained.generator.dims),
        "evaluation": asdict(config.evaluation),
        "measure": asdict(measure),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "hardware": hardware() | {"device": str(device), "processes": processes},
        "versions": versions(),
    }


def cost(seconds: float, device: torch.device) -> dict[str, Any]:
    """Time and peak memory of the evaluation, of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    on_gpu = {"peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if device.type == "cuda" else {}
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)} | on_gpu


def name_of(pretrained: Pretrained, protocol: Protocol, seed: int) -> str:
    """Name of the record: checkpoint with a digest, protocol with its id, seed of the samples."""
    checkpoint = f"{pretrained.source.stem}@{pretrained.facts['sha256'][:8]}"
    return f"{checkpoint}-{protocol.name}-{protocol.id}-seed{seed}.json"


def table(record: dict[str, Any]) -> str:
    """The numbers with their intervals, the protocol, and where the record lies."""
    numbers = record["numbers"]
    first = next(iter(numbers.values()))["protocol"]
    rows = [
        {"number": name, "value": f"{n['value']:.5g}", "95% interval": "{:.5g} to {:.5g}".format(*n["interval"])}
        | {"compared with": n["protocol"]["reference"]}
        for name, n in numbers.items()
    ]
    shown = ("samples", "decoder", "truncation", "to_uint8", "covariance", "labels", "reference", "image_px")
    known = f"the authors' {first['name']!r}" if first["name"] in ("training", "paper") else repr(first["name"])
    rules = ", ".join(f"{key} {first[key]}" for key in shown)
    return "\n".join(
        [
            pd.DataFrame(rows).to_string(index=False, justify="left"),
            f"protocol {known if first['name'] in NAMED.values() else 'of its own'} ({first['id']}): {rules}",
            f"{record['seconds']} s, at most {record['peak_gib']} GiB in a process",
            f"record {record['file']}",
        ]
    )
