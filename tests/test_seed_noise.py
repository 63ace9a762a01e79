"""The scatter over seeds: by hand, its interval by simulation, and the command."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.seed_noise import LAST_THIRD, measure, scatter_of, scatters
from gat.errors import UserError
from tests.made_up import run_rows, write_results


def rows_of(arm: str, curves: list[dict[int, float]]) -> pd.DataFrame:
    rows = [row for seed, curve in enumerate(curves) for row in run_rows(arm, seed, curve)]
    table = pd.DataFrame(rows)
    return table.assign(
        distance_low=table["distance"] * math.exp(-0.02), distance_high=table["distance"] * math.exp(0.02)
    )


def test_scatter_by_hand() -> None:
    e = math.e
    curves = [{100: e**3, 200: e**2, 300: e}, {100: e**5, 200: e**2, 300: e**2}]
    found = scatters(rows_of("all", curves)).set_index("window")
    assert found.loc["100", "distance"] == pytest.approx(e**4)
    assert found.loc["100", "sd_log"] == pytest.approx(math.sqrt(2))
    assert found.loc["200", "sd_log"] == 0
    assert found.loc[LAST_THIRD, "sd_log"] == found.loc["300", "sd_log"] == pytest.approx(math.sqrt(0.5))
    assert found.loc["300", "sampling_sd_log"] == pytest.approx(0.02 / 1.959964)


def test_mean_over_the_last_third_is_taken_run_by_run() -> None:
    curves = [{k: math.exp(k + s * (-1) ** k) for k in range(1, 7)} for s in (0.0, 1.0)]  # 5 and 6 cancel
    found = scatters(rows_of("all", curves)).set_index("window")
    assert found.loc[LAST_THIRD, "distance"] == pytest.approx(math.exp(5.5))
    assert found.loc[LAST_THIRD, "sd_log"] == pytest.approx(0, abs=1e-12)
    assert found.loc[LAST_THIRD, "sampling_sd_log"] == pytest.approx(0.02 / 1.959964 / math.sqrt(2))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    bounds = [scatter_of(rng.normal(0, 0.15, 8))[1:] for _ in range(4000)]
    covered = np.mean([low <= 0.15 <= high for low, high in bounds])
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4000))


def test_the_command(tmp_path: Path) -> None:
    given = {"results": str(tmp_path), "study": "nano"}
    curves = [{100: 50.0 * math.exp(0.1 * k), 200: 20.0 * math.exp(0.1 * k)} for k in (-1, 0, 1)]
    rows = rows_of("all", curves).to_dict("records")
    write_results(tmp_path, "seed_noise", rows, study="nano", claim=None)
    lines = measure(given)
    table = pd.read_csv(tmp_path / "nano" / "seed_noise-scatter.csv")
    assert table["sd_log"].tolist() == pytest.approx([0.1] * 3)
    assert "0.1: 17" in lines[-1]
    write_results(tmp_path, "seed_noise", [row | {"status": "failed"} for row in rows], study="nano", claim=None)
    with pytest.raises(UserError, match="no finished run has a distance"):
        measure(given)
