"""Made-up tables of update_size, lr_grid and lr_crosscheck, with planted slopes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.tables import Source, Table, read_table
from tests.made_up import run_rows, write_results

WIDTHS = {"S": 64, "B": 128, "L": 160, "XL": 192}
SEEDS = (0, 1, 2)
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def change_rows(scatter: float = 0.0, extra: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Change 2 at width 64 as half and twice that in two steps; ``extra``: factors by size; ``scatter``: of seeds' logs."""
    rows = []
    for how, power in (("rule", 0), ("fixed", 1)):
        for size, width in WIDTHS.items():
            for seed in SEEDS:
                value = 2.0 * (width / 64) ** power * (extra or {}).get(size, 1.0) * np.exp(scatter * (seed - 1))
                for step in (1, 2):
                    (row,) = run_rows(f"{how},size={size}", seed, {step: 0.0}, size=size)
                    widths = {"generator_width": width, "discriminator_width": width}
                    change = {"g_output_change": value * 4.0**step / 8, "d_output_change": 1.0}
                    rows.append(row | widths | change | {"distance": None, "protocol": None, "distance_name": None})
    return rows


def grid_rows(limit: float = 0.03, optimum: float = 0.006, lucky: Iterable[int] = ()) -> list[dict[str, Any]]:
    """Rates above limit x 64 / width diverge (twice that for seeds ``lucky``); the distance is least at the optimum."""
    rows = []
    for size, width in WIDTHS.items():
        for multiple in MULTIPLES:
            for seed in SEEDS:
                rate = 0.0024 * 64 / width * multiple
                lost = rate > limit * 64 / width * (2 if seed in set(lucky) else 1)
                distance = 100 + 10 * abs(np.log2(rate / (optimum * 64 / width)))
                columns: dict[str, Any] = {
                    "size": size,
                    "generator_width": width,
                    "lr_g": rate,
                    "lr_multiple": multiple,
                }
                curve, at = ({}, 20) if lost else ({50: 2 * distance, 100: distance}, None)
                rows += run_rows(f"size={size},lr_multiple={multiple}", seed, curve, diverged_step=at, **columns)
    return rows


def check_rows() -> list[dict[str, Any]]:
    arms = {"S": 50.0, "B": 40.0, "S_at_rate_of_B": 60.0}
    rows = [row for arm, end in arms.items() for seed in SEEDS for row in run_rows(arm, seed, {50: 2 * end, 100: end})]
    return rows + [row for seed in SEEDS for row in run_rows("B_at_rate_of_S", seed, {50: 90.0}, diverged_step=70)]


def table_of(folder: Path, sweep: str, rows: Iterable[dict[str, Any]]) -> Table:
    write_results(folder, sweep, rows)
    return read_table(folder, "mini", sweep)


def whole(folder: Path, **grid: Any) -> Source:
    write_results(folder, "update_size", change_rows(0.05))
    write_results(folder, "lr_grid", grid_rows(**grid))
    write_results(folder, "lr_crosscheck", check_rows())
    return Source(folder, "mini")
