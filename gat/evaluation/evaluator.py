"""The evaluator, used in training and afterwards: samples -> features -> numbers under one protocol, with intervals.

Samples are made in shards by any number of processes (:mod:`gat.evaluation.features`); the main one measures.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.config import EvaluationConfig, MeasureConfig
from gat.data.prepared import PreparedSet
from gat.errors import UserError, require_choice
from gat.evaluation.classifier import ClassRecognizer, recognizer
from gat.evaluation.dataset_classifier import dataset_classifier
from gat.evaluation.extractors import extractor_tag, make_extractor, require_extractor
from gat.evaluation.features import CLASSES, SampleFeatures, image_features
from gat.evaluation.frechet import Statistics, check_width
from gat.evaluation.intervals import of_share
from gat.evaluation.kinds import CLASSIFIER, FRECHET, RECONSTRUCTION, number_name
from gat.evaluation.measures import NEIGHBOURS, SPLITS, frechet, inception_score, kid, precision_recall
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import Protocol, check_rules
from gat.evaluation.reconstruction import reconstruction_number
from gat.evaluation.reference import Reference
from gat.evaluation.samples import Samples
from gat.platform import full_precision
from gat.processes import ALONE, Processes

METRICS = (FRECHET, "kid", "precision_recall", "inception_score")
IN_TRAINING = MeasureConfig(metrics=[FRECHET], also_extractors=[], also_samples=[], reference_images=1)


def check_measures(config: EvaluationConfig, measure: MeasureConfig) -> None:
    """Raise :class:`UserError` for settings that cannot be measured."""
    check_rules(config)
    if config.samples < 2:
        raise UserError(f"evaluation.samples={config.samples}: use at least 2")
    for metric in measure.metrics:
        require_choice("measure.metrics", metric, METRICS)
    if not measure.metrics:
        raise UserError(f"measure.metrics=[] measures nothing: choose from {', '.join(METRICS)}")
    for name in (config.extractor, *config.also_extractors, *measure.also_extractors):
        require_extractor(name)
    for count in measure.also_samples:
        if count > config.samples:
            raise UserError(f"measure.also_samples={count} must be at most evaluation.samples={config.samples}")
    needed = {"inception_score": SPLITS, "precision_recall": NEIGHBOURS + 1}
    smallest = min(config.samples, *measure.also_samples, config.samples)
    for metric in measure.metrics:
        if smallest < needed.get(metric, 2):
            raise UserError(
                f"measure.metrics={metric} needs at least {needed.get(metric, 2)} samples, not {smallest}: raise "
                "evaluation.samples or measure.also_samples, or leave the metric out"
            )


@dataclass(frozen=True)
class Compared:
    """Real images in one extractor's features: statistics of all, and features (m, d) of some; None if not asked for."""

    statistics: Statistics | None
    real: Tensor | None


@dataclass(frozen=True)
class Evaluator:
    """An evaluator under one protocol: reference, extractors, rules and device; everything but the samples."""

    reference: Reference
    config: EvaluationConfig
    measure: MeasureConfig
    image_px: int
    """Side of the samples, in pixels."""
    decoder_name: str
    """The decoder of the samples, as the protocol names it."""
    device: torch.device
    processes: Processes = ALONE
    data: PreparedSet | None = None
    """The prepared set, for class accuracy and the reconstruction distance; None: these are not measured."""
    decoder: AutoencoderKL | None = None
    """The decoder of the set's latents, for the reconstruction distance."""

    def evaluate(self, samples: Samples, folder: Path) -> list[Number]:
        """Sample, extract features, measure, and delete the features. Return the numbers (main process; others: []).

        Raises :class:`UserError`, before anything is sampled, for a reference that does not fit.
        """
        made = self.sample(samples, folder)
        found = self.measured(made) if self.processes.is_main else []
        if self.processes.is_main:
            made.clear()
        return found

    def sample(self, samples: Samples, folder: Path) -> SampleFeatures:
        """Return the features of ``samples``, whose shards stay in ``folder`` until ``clear``; all processes share the work.

        Raises as :meth:`evaluate`.
        """
        with full_precision():
            self.prepare()
            recognized = self.recognizer if samples.labels is not None else None
            made = SampleFeatures(samples, self.config.samples, self.extractors, recognized, folder, self.device)
            made.make()
            self.processes.wait()
        return made

    def measured(self, made: SampleFeatures) -> list[Number]:
        """Return the numbers of the features, in one process. Shards that another evaluation has deleted are made again."""
        with full_precision():
            made.make()
            features, samples = made.read(), made.samples
            found = [number for name in self.extractors for number in self._in_features_of(name, samples, features)]
            return [*found, *self._of_classes(samples, features), *self.floor]

    def prepare(self) -> None:
        """Compute what depends on the reference alone, in the main process. Raises :class:`UserError` if it does not fit."""
        if self.reference.image_px not in (None, self.image_px):
            raise UserError(
                f"the samples are {self.image_px} pixels wide, the reference {self.reference.image_px}: use a reference of "
                f"{self.image_px} pixels"
            )
        with full_precision():
            _ = self.extractors  # in every process, before the main one goes on alone
            if self.processes.is_main:
                _ = self.compared, self.floor
            self.processes.wait()

    @cached_property
    def extractors(self) -> dict[str, FeatureExtractorBase]:
        """Load the extractors, by name: the protocol's own and ``also_extractors``; one process at a time downloads."""
        config, scored = self.config, "inception_score" in self.measure.metrics
        with self.processes.main_first():
            found = {config.extractor: self._extractor(config.extractor, config.extractor_weights, logits=scored)}
            for name in (*config.also_extractors, *self.measure.also_extractors):
                if name not in found:
                    found[name] = self._extractor(name, None, logits=False)
        return found

    def _extractor(self, name: str, weights: str | None, *, logits: bool) -> FeatureExtractorBase:
        if name != CLASSIFIER:
            return make_extractor(name, weights, self.device, ("fid", "isc") if logits else ("fid",))
        if self.data is None:
            raise UserError(
                f"evaluation.extractor={CLASSIFIER} needs prepared images, which it is trained on: choose another extractor, "
                "or name images by data=... data.root=..."
            )
        return dataset_classifier(self.data, self.device, logits=logits)

    @cached_property
    def recognizer(self) -> ClassRecognizer | None:
        """Return the classifier trained on the set's images; None if it is off, or there is no set of several classes."""
        return recognizer(self.data) if self.data is not None and self._recognizes else None

    @property
    def _recognizes(self) -> bool:
        """Return whether class accuracy is measured: it is on, and the set has several classes."""
        return self.config.classifier and self.data is not None and self.data.num_classes > 1

    @cached_property
    def compared(self) -> dict[str, Compared]:
        """Return the reference's statistics and features, by extractor."""
        return {name: self._compared(extractor) for name, extractor in self.extractors.items()}

    @cached_property
    def floor(self) -> list[Number]:
        """Return the Fréchet distance of the autoencoder's reconstructions, as a list: empty if off or without images."""
        statistics = self.compared[self.config.extractor].statistics
        if not self.config.reconstruction or self.data is None or self.decoder is None or statistics is None:
            return []
        extractor = self.extractors[self.config.extractor]
        protocol = self.protocol_of(extractor, min(self.config.samples, len(self.data)))
        protocol = replace(protocol, truncation=0.0, labels="of the images")  # nothing is generated
        return [reconstruction_number(self.data, self.decoder, extractor, statistics, self.config, protocol)]

    def names(self, *, labelled: bool = True) -> list[str]:
        """Return the names of the numbers asked for; ``labelled``: whether the samples have classes."""
        kinds = {"precision_recall": ("precision", "recall")}
        counts = sorted({self.config.samples, *self.measure.also_samples}, reverse=True)
        names = [
            number_name(kind, name, count)
            for name in self.extractors
            for count in counts
            for metric in self._metrics(name)
            for kind in kinds.get(metric, (metric,))
        ]
        if self._recognizes and labelled:
            names += ["class_accuracy", "class_accuracy_real_held_out"]
        measured = self.data is not None and self.decoder is not None and FRECHET in self.measure.metrics
        if self.config.reconstruction and self.data is not None and measured:
            names.append(number_name(RECONSTRUCTION, self.config.extractor, min(self.config.samples, len(self.data))))
        return names

    def protocol(self) -> Protocol:
        """Return the protocol of the Fréchet distance in the features of ``evaluation.extractor``."""
        return self.protocol_of(self.extractors[self.config.extractor], self.config.samples)

    def protocol_of(self, extractor: FeatureExtractorBase, samples: int, compared_with: str | None = None) -> Protocol:
        """Return the protocol for one extractor and number of samples; ``compared_with``: None is all real images."""
        config = self.config
        return Protocol(
            samples=samples,
            decoder=self.decoder_name,
            truncation=config.truncation,
            to_uint8=config.to_uint8,
            covariance=config.covariance,
            labels=config.labels,
            extractor=extractor_tag(extractor),
            reference=compared_with or self.reference.basis(extractor),
            image_px=self.image_px,
        )

    def _metrics(self, extractor: str) -> list[str]:
        return self.measure.metrics if extractor == self.config.extractor else [FRECHET]

    def _compared(self, extractor: FeatureExtractorBase) -> Compared:
        metrics, statistics, real = self._metrics(extractor.get_name()), None, None
        if FRECHET in metrics:
            statistics = self.reference.statistics(extractor)
            black = torch.zeros(1, 3, self.image_px, self.image_px, dtype=torch.uint8, device=self.device)
            with torch.no_grad():
                check_width(extractor(black)[0].shape[1], len(statistics.mu))
        if {"kid", "precision_recall"} & set(metrics):
            real = image_features(self.reference.images(self.measure.reference_images), extractor, self.device)
            if len(real) <= NEIGHBOURS:
                raise UserError(
                    f"{len(real)} real images (measure.reference_images={self.measure.reference_images}) are too few for "
                    f"KID, precision and recall, which need {NEIGHBOURS + 1}: use more, or leave these out of measure.metrics"
                )
        return Compared(statistics, real)

    def _in_features_of(self, name: str, samples: Samples, features: dict[str, Tensor]) -> Iterator[Number]:
        """Yield the numbers in one extractor's features: pooled (n, d) and, for the Inception Score, class logits (n, c)."""
        extractor, metrics, compared = self.extractors[name], self._metrics(name), self.compared[name]
        pooled, *logits = [features[f"{name}/{layer}"] for layer in extractor.features_list]
        for count in sorted({self.config.samples, *self.measure.also_samples}, reverse=True):
            protocol = samples.rules(self.protocol_of(extractor, count))
            some = pooled[:count].to(self.device)
            if compared.statistics is not None:
                distance = frechet(some, compared.statistics, self.config.covariance)
                yield Number(FRECHET, distance.value, protocol, distance)
            if compared.real is not None:
                real = compared.real.to(self.device)
                basis = f"{self.reference.name}, {len(real)} of them"
                against = samples.rules(self.protocol_of(extractor, count, basis))
                if "kid" in metrics:
                    estimate = kid(some, real)
                    yield Number("kid", estimate.value, against, estimate)
                if "precision_recall" in metrics:
                    for kind, estimate in zip(("precision", "recall"), precision_recall(some, real), strict=True):
                        yield Number(kind, estimate.value, against, estimate)
            if "inception_score" in metrics:
                estimate = inception_score(logits[0][:count])
                yield Number("inception_score", estimate.value, protocol, estimate)

    def _of_classes(self, samples: Samples, features: dict[str, Tensor]) -> Iterator[Number]:
        """Yield the classifier's agreement with the requested classes, and its accuracy on held-out real images."""
        if samples.labels is None or self.recognizer is None:
            return
        right = of_share(float((features[CLASSES] == samples.labels).double().mean()), self.config.samples)
        protocol = self.protocol()
        yield Number("class_accuracy", right.value, protocol, right)
        yield Number("class_accuracy_real_held_out", self.recognizer.held_out_accuracy, protocol)
