"""An evaluation as a user asks for it: from the settings to its record and the table of its numbers."""

import json
import resource
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import AutoencoderKL
from omegaconf import DictConfig

from experiments.checkpoints import asked_for
from experiments.settings import group, run_config
from gat.config import Config, MeasureConfig
from gat.data.prepared import PreparedSet
from gat.data.workers import told_plainly
from gat.errors import UserError, first_line
from gat.evaluation.evaluator import Evaluator, check_measures
from gat.evaluation.kinds import CLASSIFIER
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import GIVEN, NAMED
from gat.evaluation.reference import open_reference
from gat.evaluation.samples import GeneratedSamples, GivenSamples, Samples
from gat.evaluation.subject import open_data, open_images, open_subject
from gat.files import told, write_json
from gat.platform import choose_device, full_precision, git_state, hardware, keep_freed_memory, versions
from gat.pretrained import Pretrained
from gat.processes import Processes, joined
from gat.training.check import check_classes

FOLDER = "evaluations"
OF_REAL_IMAGES = ("kid", "precision", "recall")  # kinds that are compared with measure.reference_images of them
REMEDY = "start the same command again (what is made is kept), or set another out"


@dataclass(frozen=True)
class Subjects:
    """Images to measure (``samples``): ``stem`` and digest name their records, ``facts`` describe them."""

    samples: Samples
    stem: str
    sha256: str
    facts: dict[str, Any]
    place: Path
    """Folder beside which records go, unless ``out`` is given."""
    decoder: AutoencoderKL | None = None
    decoder_name: str = GIVEN
    data: PreparedSet | None = None


def evaluate(settings: DictConfig, overrides: list[str]) -> dict[str, Any] | None:
    """Carry out the evaluation; its record in the main process, None in the others. ``overrides``: what was typed.

    What has been measured is not measured again: numbers of the same checkpoint, protocol and seed stand in one record.
    Raises :class:`gat.errors.UserError` for every mistake in checkpoint, images, protocol or reference.
    """
    if settings.samples is not None and (settings.checkpoint or settings.run):
        raise UserError(
            f"samples={settings.samples} and {settings.checkpoint or settings.run} are both given: leave one out"
        )
    pretrained, config = (None, run_config(settings)) if settings.samples else asked_for(settings, overrides)
    measure: MeasureConfig = group(settings, "measure")
    check_measures(config.evaluation, measure)
    with joined(config) as processes:
        device = choose_device(config.training.device, processes.local_rank)
        keep_freed_memory()
        given = Path(settings.samples or ".")
        where = f"evaluation in {settings.out or (pretrained.place if pretrained else given.parent) / FOLDER}"
        with told(where, REMEDY), told_plainly(), full_precision():
            with processes.main_first():
                subject = given_images(given, config) if pretrained is None else generated(pretrained, config, device)
            if subject.data is not None and subject.samples.labels is not None:
                check_classes(config.evaluation, subject.data.num_classes)
            folder = Path(settings.out) if settings.out else subject.place / FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            evaluator = evaluator_of(subject, config, measure, device, processes)
            protocol = subject.samples.rules(evaluator.protocol())
            digest = f"{subject.stem}@{subject.sha256[:8]}"
            file = folder / f"{digest}-{protocol.name}-{protocol.id}-seed{config.evaluation.seed}.json"
            known = read_numbers(file)
            require_same_images(known, file, measure)
            processes.wait()  # all have looked before the main process goes on to write
            if not set(evaluator.names(labelled=subject.samples.labels is not None)) <= known.keys():
                began = time.perf_counter()

                def keep(numbers: list[Number]) -> None:
                    record = record_of(subject, config, measure, device, processes.count)
                    record |= cost(time.perf_counter() - began, device)
                    record["numbers"] = known | {number.name: number.as_record() for number in numbers}
                    write_json(file, record)

                evaluator.evaluate(subject.samples, folder, keep)
        return json.loads(file.read_text(encoding="utf-8")) | {"file": str(file)} if processes.is_main else None


def generated(pretrained: Pretrained, config: Config, device: torch.device) -> Subjects:
    """Open a checkpoint's generator, and return its samples as :class:`Subjects`."""
    data = open_data(pretrained, config)
    subject = open_subject(pretrained, config, data, device)
    samples = GeneratedSamples(subject, config.evaluation, pretrained.facts)
    facts = {"checkpoint": pretrained.facts, "generator": asdict(pretrained.generator.dims)}
    named = (pretrained.source.stem, pretrained.facts["sha256"], facts, pretrained.place)
    return Subjects(samples, *named, subject.decoder, subject.decoder_name, data)


def given_images(place: Path, config: Config) -> Subjects:
    """Open images from the user, ADM's ``.npz`` or a folder of PNGs, which are compared without conversion."""
    samples = GivenSamples(place, config.evaluation.samples, config.evaluation.batch_size)
    rules = config.evaluation
    needed = rules.reference is None or CLASSIFIER in (rules.extractor, *rules.also_extractors)
    data = open_images(config) if needed else None
    return Subjects(samples, place.stem, samples.digest, samples.facts(), place.parent, data=data)


def evaluator_of(
    subject: Subjects, config: Config, measure: MeasureConfig, device: torch.device, processes: Processes
) -> Evaluator:
    """Return the evaluator of ``subject``'s images."""
    rules = config.evaluation
    needed = (rules.extractor, rules.batch_size, device, config.loader.workers)
    with processes.main_first():
        reference = open_reference(subject.data, rules.reference, *needed)
    return Evaluator(
        reference=reference,
        config=rules,
        measure=measure,
        image_px=subject.samples.image_px,
        decoder_name=subject.decoder_name,
        device=device,
        processes=processes,
        data=subject.data,
        decoder=subject.decoder,
    )


def read_numbers(file: Path) -> dict[str, Any]:
    """Those of a record, by name; none if there is no record. :class:`gat.errors.UserError` if it cannot be read."""
    try:
        numbers: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["numbers"] if file.is_file() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is no record of an evaluation ({first_line(error)}): remove it") from error
    return numbers


def require_same_images(known: dict[str, Any], file: Path, measure: MeasureConfig) -> None:
    """Raise :class:`gat.errors.UserError` if ``known`` numbers were compared with another number of real images."""
    compared = [name for name, number in known.items() if number["kind"] in OF_REAL_IMAGES]
    if not compared:
        return
    theirs = json.loads(file.read_text(encoding="utf-8")).get("measure", {}).get("reference_images")
    if theirs != measure.reference_images:
        raise UserError(
            f"measure.reference_images={measure.reference_images}: {file} holds {', '.join(compared)} for {theirs}: "
            "set that, or another out"
        )


def record_of(
    subject: Subjects, config: Config, measure: MeasureConfig, device: torch.device, processes: int
) -> dict[str, Any]:
    """Return the record of an evaluation, without its numbers."""
    return subject.facts | {
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


def table(record: dict[str, Any]) -> str:
    """The numbers with their intervals, the protocol, and where the record lies."""
    numbers = record["numbers"]
    first = next(iter(numbers.values()))["protocol"]
    rows = [
        {"number": name, "value": f"{n['value']:.5g}"}
        | {"95% interval": "{:.5g} to {:.5g}".format(*n["interval"]) if "interval" in n else "-"}
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
