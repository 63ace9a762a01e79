"""What a claim's tests look at: a sweep's table, and how a test ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.study.claims import LAST_THIRD
from experiments.study.power import level_at, sequential_p
from gat.errors import UserError

FEWEST_SEEDS = 2
HOLDS, FAILS, SAME, OPEN, SILENT, NOT_RUN = "holds", "fails", "equivalent", "open", "silent", "not run"
NO_VERDICT = "no verdict"  # at this scale
PARTLY_RUN = "partly run"
OF_STATUS = ("diverges", "trains", "boundary_slope", "best_slope", "monotone")
"""Tests that look at whether runs diverged, or that see for themselves which numbers there are."""


def last_third(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return finished runs' geometric means of ``distance`` over the evaluations of the last third of their steps.

    A run without a positive number at one of these evaluations, or at its end, has none: all must be means of the same.
    ``rows``: of one arm, with ``seed``, ``step`` and ``end``.
    """
    late = rows[in_last_third(rows)]
    distances = late["distance"].astype(float)
    late = late.assign(log=np.log(distances.where(np.isfinite(distances) & (distances > 0))))
    logs = late.pivot_table(index="seed", columns="step", values="log", dropna=False)
    return np.exp(logs.mean(axis=1, skipna=False).dropna()).to_numpy(np.float64)


def end_of(rows: pd.DataFrame) -> float:
    """Return the last step of those of an arm's runs that ended; NaN if none did."""
    return float(rows.loc[rows["end"] == True, "step"].max())  # noqa: E712  # the column holds gaps


def in_last_third(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which of an arm's rows lie in the last third of its steps."""
    return 3 * rows["step"] > 2 * end_of(rows)


@dataclass(frozen=True)
class Levels:
    """Smallest levels, shared by all looks, at which a comparison of arms holds, fails, or finds them equivalent."""

    ahead: float = 1.0
    behind: float = 1.0
    same: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """Of one test: how it ended, and the numbers in words."""

    state: str
    told: str
    levels: Levels | None = None
    """Of a comparison of arms; None for other tests."""


@dataclass(frozen=True)
class Evidence:
    """A sweep's table, or a diagnostic's of its runs, and how its claim looks at it. ``study``: at which scale it was run."""

    table: pd.DataFrame
    metric: str
    level: float
    """Confidence of its verdict."""
    study: str
    at: str = "end"
    planned: int = FEWEST_SEEDS
    """Seeds that the claim plans: fewer leave it open; where it plans one, one is enough for a mean."""
    measured: bool = False
    """Whether it is a diagnostic's: a column may then be absent because nobody measured it."""
    missing: Sequence[str] = ()
    """What is missing of the table, each in words that begin with the arm."""
    look: int = 0
    """Which of the ``looks`` this is, from 0."""
    looks: tuple[int, ...] = (1,)
    """Numbers of seeds at which the claim is looked at."""

    @property
    def alpha(self) -> float:
        """Return the level that all looks share."""
        return 1 - self.level

    @property
    def confidence(self) -> float:
        """Return the confidence of this look's intervals (repeated intervals: they hold together over all looks)."""
        return 1 - level_at(self.look, self.looks, self.alpha)

    def p_value(self, two_sided: float) -> float:
        """Return the smallest level, shared by all looks, at which this p-value decides."""
        return sequential_p(two_sided, self.look, self.looks)

    def compared(self, arm: str) -> NDArray[np.float64]:
        """Return what arms are compared by: logarithms of distances, other metrics as they are."""
        return np.log(self.values(arm)) if self.lower_is_better else self.values(arm)

    def windows_differ(self, first: str, second: str) -> str:
        """Return a reason if the arms' evaluations in the last third lie at different shares of their runs; else empty.

        Distances fall in training, so means over different parts of a run are not comparable.
        """
        if self.at != LAST_THIRD or not self.lower_is_better:
            return ""
        parts = []
        for arm in (first, second):
            rows = self.ended(arm).dropna(subset=["distance"])
            late = rows.loc[in_last_third(rows), "step"]
            parts.append(sorted((late / end_of(rows)).round(6).unique()))
        return (
            "" if parts[0] == parts[1] else f"{first} and {second} were not evaluated at the same parts of their length"
        )

    @property
    def column(self) -> str:
        """Return the column of the metric."""
        return "distance" if self.metric == "frechet" else self.metric

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a distance, so that a diverged run is the worst there is."""
        return self.column == "distance"

    @property
    def arms(self) -> list[str]:
        """All there are."""
        return sorted(set(self.table["arm"]))

    def without(self, *columns: str) -> str:
        """In words, if a diagnostic's table lacks one of ``columns``; :class:`UserError` if a sweep's does."""
        lacking = [name for name in (*columns, "end") if name not in self.table]
        if lacking and not self.measured:
            raise UserError(f"its table lacks the column {lacking[0]}: python experiments/collect.py makes it anew")
        return f"no {lacking[0]} was measured" if lacking else ""

    def ended(self, arm: str) -> pd.DataFrame:
        """Rows of the arm's finished and diverged runs."""
        rows = self.table[self.table["arm"] == arm]
        return rows[rows["status"].isin(["finished", "diverged"])]

    def told_absent(self, arm: str) -> str:
        """An arm without an ended run, with what became of its runs."""
        rows = self.table[self.table["arm"] == arm].drop_duplicates("seed")
        counts = ", ".join(f"{count} {status}" for status, count in rows["status"].value_counts().items())
        return f"{arm} ({counts})" if counts else arm

    def diverged(self, arm: str) -> tuple[int, int]:
        """How many of the arm's seeds diverged, and how many ended."""
        status = self.ended(arm).groupby("seed")["status"].first()
        return int((status == "diverged").sum()), len(status)

    def values(self, arm: str, column: str | None = None) -> NDArray[np.float64]:
        """A column (None: the metric), one value per finished seed: at the end, or a geometric mean.

        ``at`` says of what: of the last third of the evaluations (of a distance) or of all logged ``steps``. Steps at which
        nothing changed, or that are not finite, have no logarithm and are left out of the latter.
        """
        rows = self.ended(arm)
        rows = rows[rows["status"] == "finished"]
        name = column or self.column
        if self.at == "steps":
            values = rows.set_index("seed")[name].astype(float)
            logs = np.log(values[np.isfinite(values) & (values > 0)])
            return np.exp(logs.groupby(level=0).mean().to_numpy(np.float64))
        if self.at == LAST_THIRD and name == "distance":
            return last_third(rows)
        values = rows[rows["end"] == True].drop_duplicates("seed")[name].astype(float)  # noqa: E712  # the column holds gaps
        known = np.isfinite(values) & ((values > 0) | (name != "distance"))
        return values[known].to_numpy(np.float64)

    def rises(self, arm: str, column: str | None = None) -> NDArray[np.float64]:
        """How much a column rose from the first step that any seed knows it at to the end; one value per seed with both."""
        rows, name = self.ended(arm), column or self.column
        known = rows[rows["status"] == "finished"].dropna(subset=[name])
        first = known[known["step"] == known["step"].min()].set_index("seed")[name]
        last = known[known["end"] == True].set_index("seed")[name]  # noqa: E712  # the column holds gaps
        return (last - first).dropna().to_numpy(np.float64)

    def numbers(self, kind: str, arm: str, column: str) -> int:
        """Of how many ended seeds of the arm a test of this kind has what it looks at: a number, or that it diverged."""
        lost, ended = self.diverged(arm)
        if kind in OF_STATUS:
            return ended
        values = self.rises(arm, column) if kind == "rises" else self.values(arm, column)
        return min(ended, lost + len(values))

    def missing_of(self, arms: Sequence[str]) -> list[str]:
        """What is missing of these arms."""
        return [what for what in self.missing if any(what.startswith(f"{arm}, seed ") for arm in arms)]
