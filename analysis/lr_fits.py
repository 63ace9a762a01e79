"""What sweeps say of the learning rate and the width: changes per step, largest and best rates, and their slopes.

The definitions stand in analysis/lr_width.py, which draws them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.drawing import confidence_of, left_out_of, lost_of, positive
from analysis.fits import Fit, fitted
from analysis.paper import number
from analysis.scaling import ends
from analysis.slopes import INSIDE, Chosen, Points, best, grid_step_of, largest
from analysis.tables import Table

CHANGES = {"g_output_change": "generator_width", "d_output_change": "discriminator_width"}
RATES = {"fixed": "log-log slope of output change", "rule": "the same under the rule"}
DECIDING = ("S", "B")
WIDTH, RATE = "generator_width", "lr_g"
CHOSEN: dict[str, Chosen] = {"largest trainable rate": largest, "best rate": best}


@dataclass(frozen=True)
class Rate:
    """What a seed's runs at one width say of a learning rate."""

    width: float
    seed: int
    rate: float
    edge: str
    """As :func:`analysis.slopes.largest` and ``best`` say."""


def changes_of(table: Table, change: str) -> pd.DataFrame:
    """Of each arm and seed of update_size: how its rate is set, size, width, and the geometric mean of the change."""
    rows = table.ended[positive(table.ended[change]).notna()]
    logs = rows.assign(change=np.log(rows[change]), how=rows["arm"].str.split(",").str[0])
    found = logs.groupby(["arm", "how", "size", CHANGES[change], "seed"], as_index=False)["change"].mean()
    lost = found["arm"].map(lost_of(table)).fillna(0).astype(int)
    return found.rename(columns={CHANGES[change]: "width"}).assign(change=np.exp(found["change"]), lost=lost)


def change_points(found: pd.DataFrame, how: str, sizes: tuple[str, ...] | None = None) -> Points:
    """Logarithms by width, of arms without a diverged seed."""
    rows = found[(found["how"] == how) & (found["lost"] == 0)]
    rows = rows[rows["size"].isin(sizes)] if sizes else rows
    return {float(width): np.log(one["change"].to_numpy(np.float64)) for width, one in rows.groupby("width")}


def change_fits(table: Table, change: str) -> dict[str, tuple[Fit, Fit]]:
    """Slopes by how the rate is set: of S and B, and of all."""
    found, confidence, left_out = changes_of(table, change), confidence_of(table), left_out_of(table)

    def fit(how: str, sizes: tuple[str, ...] | None) -> Fit:
        what = f"slope of {change} over width, {how} rate, {'S and B' if sizes else 'all sizes'}"
        paper, points = number("update_size", RATES[how]), change_points(found, how, sizes)
        return fitted(what, points, confidence, by_t=True, fewest=2, paper=paper, left_out=left_out)

    return {how: (fit(how, DECIDING), fit(how, None)) for how in RATES}


def rates_of(table: Table, what: str) -> list[Rate]:
    """The chosen rate of each width and seed."""
    groups = ends(table).groupby([WIDTH, "seed"])
    return [Rate(float(width), int(seed), *CHOSEN[what](runs, RATE)) for (width, seed), runs in groups]


def rate_points(rates: list[Rate]) -> tuple[Points, list[str]]:
    """Logarithms by width of rates inside the grid, and the widths that are left out, in words."""
    points: Points = {}
    left_out = []
    for width in sorted({rate.width for rate in rates}):
        here = [rate for rate in rates if rate.width == width]
        inside: NDArray[np.float64] = np.array([rate.rate for rate in here if rate.edge == INSIDE])
        if len(inside) == len(here):
            points[width] = np.log(inside)
        else:
            left_out.append(f"width {width:g}: {len(here) - len(inside)} of {len(here)} seeds at the grid's edge")
    return points, left_out


def rate_fit(table: Table, what: str) -> Fit:
    """Slope of the chosen rate against width."""
    points, left_out = rate_points(rates_of(table, what))
    paper = number("lr_grid", f"log-log slope of the {what}")
    step = grid_step_of(table.ended, {"x": WIDTH, "over": RATE})
    how: dict[str, Any] = {"paper": paper, "left_out": left_out, "grid_step": step}
    return fitted(f"slope of the {what} over width", points, confidence_of(table), by_t=True, **how)
