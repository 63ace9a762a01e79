"""All numbers of one generator under one protocol, with confidence intervals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.config import EvaluationConfig, MeasureConfig
from gat.data.autoencoder import weights_digest
from gat.errors import UserError, require_choice
from gat.evaluation.extractors import extractor_tag, make_extractor, require_extractor
from gat.evaluation.features import SampleFeatures, image_features
from gat.evaluation.frechet import Statistics, check_width
from gat.evaluation.intervals import Estimate
from gat.evaluation.measures import NEIGHBOURS, SPLITS, frechet, inception_score, kid, precision_recall
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
    if measure.reference_images < 1:
        raise UserError(f"measure.reference_images={measure.reference_images} must be at least 1")
    fewest = {"inception_score": SPLITS, "precision_recall": NEIGHBOURS + 1}
    for metric in measure.metrics:
        if min(config.samples, *measure.also_samples, config.samples) < fewest.get(metric, 2):
            raise UserError(
                f"measure.metrics={metric} needs at least {fewest[metric]} samples: use more, or leave it out"
            )
    for count in measure.also_samples:
        if not 2 <= count <= config.samples:
            raise UserError(f"measure.also_samples={count} must lie between 2 and evaluation.samples={config.samples}")


@dataclass(frozen=True)
class Compared:
    """Real images in one extractor's features: statistics of all, and features (m, d) of some; None if not asked for."""

    statistics: Statistics | None
    real: Tensor | None


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

    def numbers(self, keep: Callable[[list[Number]], None]) -> list[Number]:
        """Sample, extract, measure, and ``keep`` the numbers before the features of the samples are let go.

        In several processes each makes its share; the main one measures and keeps, the others get [].

        Raises :class:`UserError`, before anything is sampled, for a reference that does not fit.
        """
        self._check_size()
        main, extractors = self.processes.is_main, self.extractors
        compared = {name: self._compared(extractor) for name, extractor in extractors.items()} if main else {}
        self.processes.wait()
        made = SampleFeatures(self.subject, self.config, extractors, self._all_facts(), self.folder)
        made.make()
        self.processes.wait()
        if not main:
            return []
        features = made.read()
        found = [
            number
            for name, extractor in extractors.items()
            for number in self._of(
                extractor, [features[f"{name}/{x}"] for x in extractor.features_list], compared[name]
            )
        ]
        keep(found)
        made.clear()
        return found

    def _all_facts(self) -> dict[str, Any]:
        """Everything that the samples depend on, but for their number and seed."""
        decoder, rules = self.subject.decoder, self.config
        return self.facts | {
            "decoder": [weights_digest(decoder), self.subject.scale],
            "rules": [rules.truncation, rules.to_uint8, rules.labels],
        }

    def _check_size(self) -> None:
        if self.reference.image_px not in (None, self.subject.image_px):
            raise UserError(
                f"the samples have {self.subject.image_px} pixels, the reference {self.reference.image_px}: compare with "
                "images of one size"
            )

    @cached_property
    def extractors(self) -> dict[str, FeatureExtractorBase]:
        """By name: the protocol's own, and those of further Fréchet distances. Downloads come one process at a time."""
        config, own = self.config, ("fid", "isc") if "inception_score" in self.measure.metrics else ("fid",)
        with self.processes.main_first():
            found = {config.extractor: make_extractor(config.extractor, config.extractor_weights, self.device, own)}
            for name in self.measure.also_extractors:
                found.setdefault(name, make_extractor(name, None, self.device))
        return found

    def names(self) -> list[str]:
        """Of the numbers that are asked for."""
        kinds = {"precision_recall": ("precision", "recall")}
        counts = sorted({self.config.samples, *self.measure.also_samples}, reverse=True)
        return [
            number_name(kind, name, count)
            for name, extractor in self.extractors.items()
            for count in counts
            for metric in self._metrics(extractor)
            for kind in kinds.get(metric, (metric,))
        ]

    def protocol(self) -> Protocol:
        """Of the distance in the protocol's own features."""
        extractor = self.extractors[self.config.extractor]
        return self._protocol(extractor, self.config.samples, self.reference.basis(extractor))

    def _metrics(self, extractor: FeatureExtractorBase) -> list[str]:
        return self.measure.metrics if extractor.get_name() == self.config.extractor else ["frechet"]

    def _compared(self, extractor: FeatureExtractorBase) -> Compared:
        """What the reference gives in these features."""
        metrics, statistics, real = self._metrics(extractor), None, None
        if "frechet" in metrics:
            statistics = self.reference.statistics(extractor)
            side = self.subject.image_px
            black = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.device)
            check_width(extractor(black)[0].shape[1], len(statistics.mu))
        if {"kid", "precision_recall"} & set(metrics):
            real = image_features(self.reference.images(self.measure.reference_images), extractor, self.device)
            if len(real) <= NEIGHBOURS:
                raise UserError(f"{len(real)} real images are too few for KID, precision and recall: leave these out")
        return Compared(statistics, real)

    def _of(self, extractor: FeatureExtractorBase, features: list[Tensor], compared: Compared) -> Iterator[Number]:
        """The numbers in one extractor's features: pooled (n, d) and, for the Inception Score, class logits (n, c)."""
        name, metrics = extractor.get_name(), self._metrics(extractor)
        for count in sorted({self.config.samples, *self.measure.also_samples}, reverse=True):
            protocol = self._protocol(extractor, count, self.reference.basis(extractor))
            some = features[0][:count].to(self.device)
            if compared.statistics is not None:
                yield self._number(
                    "frechet", name, protocol, frechet(some, compared.statistics, self.config.covariance)
                )
            if compared.real is not None:
                real = compared.real.to(self.device)
                against = self._protocol(extractor, count, f"{self.reference.name}, {len(real)} of them")
                if "kid" in metrics:
                    yield self._number("kid", name, against, kid(some, real))
                if "precision_recall" in metrics:
                    for kind, estimate in zip(("precision", "recall"), precision_recall(some, real), strict=True):
                        yield self._number(kind, name, against, estimate)
            if "inception_score" in metrics:
                yield self._number("inception_score", name, protocol, inception_score(features[1][:count]))

    def _number(self, kind: str, name: str, protocol: Protocol, estimate: Estimate) -> Number:
        return Number(number_name(kind, name, protocol.samples), estimate.value, protocol, estimate)

    def _protocol(self, extractor: FeatureExtractorBase, samples: int, compared_with: str) -> Protocol:
        subject = self.subject
        return protocol_of(self.config, subject.decoder_name, extractor, compared_with, subject.image_px, samples)


def protocol_of(
    config: EvaluationConfig,
    decoder: str,
    extractor: FeatureExtractorBase,
    reference: str,
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
        reference=reference,
        image_px=image_px,
    )
