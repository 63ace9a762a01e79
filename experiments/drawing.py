"""Samples as a user asks for them: grids, sets in three formats, interpolations.

Shapes: n samples, P image side in pixels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from experiments.checkpoints import DECODERS, asked_for
from experiments.settings import SampleConfig, group
from gat.config import Config
from gat.data.workers import told_plainly
from gat.errors import UserError, require_choice
from gat.evaluation.protocol import check_rules
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.evaluation.subject import Subject, open_data, open_subject
from gat.files import told
from gat.platform import choose_device, full_precision, keep_freed_memory
from gat.pretrained import Pretrained
from gat.processes import Processes, joined
from gat.samples.interpolation import Anchor, step_sizes, synthesize_path, w_path
from gat.samples.pictures import save_contact_sheet, save_frames, save_grid
from gat.samples.writers import KINDS as SETS
from gat.samples.writers import write_samples

KINDS = ("grid", "interpolation", *SETS)
GRID_CLASSES = 10
REMEDY = "start the same command again, or set another out"


def draw(settings: DictConfig, overrides: list[str]) -> list[str]:
    """Draw what ``settings`` ask for; lines that say what was written (none but in the main process).

    ``overrides``: what was typed. Raises :class:`gat.errors.UserError` for every mistake in checkpoint and settings.
    """
    wanted: SampleConfig = group(settings, "sample")
    require_choice("sample.kind", wanted.kind, KINDS)
    pretrained, config = asked_for(settings, overrides, DECODERS)
    check_rules(config.evaluation)
    check_classes(wanted, pretrained.generator.dims.num_classes)
    with joined(config) as processes:
        device = choose_device(config.training.device, processes.local_rank)
        keep_freed_memory()
        out = Path(settings.out) if settings.out else default_out(pretrained, wanted)
        with told(f"samples in {out}", REMEDY), told_plainly(), full_precision():
            with processes.main_first():
                subject = open_subject(pretrained, config, open_data(pretrained, config), device)
            if wanted.kind in SETS:
                written = draw_set(subject, pretrained, config, wanted, out, processes)
            elif processes.is_main:
                written = (draw_grid if wanted.kind == "grid" else draw_path)(subject, config, wanted, out)
        return written if processes.is_main else []


def check_classes(wanted: SampleConfig, num_classes: int) -> None:
    """:class:`UserError` for classes that the generator has not, or none."""
    if wanted.classes == []:
        raise UserError("sample.classes=[] draws nothing: name classes, or null for all")
    for label in wanted.classes or []:
        if label >= num_classes:
            raise UserError(f"sample.classes={label}: there are classes 0 to {num_classes - 1}: choose among these")


def default_out(pretrained: Pretrained, wanted: SampleConfig) -> Path:
    """In the run's or pipeline's folder, else in the present one."""
    suffix = {"grid": ".png", "interpolation": ".gif"}.get(wanted.kind, "")
    return pretrained.place / "samples" / f"{pretrained.source.stem}-{wanted.kind}-seed{wanted.seed}{suffix}"


def draw_grid(subject: Subject, config: Config, wanted: SampleConfig, out: Path) -> list[str]:
    """A row of ``count`` samples per class."""
    dims = subject.generator.dims
    classes = wanted.classes or list(range(min(GRID_CLASSES, dims.num_classes)))
    labels = torch.tensor(classes).repeat_interleave(wanted.count)
    z, _ = draw_inputs(len(labels), dims, wanted.seed, "balanced")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid(torch.cat([batch.cpu() for batch in sampled(subject, config, z, labels)]), out, wanted.count)
    return [
        f"{out}: {wanted.count} samples of each class (a row each): {', '.join(named(subject, c) for c in classes)}"
    ]


def draw_path(subject: Subject, config: Config, wanted: SampleConfig, out: Path) -> list[str]:
    """Frames from station to station and back to the first, as ``out``'s suffix says, and beside it as a contact sheet."""
    classes = wanted.classes or [0]
    stations = [Anchor(seed, classes[i % len(classes)]) for i, seed in enumerate(wanted.seeds)]
    w = w_path(subject.generator, stations, wanted.frames, config.evaluation.truncation, closed=True)[:-1]
    rules = config.evaluation
    how: dict[str, Any] = {"conversion": rules.to_uint8, "batch_size": rules.batch_size}
    frames = synthesize_path(subject.generator, subject.decoder, subject.scale, w, **how)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_frames(frames, out, fps=wanted.fps, columns=wanted.frames)
    sheet = out.with_name(f"{out.stem}-sheet.png")
    save_contact_sheet(frames, sheet, wanted.frames)
    steps = step_sizes(frames)
    through = ", ".join(f"seed {a.seed} of {named(subject, a.label)}" for a in stations)
    return [
        f"{out}, {sheet}: {len(frames)} frames through {through}",
        f"change per frame (root mean square, grey levels): {steps.mean():.3g} on average, at most {steps.max():.3g}",
    ]


def draw_set(
    subject: Subject, pretrained: Pretrained, config: Config, wanted: SampleConfig, out: Path, processes: Processes
) -> list[str]:
    """``count`` samples as files: of ``classes`` in turn, or as the protocol's labels say."""
    rules = config.evaluation
    z, labels = draw_inputs(wanted.count, subject.generator.dims, wanted.seed, rules.labels)
    if wanted.classes:
        labels = torch.tensor(wanted.classes)[torch.arange(wanted.count) % len(wanted.classes)]

    def images_of(rows: range) -> Iterator[NDArray[np.uint8]]:
        for batch in sampled(subject, config, z[rows.start : rows.stop], labels[rows.start : rows.stop]):
            yield batch.permute(0, 2, 3, 1).cpu().numpy()

    facts = {
        "generator": pretrained.facts,
        "seed": wanted.seed,
        "truncation": rules.truncation,
        "decoder": subject.decoder_name,
        "to_uint8": rules.to_uint8,
        "classes": wanted.classes or rules.labels,
    }
    files = write_samples(out, wanted.kind, wanted.count, labels.numpy(), images_of, facts, processes=processes)
    return [f"{wanted.count} samples: {files[0]}" + (f" ... {files[-1]}" if len(files) > 1 else "")]


def sampled(subject: Subject, config: Config, z: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """Yield samples of z (n, z_dim), labels (n,) under the rules of ``evaluation``: uint8 batches (B, 3, P, P)."""
    rules = config.evaluation
    how: dict[str, Any] = {"truncation": rules.truncation, "conversion": rules.to_uint8, "batch_size": rules.batch_size}
    return sample_images(subject.generator, subject.decoder, subject.scale, z, labels, **how)


def named(subject: Subject, label: int) -> str:
    """A class's number, with its name if that is known."""
    return f"{label} ({subject.class_names[label]})" if subject.class_names else str(label)
