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
    """A sweep's table, and how its claim looks at it. ``study``: at which scale it was run."""

    table: pd.DataFrame
    metric: str
    confidence: float
    study: str

    @property
    def column(self) -> str:
        """Of the metric."""
        return "distance" if self.metric == "frechet" else self.metric

    def ended(self, arm: str) -> pd.DataFrame:
        """Rows of the arm's finished and diverged runs."""
        rows = self.table[self.table["arm"] == arm]
        return rows[rows["status"].isin(["finished", "diverged"])]

    def diverged(self, arm: str) -> tuple[int, int]:
        """How many of the arm's seeds diverged, and how many ended."""
        status = self.ended(arm).groupby("seed")["status"].first()
        return int((status == "diverged").sum()), len(status)

    def values(self, arm: str, column: str | None = None) -> NDArray[np.float64]:
        """The metric, one value per finished seed: at the end, or, where it is looked at step by step, the geometric mean."""
        rows = self.ended(arm)
        rows = rows[rows["status"] == "finished"]
        name = column or self.column
        if name in ("distance", "reconstruction_distance"):
            rows = rows[rows["end"] == True]  # noqa: E712  # the column holds gaps
            return rows[name].dropna().to_numpy(np.float64)
        logs = np.log(rows.set_index("seed")[name].dropna().astype(float))
        return np.exp(logs.groupby(level=0).mean().to_numpy(np.float64))
