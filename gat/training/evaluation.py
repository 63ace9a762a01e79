"""Evaluations of a run: of its averaged generator while it trains, and of its checkpoints under a further protocol."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gat.checkpoint_file import read_checkpoint
from gat.config import Config
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.evaluator import IN_TRAINING, Evaluator
from gat.evaluation.kinds import FRECHET
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import check_rules
from gat.evaluation.reference import open_reference
from gat.evaluation.samples import GeneratedSamples
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.evaluation.subject import Subject, decoder_of
from gat.models import Generator
from gat.platform import full_precision
from gat.pretrained import load_pretrained
from gat.processes import ALONE, Processes
from gat.samples.pictures import save_grid
from gat.training.checkpoint import average_key
from gat.training.results import numbers_of
from gat.training.run_folder import RunFolder

GRID_SEED_OFFSET = 1


class RunEvaluation:
    """The decoder, extractor and reference of a run's evaluations, loaded once."""

    def __init__(
        self,
        config: Config,
        data: PreparedSet,
        device: torch.device,
        processes: Processes = ALONE,
        folder: Path = Path(),
    ) -> None:
        """Load what every evaluation needs; ``folder`` holds features of samples until they are measured."""
        rules = config.evaluation
        check_rules(rules)
        self.rules, self.scale, self.folder = rules, data.manifest.scale, folder
        needed = (rules.extractor, rules.batch_size, device, config.loader.workers)
        with processes.main_first():  # the main process downloads missing files
            decoder, self.decoder_name = decoder_of(data, rules.decoder)
            reference = open_reference(data, rules.reference, *needed)
        self.decoder = decoder.to(device)
        self.evaluator = Evaluator(
            reference=reference,
            config=rules,
            measure=IN_TRAINING,
            image_px=data.manifest.image_px,
            decoder_name=self.decoder_name,
            device=device,
            processes=processes,
            data=data,
            decoder=self.decoder,
        )
        self.evaluator.prepare()

    def numbers(
        self, generator: Generator, run: str, step: int, averages: Mapping[float, Generator] = MappingProxyType({})
    ) -> list[Number]:
        """Return the numbers of ``generator``, as the run of identity ``run`` has it after ``step`` steps.

        ``averages``: further averages of it by decay, of which the Fréchet distances follow. In several processes each makes
        its share of the samples; the main one gets the numbers, the others [].
        """
        found = self._measured(generator, {"run": run, "step": step})
        for decay, average in averages.items():
            theirs = self._measured(average, {"run": run, "step": step, "ema_decay": decay})
            found += [replace(number, ema_decay=decay) for number in theirs if number.kind == FRECHET]
        return found

    def _measured(self, generator: Generator, facts: dict[str, Any]) -> list[Number]:
        subject = Subject(generator, self.decoder, self.decoder_name, self.scale, [])
        return self.evaluator.evaluate(GeneratedSamples(subject, self.rules, facts), self.folder)

    def save_grid(self, generator: Generator, file: Path) -> None:
        """Write a PNG of samples, a row per class."""
        rules = self.rules
        rows = min(rules.grid_classes, generator.dims.num_classes)
        labels = torch.arange(rows).repeat_interleave(rules.grid_columns)
        z, _ = draw_inputs(len(labels), generator.dims, rules.seed + GRID_SEED_OFFSET, "balanced")
        with full_precision():
            batches = sample_images(
                generator,
                self.decoder,
                self.scale,
                z,
                labels,
                truncation=rules.truncation,
                conversion=rules.to_uint8,
                batch_size=rules.batch_size,
            )
            save_grid(torch.cat([batch.cpu() for batch in batches]), file, rules.grid_columns)


def add_evaluations(config: Config, folder: RunFolder, device: torch.device, processes: Processes) -> None:
    """Evaluate an ended run's kept checkpoints by ``config.evaluation``, where missing, and store the numbers.

    Raises :class:`UserError` if there is no checkpoint of the run's end.
    """
    steps, end = folder.unevaluated(), config.training.total_steps
    measured = any(line["step"] == end and numbers_of(line, folder.evaluation) for line in folder.read_metrics())
    if end not in steps and not measured:
        raise UserError(
            f"run folder {folder.path}: the run ended at step {end} without this evaluation, and the checkpoint of that "
            "step is not kept: set another paths.run to train it again, or use the evaluation settings in "
            f"{folder.config_file}"
        )
    with processes.main_first():
        data = prepare(config.data, config.autoencoder, Path(config.paths.prepared), device, config.loader.workers)
    evaluation = RunEvaluation(config, data, device, processes, folder.path)
    for step in steps:
        file = folder.checkpoint_file(step)
        generator = _averaged(file).to(device)
        averages = {decay: _average(file, decay, generator) for decay in config.optim.also_ema_decays}
        numbers = evaluation.numbers(generator, folder.identity, step, averages)
        if processes.is_main:
            folder.add_numbers(step, numbers)
            print(f"step {step}: " + ", ".join(f"{number.name} {number}" for number in numbers))  # noqa: T201


def _averaged(file: Path) -> Generator:
    """Return the averaged generator of a run's own checkpoint."""
    try:
        return load_pretrained(str(file)).generator
    except UserError as error:
        told = str(error).rpartition(": ")[0]  # its remedy is for files from elsewhere
        raise UserError(f"{told}: set another paths.run to train the run again") from error


def _average(file: Path, decay: float, like: Generator) -> Generator:
    """Return a further average of the generator in a run's own checkpoint."""
    average = copy.deepcopy(like)
    average.load_state_dict(read_checkpoint(file, f"{average_key(decay)}.")[1])
    return average
