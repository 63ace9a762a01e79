"""Training with the authors' release and with ours: same prepared data, order, sizes, settings and evaluation.

The release starts from its own initial weights and draws from torch's global random state; ours is an ordinary run, in
``paths.runs``. If both compute the same thing, their distances differ no more than those of different seeds.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy import stats

from experiments.benchmarks import release
from experiments.benchmarks.tables import markdown, measured_by
from gat.config import Config
from gat.data.order import TrainingOrder
from gat.data.prepare import prepare
from gat.errors import UserError
from gat.evaluation.kinds import FRECHET
from gat.files import replacing, told
from gat.platform import choose_device
from gat.progress import Progress
from gat.training.check import check
from gat.training.evaluation import RunEvaluation
from gat.training.feed import Feed
from gat.training.noise import draw_noise
from gat.training.results import number_of_kind
from gat.training.run import run
from gat.training.run_folder import RunFolder
from gat.training.setup import augment_rates, network_dims

KEY = ["schedule", "seed", "code"]


def compare_training(config: Config, folder: str | None, study: str, out: Path, typed: Sequence[str]) -> None:
    """Train ``config`` with both codes, add the distances to the table of ``study`` in ``out``, and print its summary.

    Raises :class:`UserError` without a checkout of the release, for settings it lacks, or without evaluations.
    """
    if folder is None:
        raise UserError("benchmark.py release needs benchmark.release=FOLDER, a checkout of github.com/hse1032/GAT")
    if not config.evaluation.samples:
        raise UserError("evaluation.samples=0 measures nothing to compare: set e.g. evaluation=classifier2k")
    check(config)
    facts = {"schedule": config.objective.mng_schedule, "seed": config.training.seed}
    rows = [facts | {"code": "the release"} | row for row in train_release(config, folder)]
    rows += [facts | {"code": "ours"} | row for row in train_ours(config)]
    file = out / f"release-{study}.csv"
    table = merged(pd.read_csv(file) if file.exists() else None, pd.DataFrame(rows))
    text = (
        f"# Distances of the release and of ours, {study}\n\nLast command: {measured_by(typed)}\n\n{summary(table)}\n"
    )
    with told(f"benchmarks folder {out}", "measure again"):
        out.mkdir(parents=True, exist_ok=True)
        for place, content in ((file, table.to_csv(index=False)), (file.with_suffix(".md"), text)):
            with replacing(place) as stream:
                stream.write(content.encode())
    print(f"{text}\n{file}")


def train_ours(config: Config) -> list[dict[str, Any]]:
    """Train our run of ``config``, unless it has ended before; return step and distance of each evaluation."""
    run(config)
    folder = RunFolder(config)
    rows = []
    for line in folder.read_metrics():
        found = number_of_kind(line, FRECHET, folder.evaluation)
        if found is not None and line["step"] <= config.training.total_steps:
            rows.append({"step": line["step"], "distance": found[1]["value"]})
    return rows


def train_release(config: Config, folder: str) -> list[dict[str, Any]]:
    """Train the release's networks by its own step; return step and distance of each evaluation of the averaged generator."""
    training, device = config.training, choose_device(config.training.device)
    data = prepare(config.data, config.autoencoder, Path(config.paths.prepared), device, config.loader.workers)
    dims = network_dims(config, data, teacher_width=0)
    order = TrainingOrder(len(data), training.batch_size, training.seed_of("order"))
    feed = Feed(data, order, slice(0, training.batch_size), None, config.loader, device)
    torch.manual_seed(training.seed)
    theirs = release.build(folder, config, dims, device)
    rows = []
    with tempfile.TemporaryDirectory() as features:
        evaluation = RunEvaluation(config, data, device, folder=Path(features))
        for step in Progress(range(1, training.total_steps + 1), desc="the release"):
            noise = draw_noise(  # only the posterior's part is used, so that both see the same latents
                training.seed_of("noise"),
                step - 1,
                training.batch_size,
                dims[0],
                augment_rates(config.objective),
                device,
            )
            batch = feed.batch(step - 1, noise)
            theirs.step(batch.real, batch.labels)
            if step % training.eval_steps == 0 or step == training.total_steps:
                numbers = evaluation.numbers(theirs.averaged(), "the release", step)
                rows.append({"step": step, "distance": next(n.value for n in numbers if n.kind == FRECHET)})
    return rows


def merged(before: pd.DataFrame | None, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table with ``rows`` replacing those of the same schedule, seed and code."""
    if before is not None:
        again = before.set_index(KEY).index.isin(rows.set_index(KEY).index)
        rows = pd.concat([before[~again], rows])
    return rows.sort_values([*KEY, "step"], ignore_index=True)


def summary(table: pd.DataFrame) -> str:
    """Return Markdown: for each schedule, distances by step and the ratio of geometric means over the last third.

    The interval is Welch's at 95%, of logarithms over seeds; it needs two seeds of each code.
    """
    parts = []
    for schedule, rows in table.groupby("schedule"):
        by_step = rows.pivot_table(index=["code", "seed"], columns="step", values="distance").reset_index()
        late = rows[3 * rows["step"] > 2 * rows["step"].max()]
        means = late.assign(log=late["distance"].map(math.log)).groupby(["code", "seed"])["log"].mean()
        theirs, ours = (
            means[code] if code in means.index.get_level_values(0) else [] for code in ("the release", "ours")
        )
        parts.append(f"## objective.mng_schedule={schedule}\n\n{markdown(by_step)}")
        if min(len(theirs), len(ours)) > 1:
            interval = stats.ttest_ind(theirs, ours, equal_var=False).confidence_interval(0.95)
            low, high = math.exp(interval.low), math.exp(interval.high)
            parts.append(
                "Over the last third of the steps the release's distance is "
                f"{math.exp(theirs.mean() - ours.mean()):.2f} times ours ({low:.2f} to {high:.2f}; {len(theirs)} and "
                f"{len(ours)} seeds)."
            )
    return "\n\n".join(parts)
