"""All numbers of one generator under one protocol, with confidence intervals."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.config import EvaluationConfig, MeasureConfig
from gat.errors import UserError, require_choice
from gat.evaluation.extractors import extractor_tag, make_extractor, require_extractor
from gat.evaluation.features import SampleFeatures, image_features
from gat.evaluation.intervals import Estimate
from gat.evaluation.measures import frechet, inception_score, kid, precision_recall
from gat.evaluation.numbers import Number, number_name
from gat.evaluation.protocol import Protocol, check_rules
from gat.evaluation.reference import Reference
from gat.evaluation.subject import Subject
from gat.processes import Processes

METRICS = ("frechet", "kid", "precision_recall", "inception_score")


def check_measures(config: EvaluationConfig, measure: MeasureConfig) -> None:
    """:class:`UserError` for settings that cannot be measured."""
    check_rules(config)
    if config.samples < 2:
        raise UserError(f"evaluation.samples={config.samples}: use at least 2")
    for metric in measure.metrics:
        require_choice("measure.metrics", metric, METRICS)
    if not measure.metrics:
        raise UserError(f"measure.metrics=[] measures nothing: choose of {', '.join(METRICS)}")
    for name in (config.extractor, *measure.also_extractors):
        require_extractor(name)
    for count in measure.also_samples:
        if not 2 <= count <= config.samples:
            raise UserError(f"measure.also_samples={count} must lie between 2 and evaluation.samples={config.samples}")


@dataclass(frozen=True)
class Assessment:
    """A generator, what it is compared with, and how."""

    subject: Subject
    reference: Reference
    config: EvaluationConfig
    measure: MeasureConfig
    facts: dict[str, Any]
    """Of the checkpoint: its samples' features are kept under them while they are made."""
    folder: Path
    device: torch.device
    processes: Processes

    def numbers(self) -> list[Number]:
        """Sample, extract, measure. In several processes each makes its share; the main one measures, the others get []."""
        self._check()
        extractors = self._extractors()
        rules = [self.subject.decoder_name, self.config.truncation, self.config.to_uint8, self.config.labels]
        made = SampleFeatures(self.subject, self.config, extractors, self.facts | {"rules": rules}, self.folder)
        made.make()
        self.processes.wait()
        if not self.processes.is_main:
            return []
        features = made.read()
        counts = sorted({self.config.samples, *self.measure.also_samples}, reverse=True)
        found = [
            number for name, extractor in extractors.items() for number in self._of(name, extractor, features, counts)
        ]
        made.clear()
        return found

    def _check(self) -> None:
        if self.reference.image_px not in (None, self.subject.image_px):
            raise UserError(
                f"the samples have {self.subject.image_px} pixels, the reference {self.reference.image_px}: compare with "
                "images of one size"
            )

    def _extractors(self) -> dict[str, FeatureExtractorBase]:
        """By name: the protocol's own, and those of further Fréchet distances. Downloads come one process at a time."""
        own = ("fid", "isc") if "inception_score" in self.measure.metrics else ("fid",)
        with self.processes.main_first():
            found = {
                self.config.extractor: make_extractor(
                    self.config.extractor, self.config.extractor_weights, self.device, own
                )
            }
            for name in self.measure.also_extractors:
                found.setdefault(name, make_extractor(name, None, self.device))
        return found

    def _of(
        self, name: str, extractor: FeatureExtractorBase, features: dict[str, Tensor], counts: list[int]
    ) -> Iterator[Number]:
        """The numbers in one extractor's features."""
        pooled, *logits = (features[f"{name}/{layer}"] for layer in extractor.features_list)
        metrics = self.measure.metrics if name == self.config.extractor else ["frechet"]
        statistics = self.reference.statistics(extractor) if "frechet" in metrics else None
        real = None
        if {"kid", "precision_recall"} & set(metrics):
            real = image_features(self.reference.images(self.measure.reference_images), extractor, self.device)
        for count in counts:
            protocol = self._protocol(extractor, count)
            some = pooled[:count].to(self.device)
            if statistics is not None:
                yield self._number("frechet", name, protocol, frechet(some, statistics, self.config.covariance))
            if "kid" in metrics and real is not None:
                yield self._number("kid", name, protocol, kid(some, real.to(self.device)), self._real_note(real))
            if "precision_recall" in metrics and real is not None:
                precision, recall = precision_recall(some, real.to(self.device))
                yield self._number("precision", name, protocol, precision, self._real_note(real))
                yield self._number("recall", name, protocol, recall, self._real_note(real))
            if "inception_score" in metrics:
                yield self._number("inception_score", name, protocol, inception_score(logits[0][:count]))

    def _real_note(self, real: Tensor) -> str:
        return f"{len(real)} real images"

    def _number(self, kind: str, name: str, protocol: Protocol, estimate: Estimate, note: str | None = None) -> Number:
        return Number(number_name(kind, name, protocol.samples), estimate.value, protocol, estimate, note)

    def _protocol(self, extractor: FeatureExtractorBase, samples: int) -> Protocol:
        subject = self.subject
        return protocol_of(self.config, subject.decoder_name, extractor, self.reference, subject.image_px, samples)


def protocol_of(
    config: EvaluationConfig,
    decoder: str,
    extractor: FeatureExtractorBase,
    reference: Reference,
    image_px: int,
    samples: int,
) -> Protocol:
    """By which ``samples`` samples, decoded by ``decoder``, are compared with ``reference``."""
    return Protocol(
        samples=samples,
        decoder=decoder,
        truncation=config.truncation,
        to_uint8=config.to_uint8,
        covariance=config.covariance,
        labels=config.labels,
        extractor=extractor_tag(extractor),
        reference=reference.name,
        image_px=image_px,
    )
