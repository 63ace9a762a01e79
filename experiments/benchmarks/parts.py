"""Where a step's time goes: its parts one after the other, as :func:`gat.training.step.training_step` does them."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from experiments.benchmarks.bench import Bench
from experiments.benchmarks.feeding import random_feed
from gat.objective.adversarial import discriminator_loss, generator_loss
from gat.training.noise import StepNoise, draw_noise
from gat.training.optimizer import update_ema
from gat.training.setup import augment_rates
from gat.training.step import Batch, Networks, StepSettings, descend, make_fakes

T = TypeVar("T")
WARMUP = 2
FEWEST = 3


class Stopwatch:
    """Seconds by name of the part, the device waited for after each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: dict[str, list[float]] = defaultdict(list)

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        """Do ``work``, and count its time to ``name``."""
        began = time.perf_counter()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times[name].append(time.perf_counter() - began)
        return result


def median_parts(device: torch.device, seconds: float, one: Callable[[Stopwatch, int], None]) -> dict[str, float]:
    """Median seconds of the parts that ``one`` (given a stopwatch and 0, 1, ...) names, after a warm-up."""
    began, number = time.perf_counter(), 0
    watch = Stopwatch(device)
    while number < WARMUP + FEWEST or time.perf_counter() - began < seconds:
        if number == WARMUP:
            watch = Stopwatch(device)
        one(watch, number)
        number += 1
    return {name: statistics.median(times) for name, times in watch.times.items()}


def time_split(bench: Bench, networks: Networks, settings: StepSettings, seconds: float) -> list[dict[str, Any]]:
    """Median seconds of each part and its share of their sum. Waiting after each makes the sum longer than a step."""
    feed, config = random_feed(bench), bench.config
    draws = (config.training.batch_size, bench.dims[0], augment_rates(config.objective), bench.device)

    def one(watch: Stopwatch, number: int) -> None:
        noise = watch("draws", lambda: draw_noise(config.training.seed, number, *draws))
        watch("latents of the batch", lambda: feed.latents(noise))
        if feed.teacher is not None:
            watch("teacher", lambda: feed.tokens(noise))
        batch, _ = bench.inputs(number, config.training.batch_size)
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=settings.bf16):
            timed_step(watch, networks, batch, noise, settings)

    medians = median_parts(bench.device, seconds, one)
    whole = sum(medians.values())
    return [{"part": name, "s": value, "share": value / whole} for name, value in medians.items()]


def timed_step(watch: Stopwatch, networks: Networks, batch: Batch, noise: StepNoise, settings: StepSettings) -> None:
    """One step in parts."""
    clip = settings.clip_norm
    fakes = watch("G forward", lambda: make_fakes(networks, batch, noise, settings))
    discriminator, objective = networks.discriminator_calls, settings.objective
    shown = (batch.real, fakes.stages.detach(), batch.labels, noise.discriminator, noise.penalty, objective)
    loss = watch("D forward (real, fake, penalties)", lambda: discriminator_loss(discriminator, *shown, batch.teacher))
    watch("D backward", loss.total.mean().backward)
    watch("D clipping and AdamW", lambda: descend(networks.discriminator, networks.discriminator_optimizer, clip))
    networks.discriminator.requires_grad_(False)
    how = (batch.real, fakes.stages, batch.labels, noise.generator, objective)
    of_g = watch("D forward (real, fake) for G", lambda: generator_loss(networks.discriminator, *how))
    watch("backward through D and G", of_g.total.mean().backward)
    networks.discriminator.requires_grad_(True)
    watch("class means", lambda: class_means(networks, noise.z, batch.labels))
    watch("G clipping and AdamW", lambda: descend(networks.generator, networks.generator_optimizer, clip))
    watch("average of G", lambda: update_ema(networks.ema, networks.generator, settings.ema_decay))


@torch.no_grad()
def class_means(networks: Networks, z: Tensor, labels: Tensor) -> None:
    """Move those of w."""
    networks.generator.update_mean_w(networks.generator.style(z, labels), labels)
