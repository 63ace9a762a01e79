"""Fréchet distance over training: ``python analysis/fid_curves.py [run=FOLDER | sweep=NAME] [name=value ...]``.

    run=FOLDER | checkpoint=PATH   a run's curve, into its analysis/; without it that of the newest finished run under runs/
                                   (or runs=FOLDER)
    sweep=NAME study=mini          of a sweep's table, into results/STUDY/figures/ (or results=FOLDER)
    arms=A;B                       of these alone (of a sweep; default: all)
    x=images|step                  against images seen (default) or iterations
    allow_partial=true             draw a sweep with missing runs, and print these on the figure
    out=FOLDER                     another folder to write into

analysis/curves.py says what the lines are. The distance has the name it was measured under, and is called FID only if it is
that. The paper's curves stand beside a sweep's (grey, dashed) only where protocol and data are the same (analysis/paper.py);
a single run stands alone, as nothing says that it is of the paper's recipe.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.command import run_command
from analysis.curves import X_NAMES, draw_curves, name_of_distance
from analysis.drawing import KNOWN as OF_SWEEP
from analysis.drawing import finish, partial_of, source_of
from analysis.opening import which
from analysis.style import legend_below, panels, save
from analysis.tables import Table, read_table
from gat.errors import UserError, require_choice
from gat.evaluation.kinds import FRECHET
from gat.training.results import METRICS, any_record, number_of_kind, read_metrics, read_protocols

KNOWN = OF_SWEEP | {
    "run": "a run's folder",
    "checkpoint": "a run's folder or one of its checkpoints, whose run is taken",
    "runs": "folder whose newest finished run is taken if neither run= nor sweep= is given (default: runs)",
    "sweep": "name of a sweep",
    "arms": "of the sweep, separated by ; (default: all)",
    "x": "images or step (default: images)",
    "out": "folder to write into",
}


def table_of_run(folder: Path) -> Table:
    """The evaluations of one run, ended or under way, as a table of one arm; :class:`UserError` if there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such run: give run=FOLDER")
    lines = [(line, found) for line in read_metrics(folder) if (found := number_of_kind(line, FRECHET))]
    record = any_record(folder) or {}
    if not lines:
        raise UserError(f"{folder}: no evaluation in its metrics: set training.eval_steps, or give another run=FOLDER")
    rows = [
        {
            "arm": folder.resolve().name,
            "seed": record.get("seed", 0),
            "status": record.get("status", "running"),
            "step": line["step"],
            "images": line["images"],
            "batch_size": line["images"] / line["step"],
            "distance": distance["value"],
            "distance_name": name,
            "protocol": distance["protocol"],
            "diverged_step": (record.get("diverged") or {}).get("step"),
        }
        for line, (name, distance) in lines
    ]
    return Table("", folder.resolve().name, pd.DataFrame(rows), {"protocols": read_protocols(folder)})


def run_of(values: dict[str, str]) -> Path:
    """The run's folder that arguments name, itself or by a checkpoint in it; :class:`UserError` if they name two."""
    place = Path(which(values, needs_checkpoint=False))
    if "checkpoint" not in values or place.is_dir():
        return place
    for folder in place.parents[:2]:
        if (folder / METRICS).is_file():
            return folder
    raise UserError(f"checkpoint={place}: lies in no run's folder, so that its curve is not known: give run=FOLDER")


def draw_run(values: dict[str, str]) -> list[str]:
    """One run's curve; lines for the terminal."""
    folder = run_of(values)
    table = table_of_run(folder)
    figure, (axes,) = panels(1)
    draw_curves(axes, table, paper=False, x=x_of(values))
    axes.set_title(table.sweep)
    files = save(figure, Path(values.get("out", folder / "analysis")) / "fid_curves")
    last = table.rows.iloc[-1]
    return [f"{name_of_distance(table)} {last['distance']:.4g} at step {last['step']:,}", *map(str, files)]


def draw_sweep(values: dict[str, str]) -> list[str]:
    """Curves of a sweep's arms; lines for the terminal."""
    source, sweep, partial = source_of(values), values["sweep"], partial_of(values)
    table = read_table(source.results, source.study, sweep)
    source.gaps += table.gaps
    arms = values["arms"].split(";") if "arms" in values else None
    if unknown := sorted(set(arms or ()) - set(table.arms)):
        raise UserError(f"arms={';'.join(unknown)}: {sweep} has {', '.join(table.arms)}")
    figure, (axes,) = panels(1, width_in=7.0, height_in=4.6)
    draw_curves(axes, table, arms=arms, x=x_of(values))
    axes.set_title(f"{sweep} ({source.study})")
    legend_below(figure, axes, 3)
    out = Path(values.get("out", source.results / source.study / "figures"))
    return [*map(str, finish(figure, source, out / f"fid_curves-{sweep}", allow_partial=partial))]


def x_of(values: dict[str, str]) -> Any:
    """Argument ``x``."""
    require_choice("x", values.get("x", "images"), tuple(X_NAMES))
    return values.get("x", "images")


def draw(values: dict[str, str]) -> list[str]:
    """A run or a sweep; :class:`UserError` for both at once."""
    if named := [name for name in ("run", "checkpoint") if name in values and "sweep" in values]:
        raise UserError(f"{named[0]}= and sweep= are both given: give one")
    return draw_sweep(values) if "sweep" in values else draw_run(values)


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, draw)


if __name__ == "__main__":
    main()
