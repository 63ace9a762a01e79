"""What a distance scatters by between runs, and by which seeds: ``python analysis/seed_noise.py [study=nano]``.

Reads ``results/STUDY/seed_noise.csv`` (sweep ``seed_noise``) and writes ``seed_noise-scatter.csv`` beside it: for each arm,
at each evaluation and for the mean over the last third of them (of the logarithms), the geometric mean of the distance, the
standard deviation of its logarithm over seeds (about the coefficient of variation) with a 95% interval (chi-squared), and the
part of it that is the draw of the samples (from the distances' own intervals). It prints what numbers of seeds can find.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis.command import REMEDY, run_command
from analysis.evidence import last_third
from analysis.tables import read_table
from experiments.study.power import detectable, seeds_for
from gat.errors import UserError
from gat.files import replacing, told

SWEEP = "seed_noise"
KNOWN = {"study": "whose table (default: nano)", "results": "folder of tables (default: results)"}
LEVEL, WIDTHS_OF_95 = 0.95, 2 * 1.959964
LAST_THIRD = "last third"
SEEDS, EFFECTS = (3, 5, 8, 10), (0.05, 0.1, 0.2, 0.4)


def scatter_of(logs: Iterable[float]) -> tuple[float, float, float]:
    """Return the standard deviation of at least two values, and its 95% interval (of normal values, by chi-squared)."""
    values = np.asarray(list(logs), np.float64)
    freedom, sd = len(values) - 1, float(values.std(ddof=1))
    low, high = (math.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
    return sd, sd * low, sd * high


def scatters(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm and window of evaluations ``rows`` of finished runs (arm, seed, step, distance, bounds)."""
    rows = rows.assign(log=np.log(rows["distance"]))
    rows["sampling"] = (np.log(rows["distance_high"]) - np.log(rows["distance_low"])) / WIDTHS_OF_95
    steps = sorted(rows["step"].unique())
    last = [step for step in steps if 3 * step > 2 * steps[-1]]
    windows: dict[str, list[int]] = {str(step): [step] for step in steps} | {LAST_THIRD: last}
    found = []
    for arm, own in rows.groupby("arm", sort=False):
        for window, chosen in windows.items():
            inside = own[own["step"].isin(chosen)].groupby("seed")
            logs = np.log(last_third(own)) if window == LAST_THIRD else inside["log"].mean()
            if len(logs) < 2:
                continue
            sd, low, high = scatter_of(logs)
            sampling = math.sqrt(float((inside["sampling"].mean() ** 2).mean() / len(chosen)))
            found.append(
                {"arm": arm, "window": window, "seeds": len(logs), "distance": math.exp(logs.mean())}
                | {"sd_log": sd, "sd_low": low, "sd_high": high, "sampling_sd_log": sampling}
            )
    return pd.DataFrame(found)


def measure(values: dict[str, str]) -> list[str]:
    """Measure and write the scatter; returns lines for the terminal. Raises :class:`UserError` for a table without runs."""
    results, study = Path(values.get("results", "results")), values.get("study", "nano")
    table = read_table(results, study, SWEEP)
    rows = table.ended
    rows = rows[(rows["status"] == "finished") & rows["distance"].notna()] if "distance" in rows else rows[:0]
    if rows.empty:
        raise UserError(f"{study}/{SWEEP}: no finished run has a distance: run the sweep, then experiments/collect.py")
    found = scatters(rows)
    file = results / study / f"{SWEEP}-scatter.csv"
    with told(f"table {file}", REMEDY), replacing(file) as stream:
        found.to_csv(stream, index=False, float_format="%.6g")
    lines = [found.to_string(index=False, float_format=lambda value: f"{value:.4g}"), str(file)]
    everything = found[(found["arm"] == "all") & (found["window"] == LAST_THIRD)]
    for sd in everything["sd_log"]:
        effects = ", ".join(f"{n}: {detectable(sd, n):.3f}" for n in SEEDS)
        needs = ", ".join(f"{effect:g}: {seeds_for(effect, sd)}" for effect in EFFECTS)
        lines += [f"smallest log ratio that so many seeds per arm find (power 0.8): {effects}"]
        lines += [f"seeds per arm for a log ratio of: {needs}"]
    return lines


def main() -> None:
    """Run the command."""
    run_command(__doc__, KNOWN, measure)


if __name__ == "__main__":
    main()
