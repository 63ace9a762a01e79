"""The loop of a run around the training step; holds no mathematics."""

import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.config import Config
from gat.data.order import TrainingOrder
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from gat.errors import Interrupted, UserError
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import OWN_DECODER
from gat.processes import Processes
from gat.progress import Progress
from gat.training.change import changes, snapshot
from gat.training.checkpoint import on_host
from gat.training.checkpoint_writer import CheckpointWriter
from gat.training.divergence import Divergence, DivergenceWatch
from gat.training.evaluation import RunEvaluation
from gat.training.feed import Feed
from gat.training.interrupt import InterruptRequest
from gat.training.memory import AUTO, next_mode, room_for_later_steps, too_little_memory
from gat.training.noise import StepNoise, draw_noise
from gat.training.results import read_protocols
from gat.training.run_folder import RunFolder
from gat.training.sample_teacher import SampleTeacher, live_teacher
from gat.training.setup import augment_rates, compiles, make_networks, my_rows, network_dims, step_settings
from gat.training.step import Batch, training_step
from gat.training.trackers import NoTracker, Tracker, open_tracker

SHOWN = ("d_loss", "g_loss")


class Trainer:
    """Everything that one run needs, set up from its configuration; mistakes are told before the run's folder is made."""

    def __init__(self, config: Config, folder: RunFolder, device: torch.device, processes: Processes) -> None:
        self.config, self.folder, self.device, self.processes = config, folder, device, processes
        self.mine = my_rows(config, processes)
        with processes.main_first():
            cache = Path(config.paths.prepared)
            data = prepare(config.data, config.autoencoder, cache, device, config.loader.workers)
            aligned = config.teacher if config.objective.alignment_weight else None
            order = TrainingOrder(len(data), config.training.batch_size, config.training.seed_of("order"))
            self.feed = Feed(data, order, self.mine, aligned, config.loader, device)
            teacher = live_teacher(config, self.feed.teacher, device)
        self.dims = network_dims(config, data, teacher.width if teacher else self.feed.teacher_width)
        self.networks = make_networks(config, self.dims, device, processes)
        needed = (config, data, device, processes, folder.path)
        self.evaluation = RunEvaluation(*needed) if config.evaluation.samples else None
        sample_tokens = None
        if teacher:
            with processes.main_first():
                sample_tokens = SampleTeacher(teacher, self._autoencoder(data), data.manifest.scale)
        self.settings = step_settings(config, self.feed.teacher is not None, processes, sample_tokens)
        self.watch = DivergenceWatch(config.training.divergence)
        self.tracker: Tracker = NoTracker()
        self.unseen: list[tuple[int, dict[str, Tensor]]] = []
        self.fits = False

    def _autoencoder(self, data: PreparedSet) -> AutoencoderKL:
        """That of the latents, whatever decoder evaluations ask for; theirs where it is the same."""
        if self.evaluation is not None and self.evaluation.decoder_name == OWN_DECODER:
            return self.evaluation.decoder
        return data.autoencoder().to(self.device)

    def train(self) -> Divergence | None:
        """Train from the last checkpoint, or from the beginning, to the end or to the divergence that is returned.

        Raises :class:`gat.errors.Interrupted` after a signal, with the state saved (unless the run may be diverging: then the
        last checkpoint is from before that).
        """
        start = self._resume()
        total = self.config.training.total_steps
        with (
            InterruptRequest() as interrupt,
            CheckpointWriter() as writer,
            Progress(total=total, initial=start, desc="train", disable=not self.processes.is_main) as progress,
        ):
            logged, last = start, time.perf_counter()
            for step in range(start + 1, total + 1):
                divergence = None
                writer.check()
                if self._advance(step):
                    divergence = self._log(step, step - logged, last, progress)
                    logged, last = step, time.perf_counter()
                progress.update()
                if divergence is not None:
                    return divergence
                stop = self.processes.any(interrupt.requested) and step < total
                if stop or step == total or step % self.config.training.checkpoint_steps == 0:
                    divergence = self._save(step, writer, last=stop or step == total)
                if divergence is not None:
                    return divergence
                if stop:
                    where = "the last checkpoint, as it may be diverging" if self.watch.suspicious else "there"
                    raise Interrupted(
                        f"interrupted after step {step}: the same command goes on from {where}", interrupt.received
                    )
        return None

    def _advance(self, step: int) -> bool:
        """Do the iteration that makes ``step`` steps; whether its metrics are to be logged (and what it changed measured)."""
        training = self.config.training
        logs = step == training.total_steps or step % training.log_steps == 0 or step % training.eval_steps == 0
        rates = augment_rates(self.config.objective)
        drawn = (training.seed_of("noise"), step - 1, training.batch_size, self.dims[0], rates, self.device)
        noise = draw_noise(*drawn).rows(self.mine)
        batch = self.feed.batch(step - 1, noise)
        metrics = None
        while metrics is None:
            metrics = self._step_that_fits(batch, noise, measures=logs)
        self.unseen.append((step, metrics))
        return logs

    def _step_that_fits(self, batch: Batch, noise: StepNoise, *, measures: bool) -> dict[str, Tensor] | None:
        """The step's metrics; ``measures``: with what it changed. None: it did not fit, and fewer activations will be kept.

        Everything is as before it then. Raises :class:`UserError` if fewer may not be kept, or cannot: only where
        training.activation_checkpointing=auto, for the first step of a single process (several would have to agree in the
        midst of their exchange).
        """
        training = self.config.training
        try:
            return self._attempt(batch, noise, measures=measures)
        except torch.OutOfMemoryError as error:
            compiled = compiles(training.compile, self.device)
            mode = next_mode(self.networks.generator.checkpointing, compiled=compiled)
            repeatable = not self.fits and self.processes.count == 1
            if training.activation_checkpointing != AUTO or mode is None or not repeatable:
                raise UserError(too_little_memory(training, mode)) from error
        # outside of the except clause, whose error holds on to the step's tensors
        self.networks = make_networks(self.config, self.dims, self.device, self.processes, checkpointing=mode)
        self.folder.restore(self.networks)
        Progress.write(f"a step does not fit the GPU's memory: going on with {mode} activation checkpointing")
        return None

    def _attempt(self, batch: Batch, noise: StepNoise, *, measures: bool) -> dict[str, Tensor]:
        """The step, with what it changed if it ``measures`` that; the first leaves room for what later ones hold besides."""
        room = [] if self.fits else room_for_later_steps(self.networks)
        before = snapshot(self.networks, batch, noise) if measures else None
        metrics = training_step(self.networks, batch, noise, self.settings)
        self.fits = True
        room.clear()
        return metrics | (changes(before, self.networks, batch, noise) if before else {})

    def _see(self) -> tuple[dict[str, float], Divergence | None]:
        """Fetch the metrics of the steps since the last time, means over the processes: the one place where the host waits.

        Returns those of the last step, and the divergence, if they tell of one.
        """
        flat = torch.stack([value.float() for _, metrics in self.unseen for value in metrics.values()])
        values = iter((self.processes.sum(flat) / self.processes.count).tolist())
        last: dict[str, float] = {}
        divergence = None
        for step, metrics in self.unseen:
            last = {name: next(values) for name in metrics}
            divergence = divergence or self.watch.see(step, last)
        self.unseen.clear()
        return last, divergence

    def _line(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """What ``metrics.jsonl`` says of a step, evaluated or not."""
        line: dict[str, float] = {"step": step, "images": step * self.config.training.batch_size} | metrics
        for network in ("generator", "discriminator"):
            line[f"lr_{network[0]}"] = getattr(self.networks, f"{network}_optimizer").param_groups[0]["lr"]
        return line

    def _log(self, step: int, steps: int, since: float, progress: Progress) -> Divergence | None:
        """Write the metrics of ``step``, with an evaluation where one is due; returns the divergence, if there is one.

        ``steps``: how many were done ``since`` that time (of ``perf_counter``).
        """
        training = self.config.training
        metrics, divergence = self._see()  # before the clock is read: until then the device may be behind
        images_per_s = training.batch_size * steps / (time.perf_counter() - since)
        line = self._line(step, metrics) | {"images_per_s": images_per_s}
        evaluates = divergence is None and (step == training.total_steps or step % training.eval_steps == 0)
        numbers = self._evaluate(self.evaluation, step) if evaluates and self.evaluation else []
        if self.processes.is_main:
            self.folder.append_metrics(line, numbers)
            if numbers:
                self.tracker.explain(read_protocols(self.folder.path))
            self.tracker.log(step, line | {number.name: number.value for number in numbers})
            shown = {key: f"{line[key]:.3f}" for key in SHOWN}
            progress.set_postfix(shown | {"lr": f"{line['lr_g']:.2g}", "img/s": f"{images_per_s:.0f}"}, refresh=False)
            if numbers:
                progress.write(f"step {step}: " + ", ".join(f"{number.name} {number}" for number in numbers))
        return divergence

    def _evaluate(self, evaluation: RunEvaluation, step: int) -> list[Number]:
        with self.folder.told():
            numbers = evaluation.numbers(self.networks.ema, self.folder.identity, step, self.networks.also_ema)
            if self.processes.is_main:
                evaluation.save_grid(self.networks.ema, self.folder.grid_file)
        self.processes.wait()  # otherwise the rest could exceed STEP_TIMEOUT in the next step's exchange
        return numbers

    def _save(self, step: int, writer: CheckpointWriter, *, last: bool) -> Divergence | None:
        """Start writing a checkpoint, unless the run has diverged (which is logged and returned) or may be diverging.

        The run's final checkpoint is written even if it may be diverging, but not if checkpoints are not kept. ``last``: wait
        until it is written. All processes wait here: if one exited earlier, the launcher would kill the one that writes.
        """
        divergence = None
        if self.unseen:
            metrics, divergence = self._see()
            if divergence is not None and self.processes.is_main:
                self.folder.append_metrics(self._line(step, metrics))
        training = self.config.training
        wanted = training.keep_checkpoints if step == training.total_steps else not self.watch.suspicious
        if divergence is None and self.processes.is_main and wanted:
            writer.finish()  # so that there is one copy on the host at a time
            state, logged = on_host(self.networks), self.folder.logged
            writer.start(lambda: self.folder.save(state, step, training.keep_steps, logged))
        if last:
            writer.finish()
        self.processes.wait()
        return divergence

    def _resume(self) -> int:
        """Restore the last good checkpoint, if there is one; returns the number of steps done."""
        with self.processes.main_first():
            step = self.folder.restore(self.networks)
            self.folder.require_at_end(step)
        agreed = int(self.processes.from_main(torch.tensor(step)))
        if self.processes.any(step != agreed):
            raise UserError(
                f"the processes of this run find different checkpoints in {self.folder.checkpoints} "
                f"(rank {self.processes.rank} that of step {step}, rank 0 of {agreed}): they must see the same run folder: "
                "set paths.runs on a shared file system"
            )
        if self.processes.is_main:
            self.folder.cut_metrics(step)
            settings = {"run": self.folder.path.name}
            self.tracker = open_tracker(self.config.tracker, self.folder.path, self.folder.identity, step + 1, settings)
        return step
