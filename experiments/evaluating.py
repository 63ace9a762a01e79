"""An evaluation as a user asks for it: from the settings to its record and the table of its numbers."""

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
from gat.errors import UserError
from gat.evaluation.evaluator import Evaluator, check_measures
from gat.evaluation.features import FOLDER as FEATURES
from gat.evaluation.kinds import CLASSIFIER
from gat.evaluation.protocol import GIVEN, NAMED
from gat.evaluation.reference import open_reference
from gat.evaluation.samples import GeneratedSamples, GivenSamples, Samples
from gat.evaluation.subject import open_data, open_images, open_subject
from gat.files import json_object, one_at_a_time, reading, told, write_json
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
            measured(subject, evaluator, file)
        return read_evaluation(file) | {"file": str(file)} if processes.is_main else None


def measured(subject: Subjects, evaluator: Evaluator, file: Path) -> None:
    """Measure the numbers that the record ``file`` lacks, and add them; processes of other commands share the sampling."""
    wanted, began = set(evaluator.names(labelled=subject.samples.labels is not None)), time.perf_counter()
    if evaluator.processes.as_main(wanted <= known_numbers(file, evaluator.measure).keys()):
        return
    made = evaluator.sample(subject.samples, file.parent)
    if not evaluator.processes.is_main:
        return
    with one_at_a_time(
        file.with_name(f".{file.name}.lock"), "measuring the same samples"
    ):  # another command may have added numbers meanwhile
        numbers = known_numbers(file, evaluator.measure)
        if not wanted <= numbers.keys():
            numbers |= {number.name: number.as_record() for number in evaluator.measured(made)}
            record = record_of(subject, evaluator) | cost(time.perf_counter() - began, evaluator.device)
            write_json(file, record | {"numbers": numbers})
        made.clear()


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


def read_evaluation(file: Path) -> dict[str, Any]:
    """Return the record of an evaluation; raise :class:`gat.errors.UserError` if the file is something else."""
    with reading(file, "the record of an evaluation", "remove it, and measure again"):
        record = json_object(file)
        for number in record["numbers"].values():
            number["kind"], number["protocol"]["id"]
        {} | record.get("measure", {})
    return record


def known_numbers(file: Path, measure: MeasureConfig) -> dict[str, Any]:
    """Return the numbers of a record by name; none if there is no record.

    Raises :class:`gat.errors.UserError` if it cannot be read, or was compared with another number of real images.
    """
    record = read_evaluation(file) if file.is_file() else {"numbers": {}}
    known: dict[str, Any] = record["numbers"]
    compared = [name for name, number in known.items() if number["kind"] in OF_REAL_IMAGES]
    theirs = record.get("measure", {}).get("reference_images")
    if compared and theirs != measure.reference_images:
        raise UserError(
            f"measure.reference_images={measure.reference_images}: {file} holds {', '.join(compared)} for {theirs}: "
            "set that, or another out"
        )
    return known


def record_of(subject: Subjects, evaluator: Evaluator) -> dict[str, Any]:
    """Return the record of an evaluation, without its numbers."""
    return subject.facts | {
        "evaluation": asdict(evaluator.config),
        "measure": asdict(evaluator.measure),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "hardware": hardware() | {"device": str(evaluator.device), "processes": evaluator.processes.count},
        "versions": versions(),
    }


def cost(seconds: float, device: torch.device) -> dict[str, Any]:
    """Time and peak memory of the evaluation, of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    on_gpu = {"peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if device.type == "cuda" else {}
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)} | on_gpu


def table(record: dict[str, Any]) -> str:
    """Return a table of the numbers with intervals, the protocol, the record's file, and leftovers of other evaluations."""
    with reading(Path(record["file"]), "the record of an evaluation", "remove it, and measure again"):
        return _table(record)


def _table(record: dict[str, Any]) -> str:
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
    left = sorted(Path(record["file"]).parent.glob(f"{FEATURES}*"))
    return "\n".join(
        [
            pd.DataFrame(rows).to_string(index=False, justify="left"),
            f"protocol {known if first['name'] in NAMED.values() else 'of its own'} ({first['id']}): {rules}",
            f"{record['seconds']} s, at most {record['peak_gib']} GiB in a process",
            f"record {record['file']}",
            *(
                f"features of an unfinished evaluation, which continues from them if its command is started again: {one}"
                for one in left
            ),
        ]
    )
