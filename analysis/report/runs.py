"""Every run once, over all tables that have it, and what its computing cost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import ENDED, Table

SHOWN = ("size", "patch", "batch_size")
"""Settings with a column of their own."""
SIZES = ("generator_width", "discriminator_width", "generator_parameters", "discriminator_parameters")
SECONDS_PER_HOUR = 3600.0
COMMIT_DIGITS = 9


@dataclass
class Run:
    """A run: which arm of which sweep it is, and the last row about it."""

    name: str
    uses: list[tuple[str, str]]
    """Sweep and arm."""
    values: dict[str, Any] = field(default_factory=dict)
    """By column, without gaps."""

    @property
    def status(self) -> str:
        """As in its table."""
        return str(self.values.get("status", "unknown"))

    @property
    def detail(self) -> str:
        """Why it diverged or failed."""
        step = self.values.get("diverged_step")
        since = "" if step is None else f"from step {step:,.0f}"
        return ": ".join(part for part in (since, str(self.values.get("detail", ""))) if part)

    @property
    def distance(self) -> float | None:
        """At the end; a run that did not finish has none."""
        return self.values.get("distance") if self.values.get("end") == True else None  # noqa: E712  # numpy's too

    @property
    def measure(self) -> tuple[str, str] | None:
        """Name and protocol of the distance at the end."""
        if self.distance is None:
            return None
        return str(self.values.get("distance_name", "distance")), str(self.values.get("protocol", ""))

    @property
    def hours(self) -> float | None:
        """Hours of all its processes together; None for a run that has not ended."""
        seconds = self.values.get("seconds")
        return None if seconds is None else float(seconds) * float(self.values.get("processes", 1)) / SECONDS_PER_HOUR

    @property
    def commit(self) -> str | None:
        """The code that wrote its record, shortened."""
        commit = self.values.get("git_commit")
        return None if commit is None else str(commit)[:COMMIT_DIGITS]

    @property
    def dirty(self) -> bool:
        """Whether the files differed from the commit."""
        return str(self.values.get("git_dirty")).lower() in ("true", "1", "1.0")

    @property
    def ended_at(self) -> datetime | None:
        """When, in UTC."""
        moment = pd.to_datetime(self.values.get("ended_at"), utc=True, errors="coerce")
        return None if pd.isna(moment) else moment.to_pydatetime()

    @property
    def settings(self) -> dict[str, Any]:
        """Those without a column, and its sizes."""
        from experiments.study.records import SETTINGS  # it imports torch

        names = [name for name in (*SETTINGS, *SIZES) if name not in SHOWN]
        return {name: self.values[name] for name in names if name in self.values}

    def own(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Its settings less those that it shares with all."""
        return {name: value for name, value in self.settings.items() if name not in shared}

    @property
    def rank(self) -> tuple[bool, bool]:
        """Of two tables' words about it those of the higher rank are used: it ended, its distance is there."""
        return self.status in ENDED, self.distance is not None


def runs_of(tables: Iterable[Table]) -> list[Run]:
    """Every run of the tables once (by its folder), in the order in which they name it."""
    found: dict[str, Run] = {}
    for table in tables:
        for run in runs_in(table):
            known = found.setdefault(run.name, run)
            if known is run:
                continue
            known.uses += run.uses
            if run.rank > known.rank:
                known.values = run.values
    return list(found.values())


def runs_in(table: Table) -> list[Run]:
    """The runs of one table."""
    runs = []
    for _, rows in table.rows.groupby(run_names(table), sort=False):
        ordered = rows.sort_values("step", kind="stable") if "step" in rows else rows
        last = ordered.iloc[-1].items()
        values = {str(name): value for name, value in last if not pd.isna(value)}
        use = (table.sweep, str(values.get("arm", "")))
        name = str(values.get("run") or f"{table.study}: {' '.join(use)}, seed {number_text(values.get('seed'))}")
        runs.append(Run(name, [use], values))
    return runs


def run_names(table: Table) -> pd.Series:
    """A key of each row's run: its folder, or where that is not known its arm and seed."""
    rows = table.rows
    parts = [rows[name].astype(str) if name in rows else pd.Series("", rows.index) for name in ("arm", "seed")]
    instead = parts[0] + ", seed " + parts[1]
    return rows["run"].where(rows["run"].notna(), instead) if "run" in rows else instead


def total_hours(runs: Iterable[Run]) -> float:
    """Of all that have ended."""
    return sum(run.hours or 0.0 for run in runs)


def shared_settings(runs: Sequence[Run]) -> dict[str, Any]:
    """Settings that all runs with a record have in common."""
    known = [run.settings for run in runs if run.settings]
    first = known[0] if known else {}
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in known)}


def commits_of(runs: Iterable[Run]) -> list[tuple[str, bool, int]]:
    """Commits, whether the files differed from them, and of how many runs; the most used first."""
    counts = Counter((run.commit, run.dirty) for run in runs if run.commit)
    return [(commit, dirty, count) for (commit, dirty), count in counts.most_common() if commit]


def hardware_of(runs: Iterable[Run]) -> list[tuple[str, int]]:
    """Hardware, and of how many runs; the most used first."""
    return Counter(str(run.values["hardware"]) for run in runs if "hardware" in run.values).most_common()


def newest(runs: Iterable[Run]) -> datetime | None:
    """When the newest run ended."""
    return max((moment for run in runs if (moment := run.ended_at)), default=None)


def number_text(value: Any, digits: int = 4) -> str:
    """A number for readers: whole ones in full, others with so many digits; anything else as it is; None is n/a."""
    if value is None:
        return "n/a"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return str(value)
    if float(value).is_integer():
        return f"{int(float(value)):,}"
    return f"{float(value):.{digits}g}"
