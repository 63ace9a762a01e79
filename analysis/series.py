"""Which checkpoints a diagnostic looks at, and how it writes down what it found: one place for all commands that compare.

    checkpoints=all        every checkpoint of the run
    against=OTHER_RUN      a second run (or its checkpoints) after the first

A series is what was measured of one checkpoint. Those of the first run come first, by step, then those of the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from analysis.command import REMEDY, generator_facts, name_of
from analysis.opening import WHICH, Opened, checkpoints_of, opened, which
from gat.errors import require_choice
from gat.files import replacing, told, write_json

SEVERAL = WHICH | {
    "checkpoints": "all: of the run; last (default)",
    "against": "another run or checkpoint",
    "out": "folder to write into (default: analysis/ in the run's)",
}
Row = dict[str, Any]


class Measured(Protocol):
    """What one checkpoint gave."""

    @property
    def run(self) -> str:
        """Name of its run, or of the file."""
        ...

    @property
    def step(self) -> int | None:
        """Of training; None if that is not known."""
        ...

    @property
    def rows(self) -> list[Row]:
        """Of the table, without columns for run and step."""
        ...

    @property
    def place(self) -> Path:
        """The folder that holds analysis/ by default."""
        ...


@dataclass(frozen=True)
class Series:
    """The ``rows`` of one checkpoint, and the ``facts`` of its weights (:func:`analysis.command.generator_facts`)."""

    run: str
    step: int | None
    rows: list[Row]
    facts: dict[str, Any]
    place: Path
    """Where to write by default."""

    @property
    def name(self) -> str:
        """For legends and titles: the run, and its step and guidance if they are known."""
        guidance = self.facts["mng_schedule"]
        return self.run + ("" if guidance is None else f", step {self.step:,} (MNG: {guidance})")


def series_of(it: Opened, rows: list[Row]) -> Series:
    """What was measured of the opened weights."""
    return Series(name_of(it), it.pretrained.facts["step"], rows, generator_facts(it), it.pretrained.place)


def places(values: dict[str, str]) -> list[str]:
    """What the arguments ask for, in order; :class:`UserError` for an unknown choice, or a run without checkpoints."""
    require_choice("checkpoints", values.get("checkpoints", "last"), ("last", "all"))
    named = [which(values)] + ([values["against"]] if "against" in values else [])
    if values.get("checkpoints") == "all":
        return [str(file) for place in named for file in checkpoints_of(place)]
    return named


def each_opened(values: dict[str, str], device: torch.device) -> Iterator[Opened]:
    """Each of :func:`places`, opened when its turn comes. Raises :class:`UserError` as :func:`analysis.opening.opened`."""
    for place in places(values):
        yield opened(place, device, values)


def stem_of(name: str, values: dict[str, str], series: Sequence[Measured], checkpoint: str) -> Path:
    """Path of the files without suffix: another checkpoint, definition or comparison is another file.

    ``name``: of the command and what it was asked for, {} where the checkpoint comes; ``checkpoint``: the first one's file.
    """
    out = Path(values["out"]) if "out" in values else series[0].place / "analysis"
    which_one = "all" if values.get("checkpoints") == "all" else Path(checkpoint).stem
    against = f"-against-{series[-1].run}" if "against" in values else ""
    return out / f"{name.format(which_one)}{against}"


def write_table(stem: Path, series: Sequence[Measured], facts: dict[str, Any]) -> None:
    """Write ``stem``.csv, with columns for run and step, and ``stem``.json. :class:`UserError` if they cannot be written."""
    table = pd.DataFrame([{"run": one.run, "step": one.step} | row for one in series for row in one.rows])
    with told(f"analysis in {stem.parent}", REMEDY):
        stem.parent.mkdir(parents=True, exist_ok=True)
        with replacing(stem.with_name(f"{stem.name}.csv")) as stream:
            table.to_csv(stream, index=False)
        write_json(stem.with_name(f"{stem.name}.json"), facts)


def generators_in(series: Sequence[Series]) -> dict[str, Any]:
    """For the facts: the ``generator`` that was looked at, or the ``generators`` if there are several."""
    return {"generator": series[0].facts} if len(series) == 1 else {"generators": [one.facts for one in series]}


def unique(names: Sequence[str]) -> list[str]:
    """The names, with a number from the second time on, so that legends and colours tell them apart."""
    before = [names[:i].count(name) for i, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, before, strict=True)]


def by_run(series: Sequence[Measured]) -> list[list[int]]:
    """Places of the series of each run: a new one begins where the name changes or the step does not grow."""
    groups: list[list[int]] = []
    for i, one in enumerate(series):
        last = series[groups[-1][-1]] if groups else None
        if last and last.run == one.run and None not in (last.step, one.step) and (last.step or 0) < (one.step or 0):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
