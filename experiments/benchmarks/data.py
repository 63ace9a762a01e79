"""How fast data are made and read, and how many worker processes a GPU needs.

A worker is one process with one thread. Every rate is the median of several stretches after a warm-up, over rows in training
order, of which the operating system may have cached the files: what disks and networks add must be measured on site.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd
import torch

from experiments.benchmarks.photos import write_narrow_autoencoder, write_photos
from experiments.benchmarks.tables import keep, markdown, measured_by
from experiments.settings import BenchmarkConfig
from gat.config import Config, DataConfig
from gat.data.crops import RowsToBatch
from gat.data.identity import prepared_folder
from gat.data.loader import ResidentLoader, StepReader
from gat.data.order import TrainingOrder
from gat.data.prepare import prepare
from gat.data.prepared import MANIFEST, PreparedSet
from gat.data.sources import open_source
from gat.data.workers import read_ahead
from gat.models.flops import iteration_flops
from gat.models.sizes import discriminator_dims, generator_dims
from gat.platform import cores, one_thread

BATCH = 64
STRETCHES = 5
PHOTOS = 512
FORMATS: tuple[tuple[str, int | None], ...] = (("webp", None), ("png", None), ("jpeg", 95))
CPU = torch.device("cpu")
SIZES = ("S", "B", "L", "XL")
DINO_WIDTH = 768


def benchmark_data(config: Config, settings: BenchmarkConfig) -> None:
    """Measure, print, and keep the tables."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        reading, making = measure_photos(Path(folder), settings.seconds)
    own = prepared_folder(config.data, config.autoencoder, Path(config.paths.prepared))
    if (own / MANIFEST).exists():
        with one_thread():
            reading += measure_reading(PreparedSet(own), own.name, settings.seconds)
    read, made = pd.DataFrame(reading), pd.DataFrame(making)
    need = pd.DataFrame(workers_needed(read, speeds_of(settings)))
    text = "\n\n".join(
        [
            f"# Data\n\n{measured_by(['data'])} A worker is one process with one thread.",
            f"## Reading\n\n{markdown(read)}",
            f"## Making (cropping and encoding the image; the autoencoder apart)\n\n{markdown(made)}",
            f"## Workers that keep a GPU busy (ImageNet-256; TFLOP/s assumed)\n\n{markdown(need)}",
        ]
    )
    print(text)
    if not (own / MANIFEST).exists():
        print(f"\n(not measured: {own}, which is not prepared)")
    for file in keep(Path(settings.out), "data", text + "\n", {"reading": read, "making": made, "workers": need}):
        print(file)


def rate(work: Callable[[int], int], seconds: float) -> float:
    """Samples per second of ``work(call)``, which returns how many it did: the median of five stretches."""
    work(0)
    calls, rates = count(1), []
    for _ in range(STRETCHES):
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds / STRETCHES:
            done += work(next(calls))
        rates.append(done / (time.perf_counter() - began))
    return statistics.median(rates)


def measure_photos(folder: Path, seconds: float) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of both tables for photographs at 256 pixels, kept in each format."""
    write_photos(folder / "photos", PHOTOS)
    autoencoder = write_narrow_autoencoder(folder / "autoencoder")
    data = DataConfig(
        source="image_folder",
        root=str(folder / "photos"),
        resolution_px=256,
        on_corrupt="error",
        image_format="",
        image_quality=None,
    )
    reading: list[dict[str, object]] = []
    making: list[dict[str, object]] = []
    for image_format, quality in FORMATS:
        kept = replace(data, image_format=image_format, image_quality=quality)
        name = f"{image_format} {'lossless' if quality is None else quality}"
        made = making_rate(kept, seconds)
        prepared = prepare(kept, autoencoder, folder / "prepared", CPU)
        size = (prepared.bytes / len(prepared) - prepared.moment_bytes) / 1024
        making.append({"source": "JPEG, 375 x 500", "to": name, "images/s per worker": made, "KiB per image": size})
        reading += measure_reading(prepared, f"photos, 256 px, {name}", seconds, latents=not reading)
    return reading, making


def making_rate(data: DataConfig, seconds: float) -> float:
    """Images per second that a worker reads, crops and encodes."""
    source = open_source(data.source, data.root)
    batches = RowsToBatch(source, data)
    rows = [list(range(start, min(start + BATCH, len(source)))) for start in range(0, len(source), BATCH)]
    return rate(lambda call: len(batches[rows[call % len(rows)]].rows), seconds)


def measure_reading(
    prepared: PreparedSet, name: str, seconds: float, *, latents: bool = True
) -> list[dict[str, object]]:
    """Rows of the table for one set: from disk, with and without images, by one worker and by as many as there are cores."""
    batch = min(BATCH, len(prepared))
    order, everything = TrainingOrder(len(prepared), batch, seed=0), slice(None)
    rows: list[dict[str, object]] = []
    for images in (False, True) if latents else (True,):
        reader = StepReader(prepared, order, everything, images=images)
        alone = rate(lambda call, reader=reader: len(reader[call].rows), seconds)  # type: ignore[misc]
        batches = read_ahead(reader, count(), cores())
        together = rate(lambda _, batches=batches: len(next(batches).rows), seconds)  # type: ignore[misc]
        del batches
        what = "moments and images" if images else "moments"
        rows.append(_row(name, what, "disk", alone, together))
    if latents:
        resident = ResidentLoader(prepared, order, everything, CPU, CPU, 0, images=False)
        rows.append(_row(name, "moments", "memory", rate(lambda call: len(resident.batch(call).rows), seconds), None))
    return rows


def _row(source: str, what: str, place: str, alone: float, together: float | None) -> dict[str, object]:
    column = f"samples/s, {cores()} workers"
    return {"source": source, "what": what, "from": place, "samples/s per worker": alone, column: together or "-"}


def workers_needed(read: pd.DataFrame, speeds: dict[str, float]) -> list[dict[str, object]]:
    """The workers that deliver each of ``speeds``, images/s by name."""
    disk = read[(read["from"] == "disk") & read["source"].str.startswith("photos")]
    rows: list[dict[str, object]] = []
    for name, speed in speeds.items():
        row: dict[str, object] = {"GPU": name, "images/s": speed}
        for source, what, worker in zip(disk["source"], disk["what"], disk["samples/s per worker"], strict=True):
            kind = "moments alone" if what == "moments" else source.split(", ")[-1]
            row[f"workers, {kind}"] = math.ceil(speed / worker)
        rows.append(row)
    return rows


def speeds_of(settings: BenchmarkConfig) -> dict[str, float]:
    """Images/s that are asked for, or those of each size on ImageNet-256 at patch 2 by the assumed rate."""
    if settings.images_per_s is not None:
        return {"as asked for": settings.images_per_s}
    return {
        f"{size}/2 at {settings.device_tflops:g} TFLOP/s": settings.device_tflops * 1e12 / flops_per_image(size)
        for size in SIZES
    }


def flops_per_image(size: str) -> float:
    """Of an iteration on ImageNet-256 at patch 2, with alignment of D."""
    shared = {"patch": 2, "num_classes": 1000, "latent_side": 32, "channels": 4, "num_stages": 4}
    generator = generator_dims("gat", size, teacher_width=0, **shared)
    discriminator = discriminator_dims("gat", size, teacher_width=DINO_WIDTH, **shared)
    return float(iteration_flops(generator, discriminator, BATCH, penalty_fraction=1.0, aligned=True)) / BATCH
