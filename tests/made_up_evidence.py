"""Tables of runs for the tests of rules."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.evidence import Evidence
from analysis.rules import decide

SEEDS = 3


def runs(arm: str, values: list[float] | None, status: str = "finished", **columns: Any) -> list[dict[str, Any]]:
    """One row per seed at the end; None: diverged, without numbers."""
    given = values if values is not None else [np.nan] * SEEDS
    status = "diverged" if values is None else status
    end = {"step": 100, "end": status == "finished", "status": status}
    return [{"arm": arm, "seed": seed, "distance": value} | end | columns for seed, value in enumerate(given)]


def evidence(
    *groups: list[dict[str, Any]], metric: str = "frechet", study: str = "mini", at: str = "end", planned: int = SEEDS
) -> Evidence:
    return Evidence(pd.DataFrame([row for group in groups for row in group]), metric, 0.95, study, at, planned)


def state(test: dict[str, Any], given: Evidence) -> str:
    return decide(test, given).state


A, A2, B, NEAR = [10.0, 10.5, 9.5], [10.2, 9.8, 10.1], [20.0, 20.5, 19.5], [10.4, 9.9, 10.6]


def some_diverged(arm: str, lost: int) -> list[dict[str, Any]]:
    return runs(arm, A[: SEEDS - lost]) + [row | {"seed": 9 + row["seed"]} for row in runs(arm, None)[:lost]]
