"""One evaluation of a generator: samples -> Fréchet distance to the reference, class accuracy; and the sample grid."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from gat.config import EvaluationConfig
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.classifier import ClassRecognizer, chosen_rows
from gat.evaluation.extractors import distance_name, make_extractor
from gat.evaluation.frechet import feature_statistics, frechet_distance
from gat.evaluation.reconstruction import reconstruction_metric
from gat.evaluation.reference import reference_statistics
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.models import Generator
from gat.processes import ALONE, Processes

GRID_SEED_OFFSET = 1


class Evaluator:
    """Holds what every evaluation of a run needs: autoencoder, extractor, reference statistics, classifier."""

    def __init__(
        self,
        data: PreparedSet,
        config: EvaluationConfig,
        device: torch.device,
        processes: Processes = ALONE,
        workers: int | None = 0,
    ) -> None:
        if config.samples < processes.count:
            raise UserError(f"evaluation.samples={config.samples} is fewer than {processes.count} processes: use more")
        if not 0 <= config.truncation <= 1:
            raise UserError(f"evaluation.truncation={config.truncation} must lie between 0 (off) and 1")
        self.data, self.config, self.device, self.processes = data, config, device, processes
        self.autoencoder = data.autoencoder().to(device)
        self.extractor = make_extractor(config.extractor, config.extractor_weights, device)
        with processes.main_first():
            self.reference = reference_statistics(data, config, self.extractor, device, workers)
            floor = (data, self.autoencoder, self.extractor, self.reference, config)
            self.floor = reconstruction_metric(*floor) if config.reconstruction else {}
        self.recognizer = recognizer(data) if config.classifier else None

    def evaluate(self, generator: Generator) -> dict[str, float]:
        """Metrics by name, the same in every process. The Fréchet distance's name says features and number of samples."""
        config = self.config
        z, labels = draw_inputs(config.samples, generator.dims.num_classes, config.seed, config.labels)
        mine = slice(self.processes.rank, None, self.processes.count)
        kept: list[Tensor] = []

        def images() -> Iterator[Tensor]:
            for batch in self._sample(generator, z[mine], labels[mine]):
                if self.recognizer is not None:
                    kept.append(batch.cpu())
                yield batch

        statistics = feature_statistics(images(), self.extractor, self.processes)
        distance = frechet_distance(statistics, self.reference)
        metrics = {distance_name(config.extractor, config.samples): distance} | self.floor
        if self.recognizer is not None:
            right = self.recognizer.accuracy(torch.cat(kept), labels[mine]) * len(labels[mine])
            metrics["class_accuracy"] = float(self.processes.sum(torch.tensor(right))) / config.samples
            metrics["class_accuracy_real_held_out"] = self.recognizer.held_out_accuracy
        return metrics

    def save_grid(self, generator: Generator, file: Path) -> None:
        """Write a PNG of samples, a row per class."""
        rows = min(self.config.grid_classes, generator.dims.num_classes)
        labels = torch.arange(rows).repeat_interleave(self.config.grid_columns)
        z, _ = draw_inputs(len(labels), rows, self.config.seed + GRID_SEED_OFFSET, "balanced")
        images = torch.cat([batch.cpu() for batch in self._sample(generator, z, labels)])
        save_image(images.float() / 255, file, nrow=self.config.grid_columns, padding=1)

    def _sample(self, generator: Generator, z: Tensor, labels: Tensor) -> Iterator[Tensor]:
        return sample_images(
            generator,
            self.autoencoder,
            self.data.manifest.scale,
            z,
            labels,
            truncation=self.config.truncation,
            batch_size=self.config.batch_size,
        )


def recognizer(data: PreparedSet) -> ClassRecognizer:
    """Trained on the set's images."""
    rows = chosen_rows(len(data))
    return ClassRecognizer(data.images(rows), data.labels[rows])
