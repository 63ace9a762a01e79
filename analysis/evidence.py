"""What a claim's tests look at: a sweep's table, and how a test ends."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEWEST_SEEDS = 2
HOLDS, FAILS, OPEN, NOT_RUN = "holds", "fails", "open", "not run"


@dataclass(frozen=True)
class Outcome:
    """Of one test: how it ended, and the numbers in words."""

    state: str
    told: str


@dataclass(frozen=True)
class Evidence:
    """A sweep's table, or a diagnostic's of its runs, and how its claim looks at it. ``study``: at which scale it was run."""

    table: pd.DataFrame
    metric: str
    confidence: float
    study: str
    at: str = "end"
    planned: int = FEWEST_SEEDS
    """Seeds that the claim plans: where it plans one, one is enough for a mean."""

    @property
    def column(self) -> str:
        """Of the metric."""
        return "distance" if self.metric == "frechet" else self.metric

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a distance, so that a diverged run is the worst there is."""
        return self.column == "distance"

    def ended(self, arm: str) -> pd.DataFrame:
        """Rows of the arm's finished and diverged runs."""
        rows = self.table[self.table["arm"] == arm]
        return rows[rows["status"].isin(["finished", "diverged"])]

    def diverged(self, arm: str) -> tuple[int, int]:
        """How many of the arm's seeds diverged, and how many ended."""
        status = self.ended(arm).groupby("seed")["status"].first()
        return int((status == "diverged").sum()), len(status)

    def values(self, arm: str, column: str | None = None) -> NDArray[np.float64]:
        """A column (None: the metric), one value per finished seed: at the end, or (``at`` steps) the geometric mean."""
        rows = self.ended(arm)
        rows = rows[rows["status"] == "finished"]
        name = column or self.column
        if self.at == "steps":
            logs = np.log(rows.set_index("seed")[name].dropna().astype(float))
            return np.exp(logs.groupby(level=0).mean().to_numpy(np.float64))
        return rows[rows["end"] == True][name].dropna().to_numpy(np.float64)  # noqa: E712  # the column holds gaps

    def rises(self, arm: str, column: str | None = None) -> NDArray[np.float64]:
        """How much a column rose from the first step that it is known at to the last; one value per finished seed."""
        rows = self.ended(arm)
        known = rows[rows["status"] == "finished"].dropna(subset=[column or self.column]).sort_values("step")
        seeds = known.groupby("seed")[column or self.column]
        return (seeds.last() - seeds.first()).to_numpy(np.float64)
