"""A run from its configuration to its record."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from gat.config import Config
from gat.data.workers import told_plainly
from gat.files import told
from gat.models.flops import discriminator_flops, generator_flops
from gat.numerics import NUMERICS
from gat.platform import choose_device, full_precision, git_state, hardware, keep_freed_memory, tf32, versions
from gat.processes import Processes, joined
from gat.training.check import check
from gat.training.divergence import Divergence
from gat.training.evaluation import add_evaluations
from gat.training.results import read_protocols
from gat.training.run_folder import RunFolder
from gat.training.run_identity import earlier_run
from gat.training.setup import compiles
from gat.training.trainer import Trainer


def run(config: Config) -> dict[str, Any] | None:
    """Start or resume the run of ``config``; an ended run is not repeated, only a missing evaluation is added.

    Returns its record. With several processes each calls this; only the main one gets the record, the others None. Raises
    :class:`gat.errors.UserError` for a mistake of the user's, :class:`gat.errors.Interrupted` after a signal,
    :class:`gat.errors.LostProcessError` when another process of the run has died.
    """
    check(config)
    with joined(config) as processes:
        device = choose_device(config.training.device, processes.local_rank)
        keep_freed_memory()
        folder = RunFolder(config)
        trained = not has_ended(folder, processes) and train(config, folder, device, processes)
        record = folder.ended_record()
        lacks_numbers = not trained and record is not None and folder.lacks_numbers(record)
        if not processes.as_main(lacks_numbers):
            return record if processes.is_main else None
        return evaluated(config, folder, device, processes)


def has_ended(folder: RunFolder, processes: Processes) -> bool:
    """Return whether the run has ended; every process returns the main one's finding.

    Raises :class:`gat.errors.UserError` if the folder belongs to another run.
    """
    ended = folder.ended_record() is not None
    if not ended:
        folder.require_free()
    return processes.as_main(ended)


@contextmanager
def prepared_in(config: Config) -> Iterator[None]:
    """Turn errors with the prepared data, which the block uses, into one :class:`gat.errors.UserError`."""
    place, remedy = (
        f"prepared data in {config.paths.prepared}",
        "start the same command again, or set another paths.prepared",
    )
    with told(place, remedy), told_plainly(), full_precision():
        yield


def train(config: Config, folder: RunFolder, device: torch.device, processes: Processes) -> bool:
    """Train the run and write its record; return False, having done nothing, if another process has ended it meanwhile.

    Setup precedes locking the folder, so that a mistake leaves no folder behind. Setup takes long enough for another process
    to train this run, or another one, in the folder, which is therefore checked again once it is locked.
    """
    if processes.is_main and (older := earlier_run(folder.path, config)):
        print(f"{older}; this one is trained in {folder.path}", file=sys.stderr)  # noqa: T201
    with prepared_in(config):
        trainer = Trainer(config, folder, device, processes)
    with folder.held() if processes.is_main else nullcontext():
        if has_ended(folder, processes):
            return False
        if processes.is_main:
            folder.write_config(config)
        began = time.perf_counter()
        try:
            with told_plainly(), tf32() if config.training.precision == "bf16" else full_precision():
                divergence = trainer.train()
        finally:
            trainer.tracker.close()
        if processes.is_main:
            write_record(trainer, divergence, time.perf_counter() - began, processes)
        return True


def evaluated(config: Config, folder: RunFolder, device: torch.device, processes: Processes) -> dict[str, Any] | None:
    """Add a further evaluation to an ended run, and return its record with the numbers (main process; else None)."""
    with prepared_in(config), folder.held() if processes.is_main else nullcontext():
        processes.wait()  # the folder is locked, so no other command adds numbers: all processes find the same ones missing
        add_evaluations(config, folder, device, processes)
        if not processes.is_main:
            return None
        record = folder.ended_record()
        assert record is not None  # it had ended before
        folder.write_record(record)
        return record


def write_record(trainer: Trainer, divergence: Divergence | None, seconds: float, processes: Processes) -> None:
    """Write ``record.json``, and delete checkpoints that need not be kept.

    ``seconds``: time of training and evaluation since the last start.
    """
    folder, config = trainer.folder, trainer.config
    dropped = [] if config.training.keep_checkpoints else folder.passing_checkpoints()
    checkpoints = [file for file in folder.all_checkpoints() if file not in dropped]
    record = {
        "status": "finished" if divergence is None else "diverged",
        "diverged": None if divergence is None else asdict(divergence),
        "identity": folder.identity,
        "numerics": NUMERICS,
        "run_folder": str(folder.path),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_since_start": round(seconds, 1),
        "config": asdict(config),
        "seed": config.training.seed,
        "git": git_state(),
        "hardware": hardware() | {"device": str(trainer.device), "processes": processes.count},
        "by_rounding": by_rounding(trainer, processes),
        "versions": versions(),
        "model": model_facts(trainer),
        "final_metrics": folder.read_metrics()[-1],
        "protocols": read_protocols(folder.path),
        "checkpoint": str(checkpoints[-1]) if checkpoints else None,
    }
    folder.write_record(record)
    folder.drop(dropped)


def by_rounding(trainer: Trainer, processes: Processes) -> dict[str, Any]:
    """Return the circumstances that change results by rounding alone; they are not part of the run's identity."""
    training = trainer.config.training
    return {
        "device": trainer.device.type,
        "compiled": compiles(training.compile, trainer.device),
        "accumulation": training.accumulation,
        "activation_checkpointing": trainer.networks.generator.checkpointing,
        "processes": processes.count,
        "threads": torch.get_num_threads(),
    }


def model_facts(trainer: Trainer) -> dict[str, Any]:
    """Dimensions, parameters and forward GFLOPs per sample of both networks."""
    generator, discriminator = trainer.dims
    networks = trainer.networks
    return {
        "generator": asdict(generator),
        "discriminator": asdict(discriminator),
        "generator_parameters": sum(p.numel() for p in networks.generator.parameters()),
        "discriminator_parameters": sum(p.numel() for p in networks.discriminator.parameters()),
        "generator_gflops": generator_flops(generator) / 1e9,
        "discriminator_gflops": discriminator_flops(discriminator) / 1e9,
    }
