"""A run from its configuration to its record: prepare, train, evaluate, write everything down."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gat.config import Config
from gat.data.order import TrainingOrder
from gat.data.prepare import prepare
from gat.evaluation.evaluator import Evaluator
from gat.models.flops import discriminator_flops, generator_flops
from gat.platform import choose_device, git_state, hardware, keep_freed_memory, versions
from gat.training.checkpoint import load_checkpoint, save_checkpoint
from gat.training.feed import Feed
from gat.training.noise import draw_noise
from gat.training.run_folder import RunFolder
from gat.training.setup import augment_rates, check, make_networks, network_dims, step_settings
from gat.training.step import training_step

CHECKPOINTS_KEPT = 2
SHOWN = ("d_loss", "g_loss")


def run(config: Config) -> dict[str, Any]:
    """Carry out the run of ``config`` and return its record; a finished run is not repeated.

    Raises :class:`gat.errors.UserError` for a mistake of the user's.
    """
    check(config)
    device = choose_device(config.training.device)
    keep_freed_memory()
    folder = RunFolder(config)
    if (record := folder.finished_record()) is not None:
        return record
    return Trainer(config, folder, device).train()


class Trainer:
    """The loop around the training step; holds no mathematics."""

    def __init__(self, config: Config, folder: RunFolder, device: torch.device) -> None:
        self.config, self.folder, self.device = config, folder, device
        data = prepare(config.data, config.autoencoder, Path(config.paths.prepared), device)
        order = TrainingOrder(len(data), config.training.batch_size, config.training.seed)
        self.feed = Feed(data, order, config.teacher, device)
        self.dims = network_dims(config, data, self.feed.teacher_width)
        self.networks = make_networks(config, self.dims, device)
        self.settings = step_settings(config, has_teacher=self.feed.teacher is not None)
        self.evaluator = Evaluator(data, config.evaluation, device)
        self.seconds = 0.0
        folder.create(config)

    def train(self) -> dict[str, Any]:
        """Train from the last checkpoint, or from the beginning, to the end; returns the record."""
        training, start = self.config.training, self._resume()
        began = last = time.perf_counter()
        logged = start
        progress = tqdm(total=training.total_steps, initial=start, desc="train", unit="step", disable=None)
        for step in range(start + 1, training.total_steps + 1):
            metrics = self._step(step - 1)
            progress.update()
            at_end = step == training.total_steps
            evaluates = at_end or step % training.eval_steps == 0
            if evaluates or step % training.log_steps == 0:
                line = self._line(step, metrics)
                line["images_per_s"] = training.batch_size * (step - logged) / (time.perf_counter() - last)
                self._log(line, self._evaluate() if evaluates else {}, progress)
                logged, last = step, time.perf_counter()
            if at_end or step % training.checkpoint_steps == 0:
                self._save(step)
        progress.close()
        self.seconds = time.perf_counter() - began
        return self._finish()

    def _step(self, step: int) -> dict[str, Tensor]:
        """Advance by the iteration numbered ``step`` (from 0)."""
        training, rates = self.config.training, augment_rates(self.config.objective)
        noise = draw_noise(training.seed, step, training.batch_size, self.dims[0], rates, self.device)
        return training_step(self.networks, self.feed.batch(step, noise), noise, self.settings)

    def _line(self, step: int, metrics: dict[str, Tensor]) -> dict[str, float]:
        """Metrics of one step as numbers: the only place where the host waits for the device."""
        values = torch.stack([value.float() for value in metrics.values()]).tolist()
        images = {"step": step, "images": step * self.config.training.batch_size}
        return (
            images
            | dict(zip(metrics, values, strict=True))
            | {"lr_g": self._lr("generator"), "lr_d": self._lr("discriminator")}
        )

    def _lr(self, network: str) -> float:
        return float(getattr(self.networks, f"{network}_optimizer").param_groups[0]["lr"])

    def _log(self, line: dict[str, float], evaluated: dict[str, float], progress: "tqdm[Any]") -> None:
        self.folder.append_metrics(line | evaluated)
        shown = {key: f"{line[key]:.3f}" for key in SHOWN}
        progress.set_postfix(shown | {"lr": f"{line['lr_g']:.2g}", "img/s": f"{line['images_per_s']:.0f}"})
        if evaluated:
            figures = ", ".join(f"{key} {value:.4g}" for key, value in evaluated.items())
            progress.write(f"step {line['step']:.0f}: {figures}")

    def _evaluate(self) -> dict[str, float]:
        metrics = self.evaluator.evaluate(self.networks.ema)
        self.evaluator.save_grid(self.networks.ema, self.folder.grid_file)
        return metrics

    def _save(self, step: int) -> None:
        save_checkpoint(self.folder.checkpoint_file(step), self.networks, step, self.folder.identity)
        self.folder.keep_latest(CHECKPOINTS_KEPT)

    def _resume(self) -> int:
        """Restore the last checkpoint, if there is one; returns the number of steps done."""
        file = self.folder.latest_checkpoint()
        step = load_checkpoint(file, self.networks, self.folder.identity) if file else 0
        self.folder.cut_metrics(step)
        return step

    def _finish(self) -> dict[str, Any]:
        """Write and return the record."""
        lines = self.folder.read_metrics()
        final = lines[-1]
        record = {
            "status": "finished",
            "identity": self.folder.identity,
            "run_folder": str(self.folder.path),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "training_seconds": round(self.seconds, 1),
            "config": asdict(self.config),
            "seed": self.config.training.seed,
            "git": git_state(),
            "hardware": hardware() | {"device": str(self.device)},
            "versions": versions(),
            "model": self._model_facts(),
            "final_metrics": final,
            "checkpoint": str(self.folder.latest_checkpoint()),
        }
        self.folder.write_record(record)
        return record

    def _model_facts(self) -> dict[str, Any]:
        generator, discriminator = self.dims
        networks = self.networks
        return {
            "generator": asdict(generator),
            "discriminator": asdict(discriminator),
            "generator_parameters": sum(p.numel() for p in networks.generator.parameters()),
            "discriminator_parameters": sum(p.numel() for p in networks.discriminator.parameters()),
            "generator_gflops": generator_flops(generator) / 1e9,
            "discriminator_gflops": discriminator_flops(discriminator) / 1e9,
        }
