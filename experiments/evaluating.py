"""An evaluation as a user asks for it: from the settings to its record and the table of its numbers."""

import resource
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from experiments.checkpoints import asked_for
from gat.config import Config, MeasureConfig
from gat.data.workers import told_plainly
from gat.evaluation.assess import Assessment, check_measures
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import NAMED
from gat.evaluation.reference import open_reference
from gat.evaluation.subject import open_data, open_subject
from gat.files import told, write_json
from gat.platform import choose_device, git_state, hardware, keep_freed_memory, versions
from gat.pretrained import Pretrained
from gat.processes import joined

FOLDER = "evaluations"
REMEDY = "start the same command again (what is made is kept), or set another out"


def evaluate(settings: DictConfig, overrides: list[str]) -> dict[str, Any] | None:
    """Carry out the evaluation; its record in the main process, None in the others. ``overrides``: what was typed.

    Raises :class:`gat.errors.UserError` for every mistake in checkpoint, protocol or reference.
    """
    pretrained, config = asked_for(settings, overrides)
    measure: MeasureConfig = OmegaConf.to_object(settings.measure)  # type: ignore[assignment]
    check_measures(config.evaluation, measure)
    with joined(config.training.device) as processes:
        device = choose_device(config.training.device, processes.local_rank)
        keep_freed_memory()
        folder = Path(settings.out) if settings.out else (pretrained.home or Path()) / FOLDER
        began = time.perf_counter()
        with told(f"evaluation in {folder}", REMEDY), told_plainly():
            with processes.main_first():
                data = open_data(pretrained, config, device)
                subject = open_subject(pretrained, config, data, device)
                needed = (config.evaluation.extractor, config.evaluation.batch_size, device, config.loader.workers)
                reference = open_reference(data, config.evaluation.reference, *needed)
            folder.mkdir(parents=True, exist_ok=True)
            facts = pretrained.facts
            numbers = Assessment(
                subject, reference, config.evaluation, measure, facts, folder, device, processes
            ).numbers()
            if not processes.is_main:
                return None
            record = record_of(pretrained, config, measure, numbers, device, processes.count)
            record |= cost(time.perf_counter() - began, device)
            file = folder / f"{name_of(pretrained, numbers)}.json"
            write_json(file, record)
            return record | {"file": str(file)}


def record_of(
    pretrained: Pretrained,
    config: Config,
    measure: MeasureConfig,
    numbers: list[Number],
    device: torch.device,
    processes: int,
) -> dict[str, Any]:
    """What is kept of an evaluation."""
    return {
        "checkpoint": pretrained.facts,
        "generator": asdict(pretrained.generator.dims),
        "numbers": {number.name: number.as_record() for number in numbers},
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


def name_of(pretrained: Pretrained, numbers: list[Number]) -> str:
    """Name of the record: checkpoint, protocol, its id. Another protocol or checkpoint is another file."""
    protocol = numbers[0].protocol
    return f"{pretrained.source.stem}-{protocol.name}-{protocol.id}"


def table(record: dict[str, Any]) -> str:
    """The numbers with their intervals, the protocol, and where the record lies."""
    numbers = record["numbers"]
    first = next(iter(numbers.values()))["protocol"]
    rows = [
        {"number": name, "value": f"{n['value']:.5g}", "95% interval": "{:.5g} to {:.5g}".format(*n["interval"])}
        | ({"of": n["note"]} if "note" in n else {})
        for name, n in numbers.items()
    ]
    shown = ("samples", "decoder", "truncation", "to_uint8", "covariance", "labels", "reference", "image_px")
    known = f"the authors' {first['name']!r}" if first["name"] in ("training", "paper") else repr(first["name"])
    rules = ", ".join(f"{key} {first[key]}" for key in shown)
    return "\n".join(
        [
            pd.DataFrame(rows).fillna("").to_string(index=False, justify="left"),
            f"protocol {known if first['name'] in NAMED.values() else 'of its own'} ({first['id']}): {rules}",
            f"{record['seconds']} s, at most {record['peak_gib']} GiB in a process",
            f"record {record['file']}",
        ]
    )
