"""How smoothly a generator's image changes along straight lines between two samples. No source defines it; ours:

    ends        two samples (z, class), drawn from the seed for each path by itself. Paths are in turn ``within`` one class
                (another z) and ``between`` two classes (other z, too); of a generator of one class all are within
    line        ``frames`` equal steps, frames + 1 images, straight in
                    w  the style vector; truncation pulls each end to the mean of its class
                    z  the mapping network's inputs, z and the class's embedding, each of which that network normalises as
                       always; the class mean that truncation pulls to is interpolated alike. Its ends are those of w
    step        perceptual distance (analysis.perceptual) between one image and the next, s_1 ... s_frames

Of a path:

    largest_step_share   largest step / sum of the steps: 1/frames if the image changes evenly, 1 if it jumps once
    straightness         distance of the ends / sum of the steps: 1 if the image jumps once, and larger the straighter the way
                         is. The distances are squared differences of features: steps that are even and all in one direction
                         of feature space give ``frames``, not 1
    root_straightness    root of the distance of the ends / sum of the roots of the steps. Roots are lengths in feature space:
                         at most 1, and 1 if the way is straight, evenly or in one jump. Detours and noise lower it

A path on which no image changes (sum 0) has none of these; it is left out and counted. Means over paths with 95% intervals by
a bootstrap over paths (gat.evaluation.intervals): of one training run; the spread over training seeds is not in them. Images
are uint8, so that a change too small to alter any grey level is none. A hard switch between the ends has a largest step of
1; a cross-fade of pixels, which is no morph, has steps as even as they get: these numbers find jumps, they do not tell what
the images between show. Numbers of different ``frames`` are not comparable: the even value is 1/frames.
Shapes: n paths, F = frames + 1 images of a path, d width, P image side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.opening import Opened
from analysis.perceptual import PerceptualDistance
from gat.errors import UserError, require_choice
from gat.evaluation.intervals import by_bootstrap
from gat.models import Generator
from gat.models.generator import second_moment_norm
from gat.progress import Progress
from gat.rng import make_generator
from gat.samples.interpolation import Anchor, check_path, synthesize_path, w_path

SPACES = ("w", "z")
KINDS = ("within", "between")
NUMBERS = ("largest_step_share", "straightness", "root_straightness")
FRAMES = 16
BATCH = 64  # images at a time
SEEDS = 2**31

Pair = tuple[Anchor, Anchor]


@dataclass(frozen=True)
class Steps:
    """Of the paths between ``pairs``: ``steps`` (n, F - 1), distances (n,) of the ``ends``; images of the chosen ones."""

    pairs: list[Pair]
    steps: NDArray[np.float64]
    ends: NDArray[np.float64]
    images: dict[int, Tensor]
    """(F, 3, P, P), uint8, by number of the path."""


def kind_of(pair: Pair) -> str:
    """One of ``KINDS``."""
    return KINDS[pair[0].label != pair[1].label]


def draw_pairs(paths: int, num_classes: int, seed: int) -> list[Pair]:
    """Ends of ``paths`` paths, in turn within and between classes; the first of a larger number are the same."""
    found = []
    for i in range(paths):
        draws = make_generator(seed, "interpolation paths", i)
        seeds = torch.randint(SEEDS, (2,), generator=draws).tolist()
        first, other = (
            int(torch.randint(most, (), generator=draws)) for most in (num_classes, max(1, num_classes - 1))
        )
        second = (first + 1 + other) % num_classes if i % 2 else first
        found.append((Anchor(seeds[0], first), Anchor(seeds[1], second)))
    return found


@torch.no_grad()
def line(generator: Generator, pair: Pair, frames: int, truncation: float, space: str) -> Tensor:
    """Style vectors (F, d) of a path. :class:`UserError` for an unknown ``space``, and as :func:`w_path`."""
    require_choice("space", space, SPACES)
    if space == "w":
        return w_path(generator, pair, frames, truncation, closed=False)
    check_path(pair, generator.dims.num_classes, frames, truncation)
    device = generator.mean_w.device
    draws = [make_generator(end.seed, "interpolation") for end in pair]
    z = torch.cat([torch.randn(1, generator.dims.z_dim, generator=draw) for draw in draws])
    labels = torch.tensor([end.label for end in pair], device=device)
    places = torch.arange(frames + 1, device=device)[:, None] / frames
    z, embedded, means = (
        torch.lerp(ends[:1], ends[1:], places.to(ends.dtype))
        for ends in (z.to(device, generator.mean_w.dtype), generator.class_embedding(labels), generator.mean_w[labels])
    )
    w = generator.mapping(torch.cat([second_moment_norm(embedded), second_moment_norm(z)], dim=1))
    return torch.lerp(w, means.to(w.dtype), truncation) if truncation else w


@torch.no_grad()
def measure_paths(
    it: Opened,
    pairs: Sequence[Pair],
    distance: PerceptualDistance,
    *,
    frames: int,
    space: str,
    keep: Sequence[int] = (),
    batch_size: int = BATCH,
) -> Steps:
    """The steps between ``pairs``, several paths at a time; images of the paths ``keep`` (numbers).

    Raises :class:`UserError` for samples that are not finite, and as :func:`line`.
    """
    subject, rules = it.subject, it.config.evaluation
    at_once = max(1, batch_size // (frames + 1))
    how: dict[str, Any] = {"conversion": rules.to_uint8, "batch_size": max(batch_size, frames + 1)}
    steps, ends = [], []
    images: dict[int, Tensor] = {}
    starts = range(0, len(pairs), at_once)
    for start in Progress(starts, desc="paths", unit="batch", leave=False):
        some = pairs[start : start + at_once]
        w = torch.stack([line(subject.generator, pair, frames, rules.truncation, space) for pair in some])
        _check_finite(subject.generator, w[:, 0])
        flat = synthesize_path(subject.generator, subject.decoder, subject.scale, w.flatten(0, 1), **how).to(it.device)
        whole = flat.unflatten(0, (len(some), frames + 1))
        steps.append(steps_of(whole, distance, batch_size))
        ends.append(distance(whole[:, 0], whole[:, -1]).double().cpu())
        images |= {i: whole[i - start].cpu() for i in keep if start <= i < start + len(some)}
    return Steps(list(pairs), torch.cat(steps).numpy(), torch.cat(ends).numpy(), images)


def steps_of(images: Tensor, distance: PerceptualDistance, batch_size: int = BATCH) -> Tensor:
    """Distances (n, F - 1) from image to image, float64 on the CPU, of images (n, F, 3, P, P), uint8."""
    before, after = images[:, :-1].flatten(0, 1), images[:, 1:].flatten(0, 1)
    parts = zip(before.split(batch_size), after.split(batch_size), strict=True)
    return torch.cat([distance(a, b).double().cpu() for a, b in parts]).view(len(images), -1)


def _check_finite(generator: Generator, w: Tensor) -> None:
    if not bool(generator.synthesize(w)[-1].isfinite().all()):
        raise UserError("the generator's samples are not finite: the run has diverged, choose an earlier checkpoint")


def numbers_of(steps: NDArray[np.float64], ends: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """``NUMBERS`` (n,) of steps (n, F - 1) and distances (n,) of the ends; NaN for a path on which nothing changes."""
    totals, roots = steps.sum(axis=1), np.sqrt(steps).sum(axis=1)
    moves = totals > 0

    def over(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=moves)

    found = over(steps.max(axis=1), totals), over(ends, totals), over(np.sqrt(ends), roots)
    return dict(zip(NUMBERS, found, strict=True))


def rows_of(found: Steps) -> list[dict[str, Any]]:
    """A row per path: its kind and ends, the smallest, mean and largest step, where that is (from 0), and its numbers."""
    numbers = numbers_of(found.steps, found.ends)
    return [
        {
            "path": i,
            "kind": kind_of((first, last)),
            "class_from": first.label,
            "class_to": last.label,
            "seed_from": first.seed,
            "seed_to": last.seed,
            "ends": float(found.ends[i]),
            "step_min": float(steps.min()),
            "step_mean": float(steps.mean()),
            "step_max": float(steps.max()),
            "step_max_at": int(steps.argmax()),
        }
        | {name: float(values[i]) for name, values in numbers.items()}
        for i, ((first, last), steps) in enumerate(zip(found.pairs, found.steps, strict=True))
    ]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind that there is: ``paths`` averaged, those ``left_out``, and the numbers' means with their 95% intervals."""
    return [_mean_of(kind, some) for kind in KINDS if (some := [row for row in rows if row["kind"] == kind])]


def _mean_of(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    moving = [row for row in rows if not np.isnan(row["largest_step_share"])]
    found: dict[str, Any] = {"kind": kind, "paths": len(moving), "left_out": len(rows) - len(moving)}
    for name in NUMBERS:
        values = np.array([row[name] for row in moving])
        estimate = by_bootstrap(float(values.mean()), values) if len(moving) else None
        found[name] = estimate.value if estimate else None
        found[f"{name}_low"], found[f"{name}_high"] = estimate.interval if estimate else (None, None)
    return found
