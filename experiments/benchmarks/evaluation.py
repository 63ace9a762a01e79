"""How fast samples are made and measured, and where an evaluation's time goes.

The generator has random weights, and features are random where distances are timed: neither changes how long the arithmetic
takes. The decoder is the configured autoencoder (a tiny one untrained), the features ``evaluation.extractor``'s (the
classifier of a data set untrained).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import AutoencoderKL
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from experiments.benchmarks.bench import Bench, bench_of
from experiments.benchmarks.parts import Stopwatch, median_parts
from experiments.benchmarks.tables import keep, markdown, measured_by
from experiments.settings import BenchmarkConfig, StudyConfig
from gat.config import AutoencoderConfig, Config, EvaluationConfig, MeasureConfig
from gat.data.autoencoder import build_tiny, decode, load_autoencoder
from gat.data.images import to_uint8
from gat.evaluation.dataset_classifier import WIDTH, DatasetClassifier
from gat.evaluation.evaluator import check_measures
from gat.evaluation.extractors import make_extractor
from gat.evaluation.frechet import statistics
from gat.evaluation.kinds import CLASSIFIER
from gat.evaluation.measures import frechet, kid, precision_recall
from gat.models import Generator
from gat.platform import full_precision, keep_freed_memory


def benchmark_evaluation(
    config: Config, settings: BenchmarkConfig, measure: MeasureConfig, study: StudyConfig, typed: Sequence[str]
) -> None:
    """Measure, print, and keep the table. ``typed``: the command's arguments, for the record."""
    check_measures(config.evaluation, measure)
    keep_freed_memory()
    bench, samples = bench_of(config, study), config.evaluation.samples
    with full_precision(), torch.no_grad():
        parts, width = time_of_samples(bench, settings.seconds)
        numbers = time_of_numbers(bench, measure, width)
    found = [{"part": name, "s": value * samples, "images/s": 1 / value} for name, value in parts.items()]
    found += [{"part": name, "s": value, "images/s": float("nan")} for name, value in numbers.items()]
    table = pd.DataFrame(found)
    table["share"] = table["s"] / table["s"].sum()
    model = f"{config.model.family} {config.model.size}/{config.model.patch}"
    text = "\n\n".join(
        [
            f"# Evaluation of {samples} samples of {model}, {config.evaluation.extractor} features",
            f"{measured_by(typed)} Batches of {config.evaluation.batch_size}; KID, precision and recall against "
            f"{measure.reference_images} real images.",
            f"{table['s'].sum():.3g} s in all: {1 / sum(parts.values()):.3g} images/s sampled, decoded and made features, "
            f"and {sum(numbers.values()):.3g} s for the numbers.",
            markdown(table),
        ]
    )
    print(text)
    kind = f"evaluation-{config.model.family}-{config.model.size}{config.model.patch}-{samples}"
    for file in keep(Path(settings.out), kind, text + "\n", {"split": table}):
        print(file)


def decoder_like(config: AutoencoderConfig) -> AutoencoderKL:
    """The configured autoencoder, tiny ones untrained; :class:`gat.errors.UserError` if it cannot be had."""
    model = build_tiny(config) if config.path is None else load_autoencoder(config.path)
    return model.requires_grad_(False).eval()


def extractor_like(config: EvaluationConfig, num_classes: int, device: torch.device) -> FeatureExtractorBase:
    """Return the configured extractor, a data set's classifier untrained."""
    if config.extractor == CLASSIFIER:
        return DatasetClassifier(num_classes, [str(WIDTH)]).to(device)
    return make_extractor(config.extractor, config.extractor_weights, device)


def time_of_samples(bench: Bench, seconds: float) -> tuple[dict[str, float], int]:
    """Seconds per sample of each part, and the width of its features."""
    config = bench.config.evaluation
    generator = Generator(bench.dims[0]).to(bench.device).eval()
    decoder = decoder_like(bench.config.autoencoder).to(bench.device)
    extractor = extractor_like(config, bench.dims[0].num_classes, bench.device)
    width = 0

    def one(watch: Stopwatch, number: int) -> None:
        nonlocal width
        torch.manual_seed(number)
        z = torch.randn(config.batch_size, bench.dims[0].z_dim, device=bench.device)
        labels = torch.randint(bench.dims[0].num_classes, (config.batch_size,), device=bench.device)
        latents = watch("generator", lambda: generator(z, labels)[-1])
        images = watch("decoder", lambda: to_uint8(decode(decoder, latents, 1.0), config.to_uint8))
        features = watch("features", lambda: extractor(images)[0])
        watch("features to the host", lambda: features.float().cpu())
        width = features.shape[1]

    medians = median_parts(bench.device, seconds, one)
    return {name: value / config.batch_size for name, value in medians.items()}, width


def time_of_numbers(bench: Bench, measure: MeasureConfig, width: int) -> dict[str, float]:
    """Seconds of each number on random features of as many samples and real images as asked for."""
    generator = torch.Generator().manual_seed(0)
    counts = (bench.config.evaluation.samples, measure.reference_images)
    features, real = (torch.randn(count, width, generator=generator).to(bench.device) for count in counts)
    reference = statistics(iter(real.split(1000)))
    covariance = bench.config.evaluation.covariance
    watch = Stopwatch(bench.device)
    work: dict[str, Callable[[], Any]] = {
        "Fréchet distance with its interval": lambda: frechet(features, reference, covariance),
        "KID with its interval": lambda: kid(features, real),
        "precision and recall": lambda: precision_recall(features, real),
    }
    for name, one in work.items():
        watch(name, one)
    return {name: times[0] for name, times in watch.times.items()}
