"""How fast a training step is, what share of the device's matrix-product rate that is, and where its time goes.

Inputs are random (never zeros, which are faster on some devices); the teacher and the draw of latents stand in the split, not
in the step. Rates are medians over single steps after a warm-up, with a device synchronization after each. The release's own
step (``benchmark.release``, :mod:`experiments.benchmarks.release`) is measured in the same run, on a CPU in turns with ours.

    model FLOPs  matrix products of G and D by formula (gat.models.flops), checked against PyTorch's counter; what activation
                 checkpointing or double generation computes again is not in them, so that the MFU of a slower step is lower
    MFU          model FLOPs per second over the data sheet's dense bf16 rate, where the device is in DATA_SHEET_TFLOPS
    of product   the same over the rate that this device reaches in one large matrix product of the precision
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks import release
from experiments.benchmarks.bench import Bench, bench_of
from experiments.benchmarks.memory import largest_batch, peak_gib, start_peak
from experiments.benchmarks.parts import time_split
from experiments.benchmarks.tables import keep, markdown, measured_by
from experiments.settings import BenchmarkConfig, StudyConfig
from gat.config import Config
from gat.errors import UserError
from gat.models.flops import iteration_flops
from gat.platform import hardware, keep_freed_memory
from gat.training.noise import StepNoise
from gat.training.setup import compiles, make_networks, step_settings
from gat.training.step import Batch, Networks, StepSettings, training_step

FEWEST_STEPS = 5
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
MATRIX_SECONDS = 2.0
DATA_SHEET_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
COUNTED_BATCH = 4
AGREEMENT_BATCH = 16


Step = Callable[[Batch, StepNoise], object]


def networks_for(bench: Bench, compile_blocks: str | None = None) -> tuple[Networks, StepSettings]:
    """Return new networks and the step's settings; ``compile_blocks`` replaces ``training.compile``."""
    training = replace(bench.config.training, compile=compile_blocks or bench.config.training.compile)
    networks = make_networks(replace(bench.config, training=training), bench.dims, bench.device)
    return networks, step_settings(bench.config, bench.teacher_width > 0)


def our_step(bench: Bench, compile_blocks: str | None = None) -> Step:
    """Return our training step on new networks."""
    networks, constants = networks_for(bench, compile_blocks)
    return lambda batch, noise: training_step(networks, batch, noise, constants)


def release_step(bench: Bench, folder: str) -> Step:
    """Return the release's step on our initial weights, after checking that its losses agree with ours."""
    found = release.build(folder, bench.config, bench.dims, bench.device)
    networks, _ = networks_for(bench, "off")
    found.take(networks)
    batch, noise = bench.inputs(0, min(AGREEMENT_BATCH, bench.config.training.batch_size))
    release.require_agreement(found, networks, batch, noise)
    return lambda batch, _: found.step(batch.real, batch.labels)


@dataclass
class Running:
    """A variant under measurement."""

    bench: Bench
    once: Step | None
    peak_gib: float = float("nan")
    times: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median of its steps; NaN if it did not fit."""
        return statistics.median(self.times) if self.times else float("nan")

    def step(self) -> float:
        """Make one step; return its seconds."""
        assert self.once is not None
        batch, noise = self.bench.inputs(len(self.times), self.bench.config.training.batch_size)
        wait(self.bench.device)
        began = time.perf_counter()
        self.once(batch, noise)
        wait(self.bench.device)
        return time.perf_counter() - began


def started(bench: Bench, make: Callable[[], Step], warmup_steps: int) -> Running:
    """Warm a variant up, and record its peak memory."""
    start_peak(bench.device)
    running = Running(bench, make())
    for _ in range(warmup_steps):
        running.step()
    running.peak_gib = peak_gib(bench.device)
    return running


def measure_all(
    bench: Bench, variants: Mapping[str, Callable[[], Step]], settings: BenchmarkConfig
) -> dict[str, Running]:
    """Measure at least five steps of each variant and ``seconds`` of them.

    On a CPU variants take turns, step by step, so that other load on the machine affects all alike. On a GPU, whose memory
    may not hold all of them, they are measured one after the other; a variant that does not fit has no times.
    """
    groups = [list(variants)] if bench.device.type == "cpu" else [[name] for name in variants]
    found: dict[str, Running] = {}
    for group in groups:
        try:
            running = {name: started(bench, variants[name], settings.warmup_steps) for name in group}
        except torch.OutOfMemoryError:
            found |= {name: Running(bench, None) for name in group}
            continue
        while any(len(one.times) < FEWEST_STEPS or sum(one.times) < settings.seconds for one in running.values()):
            for one in running.values():
                one.times.append(one.step())
        for name, one in running.items():
            found[name] = replace(one, once=None)  # free its memory for the next variant
    return found


def median_seconds(step: Callable[[int], object], seconds: float, device: torch.device) -> float:
    """Of single calls of ``step`` (given 0, 1, ...), the device waited for after each."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < FEWEST_STEPS:
        wait(device)
        began = time.perf_counter()
        step(len(times))
        wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_tflops(device: torch.device, dtype: torch.dtype, seconds: float = MATRIX_SECONDS) -> float:
    """The rate of one large square matrix product of random numbers, in TFLOP/s."""
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return 2 * side**3 / median_seconds(lambda _: torch.mm(a, b), seconds, device) / 1e12


def counted_share(bench: Bench) -> float:
    """Return PyTorch's count of a step's FLOPs over the formula's, on a few samples."""
    networks, constants = networks_for(bench, "off")
    networks.generator.checkpointing = networks.discriminator.checkpointing = "none"
    batch, noise = bench.inputs(0, COUNTED_BATCH)
    with FlopCounterMode(display=False) as counter:
        training_step(networks, batch, noise, constants)
    return counter.get_total_flops() / flops_of(bench, COUNTED_BATCH)


def flops_of(bench: Bench, batch_size: int) -> int:
    """Return a step's FLOPs by formula."""
    fraction = bench.config.objective.penalty_fraction
    return iteration_flops(*bench.dims, batch_size, penalty_fraction=fraction, aligned=bench.teacher_width > 0)


def variants_of(bench: Bench, settings: BenchmarkConfig) -> dict[str, Callable[[], Step]]:
    """Return the variants by name: our step, if compiled also uncompiled, and with ``benchmark.release`` the release's."""
    found: dict[str, Callable[[], Step]] = {"ours": lambda: our_step(bench)}
    if compiles(bench.config.training.compile, bench.device):
        found["ours, not compiled"] = lambda: our_step(bench, "off")
    if (folder := settings.release) is not None:
        found["the release"] = lambda: release_step(bench, folder)
    return found


def data_sheet_tflops(gpus: Sequence[str], precision: str) -> float:
    """Return the first GPU's dense rate in bf16 by its data sheet; NaN for another precision or an unknown device."""
    known = [rate for name, rate in DATA_SHEET_TFLOPS.items() if gpus and name in gpus[0]]
    return known[0] if known and precision == "bf16" else float("nan")


def row_of(bench: Bench, name: str, seconds: float, peak_memory: float, peak_tflops: float) -> dict[str, Any]:
    """Of the table."""
    config, size = bench.config, bench.config.training.batch_size
    flops = flops_of(bench, size)
    facts = hardware()
    return {
        "hardware": facts["gpus"][0] if bench.device.type == "cuda" else f"{facts['cpu']}, {facts['cores']} cores",
        "device": bench.device.type,
        "family": config.model.family,
        "model": f"{config.model.size}/{config.model.patch}",
        "batch": size,
        "precision": config.training.precision,
        "step": name,
        "s per step": seconds,
        "images/s": size / seconds,
        "model GFLOPs per step": flops / 1e9,
        "TFLOP/s": flops / seconds / 1e12,
        "MFU": flops / seconds / 1e12 / data_sheet_tflops(facts["gpus"], config.training.precision),
        "of product": flops / seconds / 1e12 / peak_tflops,
        "peak GiB": peak_memory,
    }


def benchmark_step(config: Config, settings: BenchmarkConfig, study: StudyConfig, typed: Sequence[str]) -> None:
    """Measure, print, and keep the tables. ``typed``: the command's arguments, for the record."""
    keep_freed_memory()
    bench, largest = bench_that_fits(config, study)
    dtype = torch.bfloat16 if config.training.precision == "bf16" else torch.float32
    peak, share = matrix_tflops(bench.device, dtype), counted_share(bench)
    found = measure_all(bench, variants_of(bench, settings), settings)
    rows = [row_of(bench, name, one.seconds, one.peak_gib, peak) for name, one in found.items()]
    table = pd.DataFrame(rows)
    if settings.release is not None:
        table["times the release's rate"] = table["images/s"] / table["images/s"].iloc[-1]
    networks, constants = networks_for(bench)
    split = pd.DataFrame(time_split(bench, networks, constants, settings.seconds))
    model = f"{config.model.family} {config.model.size}/{config.model.patch}"
    teacher = f"teacher {config.teacher.name}" if bench.teacher_width else "no teacher"
    text = "\n\n".join(
        [
            f"# Training step of {model}, batch {bench.config.training.batch_size}, {config.training.precision}, {teacher}, "
            f"{torch.get_num_threads()} threads",
            measured_by(typed),
            f"Largest matrix product: {peak:.3g} TFLOP/s. PyTorch counts {share:.3f} of the formula's FLOPs."
            + (f" Largest batch that fits: {largest}." if largest else ""),
            markdown(table.drop(columns=["hardware", "device"])),
            f"## Where the time goes\n\n{markdown(split)}",
        ]
    )
    print(text)
    kind = f"step-{config.model.family}-{config.model.size}{config.model.patch}-b{bench.config.training.batch_size}"
    for file in keep(Path(settings.out), kind, text + "\n", {"variants": table, "split": split}):
        print(file)


def bench_that_fits(config: Config, study: StudyConfig) -> tuple[Bench, int | None]:
    """What is measured, on a GPU with half the batch as often as it takes to fit, and the largest batch that does.

    Raises :class:`UserError` if not even one sample fits.
    """
    bench = bench_of(config, study)
    if bench.device.type != "cuda":
        return bench, None
    asked = config.training.batch_size
    largest = largest_batch(bench.device, lambda size: measure_once(bench, size), asked)
    if not largest:
        raise UserError("a step of one sample does not fit the GPU's memory: use a smaller model.size")
    training = replace(config.training, batch_size=min(asked, largest))
    return bench_of(replace(config, training=training), study), largest


def measure_once(bench: Bench, batch_size: int) -> None:
    """Make one step of another batch size, to see whether its memory suffices."""
    networks, constants = networks_for(bench)
    batch, noise = bench.inputs(0, batch_size)
    training_step(networks, batch, noise, constants)
    wait(bench.device)
