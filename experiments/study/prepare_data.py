"""Preparation of data as a user asks for it: the set itself, and what evaluations and a cached teacher need of it."""

import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import torch

from gat.config import Config
from gat.data.claims import PART_ROWS, part_count, under_way
from gat.data.identity import prepared_folder
from gat.data.parts import info_file
from gat.data.plan import read_plan
from gat.data.prepare import prepare
from gat.data.prepared import MANIFEST, PreparedSet
from gat.data.workers import told_plainly
from gat.errors import UserError, escaped
from gat.files import lock, told
from gat.platform import choose_device, full_precision, keep_freed_memory
from gat.teachers import cached_tokens
from gat.training.check import check
from gat.training.evaluation import RunEvaluation

STATISTICS_LOCK = ".statistics.lock"


def prepare_data(config: Config, *, statistics: bool, shard: bool = False) -> PreparedSet:
    """Make the set of ``config``, with others that are at it, and if ``statistics`` what else its runs would compute once.

    A ``shard`` leaves the latter to another one that is at it. Raises :class:`UserError` for mistakes in settings or data,
    and where nothing more can be written; what is whole stays.
    """
    check(config)
    device = choose_device(config.training.device, int(os.environ.get("LOCAL_RANK", 0)))
    keep_freed_memory()
    cache = Path(config.paths.prepared)
    with (
        told_plainly(),
        told(f"prepared data in {cache}", "start the same command again, or set another paths.prepared"),
        full_precision(),
    ):
        prepared = prepare(config.data, config.autoencoder, cache, device, config.loader.workers)
        if statistics:
            with (prepared.folder / STATISTICS_LOCK).open("w", encoding="utf-8") as stream:
                if lock(stream, wait=not shard):
                    compute_statistics(prepared, config, device)
    return prepared


def compute_statistics(prepared: PreparedSet, config: Config, device: torch.device) -> None:
    """Reference statistics, the autoencoder's own distance (which is printed), a cached teacher's tokens; what is missing."""
    if config.evaluation.samples:
        wanted = replace(config.evaluation, reconstruction=True, classifier=False)
        for number in RunEvaluation(replace(config, evaluation=wanted), prepared, device).evaluator.floor:
            print(f"{number.name} {number}")
    if config.teacher.name and config.teacher.cache:
        cached_tokens(prepared, config.teacher, config.loader, device)


def describe(prepared: PreparedSet, began: float) -> str:
    """What was prepared, in a few lines. ``began``: by ``time.perf_counter``."""
    m = prepared.manifest
    lines = [f"{prepared.folder}"]
    lines += [f"  {m.count} images of {m.image_px} pixels in {len(m.class_names)} classes, from {m.source}"]
    lines += [f"  {m.skipped} unreadable ones left out, {m.ignored_files} other files ignored, {m.upscaled} enlarged"]
    lines += [
        f"  latents {m.latent_channels} x {m.latent_side} x {m.latent_side} of {m.autoencoder}, scale {m.scale:.5g}"
    ]
    lines += [f"  moments kept as float16: relative error {m.moments_error:.2g}"]
    lines += [f"  {len(m.parts)} parts, {prepared.bytes / 1e6:.1f} MB"]
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    lines += [f"  {time.perf_counter() - began:.1f} s, at most {peak / 2**20:.2f} GiB in one process"]
    return "\n".join(map(escaped, lines))


def progress(config: Config) -> str:
    """How far the preparation is, in a line; :class:`UserError` if it has not begun."""
    folder = prepared_folder(config.data, config.autoencoder, Path(config.paths.prepared))
    if (folder / MANIFEST).exists():
        return f"{folder}: finished"
    if not folder.exists():
        raise UserError(f"{folder}: not begun: leave prepare.action=status away to begin")
    parts = part_count(read_plan(folder)["count"])
    made = sum(info_file(folder, part).exists() for part in range(parts))
    active = under_way(folder, parts)
    said = f"{folder}: {made} of {parts} parts of {PART_ROWS} images made, {active} being made"
    return said if active else f"{said}: if nobody is at it, start the command again"


def verify(config: Config) -> str:
    """Compare all checksums of the finished set; :class:`UserError` names what is damaged."""
    folder = prepared_folder(config.data, config.autoencoder, Path(config.paths.prepared))
    if not (folder / MANIFEST).exists():
        raise UserError(f"{folder}: not prepared: leave prepare.action=verify away to prepare it")
    prepared = PreparedSet(folder)
    prepared.verify()
    return f"{folder}: {len(prepared.manifest.parts)} parts, all checksums are right"
