"""An evaluation in training: samples -> Fréchet distance to the reference, class accuracy; and the sample grid."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gat.config import EvaluationConfig
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.assess import protocol_of
from gat.evaluation.classifier import ClassRecognizer, chosen_rows
from gat.evaluation.extractors import make_extractor
from gat.evaluation.frechet import feature_statistics, frechet_distance
from gat.evaluation.numbers import Number, number_name
from gat.evaluation.protocol import Protocol, check_rules
from gat.evaluation.reconstruction import reconstruction_number
from gat.evaluation.reference import open_reference
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.evaluation.subject import decoder_of
from gat.models import Generator
from gat.platform import full_precision
from gat.processes import ALONE, Processes
from gat.samples.pictures import save_grid

GRID_SEED_OFFSET = 1


class Evaluator:
    """Holds what every evaluation of a run needs: decoder, extractor, reference statistics, classifier."""

    def __init__(
        self,
        data: PreparedSet,
        config: EvaluationConfig,
        device: torch.device,
        processes: Processes = ALONE,
        workers: int | None = 0,
    ) -> None:
        check_rules(config)
        if config.samples < processes.count:
            raise UserError(f"evaluation.samples={config.samples} is fewer than {processes.count} processes: use more")
        self.data, self.config, self.device, self.processes = data, config, device, processes
        decoder, self.decoder_name = decoder_of(data, config.decoder)
        self.autoencoder = decoder.to(device)
        self.extractor = make_extractor(config.extractor, config.extractor_weights, device)
        self.reference = open_reference(data, config.reference, config.extractor, config.batch_size, device, workers)
        with processes.main_first(), full_precision():
            self.statistics = self.reference.statistics(self.extractor)
            self.floor = [self._floor()] if config.reconstruction else []
        self.recognizer = recognizer(data) if config.classifier else None

    def evaluate(self, generator: Generator) -> list[Number]:
        """The numbers, the same in every process. The Fréchet distance's name says features and number of samples."""
        config = self.config
        z, labels = draw_inputs(config.samples, generator.dims, config.seed, config.labels)
        mine = slice(self.processes.rank, None, self.processes.count)
        kept: list[Tensor] = []

        def images() -> Iterator[Tensor]:
            for batch in self._sample(generator, z[mine], labels[mine]):
                if self.recognizer is not None:
                    kept.append(batch.cpu())
                yield batch

        with full_precision():
            statistics = feature_statistics(images(), self.extractor, self.processes, covariance=config.covariance)
        distance = frechet_distance(statistics, self.statistics)
        protocol = self._protocol(config.samples)
        numbers = [Number(number_name("frechet", config.extractor, config.samples), distance, protocol), *self.floor]
        if self.recognizer is not None:
            right = self.recognizer.accuracy(torch.cat(kept), labels[mine]) * len(labels[mine])
            accuracy = float(self.processes.sum(torch.tensor(right))) / config.samples
            numbers.append(Number("class_accuracy", accuracy, protocol))
            numbers.append(Number("class_accuracy_real_held_out", self.recognizer.held_out_accuracy, protocol))
        return numbers

    def save_grid(self, generator: Generator, file: Path) -> None:
        """Write a PNG of samples, a row per class."""
        rows = min(self.config.grid_classes, generator.dims.num_classes)
        labels = torch.arange(rows).repeat_interleave(self.config.grid_columns)
        z, _ = draw_inputs(len(labels), generator.dims, self.config.seed + GRID_SEED_OFFSET, "balanced")
        images = torch.cat([batch.cpu() for batch in self._sample(generator, z, labels)])
        save_grid(images, file, self.config.grid_columns)

    def _floor(self) -> Number:
        protocol = self._protocol(min(self.config.samples, len(self.data)))
        protocol = replace(protocol, truncation=0.0, labels="of the images")  # nothing is generated
        needed = (self.data, self.autoencoder, self.extractor, self.statistics, self.config)
        return reconstruction_number(*needed, protocol)

    def _protocol(self, samples: int) -> Protocol:
        px = self.data.manifest.image_px
        basis = self.reference.basis(self.extractor)
        return protocol_of(self.config, self.decoder_name, self.extractor, basis, px, samples)

    def _sample(self, generator: Generator, z: Tensor, labels: Tensor) -> Iterator[Tensor]:
        return sample_images(
            generator,
            self.autoencoder,
            self.data.manifest.scale,
            z,
            labels,
            truncation=self.config.truncation,
            conversion=self.config.to_uint8,
            batch_size=self.config.batch_size,
        )


def recognizer(data: PreparedSet) -> ClassRecognizer:
    """Trained on the set's images."""
    rows = chosen_rows(len(data))
    return ClassRecognizer(data.images(rows), data.labels[rows])
