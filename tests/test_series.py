"""Which checkpoints are asked for, what their files are called, and how they look in a figure."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from analysis import style
from analysis.series import (
    Row,
    Series,
    by_run,
    each_opened,
    generators_in,
    places,
    series_of,
    stem_of,
    unique,
    write_table,
)
from analysis.series_figure import comparison, draw_intervals, looks
from gat.errors import UserError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Made:
    """Without weights."""

    run: str
    step: int | None
    place: Path = Path()

    @property
    def rows(self) -> list[Row]:
        return [{"value": self.step}]


def test_what_is_asked_for(trained: Path) -> None:
    run = f"{trained}/run"
    both = [f"{run}/checkpoints/step-0000000{step}.safetensors" for step in (2, 4)]
    assert places({"run": run}) == [run]
    assert places({"run": run, "checkpoints": "last", "against": "other.pt"}) == [run, "other.pt"]
    assert places({"run": run, "checkpoints": "all"}) == both
    assert places({"run": run, "checkpoints": "all", "against": run}) == [*both, *both]
    with pytest.raises(UserError, match="checkpoints='2' is unknown: choose one of last, all"):
        places({"run": run, "checkpoints": "2"})
    with pytest.raises(UserError, match=r"other: has no checkpoints/step-\*.safetensors: give a run's folder"):
        places({"run": run, "checkpoints": "all", "against": f"{trained}/other"})


def test_series_know_their_steps(trained: Path) -> None:
    values = {"run": f"{trained}/run", "checkpoints": "all"}
    series = [series_of(it, []) for it in each_opened(values, CPU)]
    assert [(one.run, one.step) for one in series] == [("run", 2), ("run", 4)]
    assert series[1].name == "run, step 4 (MNG: exponential)"
    assert [one["step"] for one in generators_in(series)["generators"]] == [2, 4]
    assert generators_in(series[:1])["generator"]["step"] == 2
    assert series[0].place == trained / "run"


def test_a_release_has_only_its_name() -> None:
    assert Series("gat.pt", None, [], {"mng_schedule": None}, Path()).name == "gat.pt"


def test_names_of_files(tmp_path: Path) -> None:
    series = [Made("a", 2, tmp_path), Made("b", 3, tmp_path / "b")]
    file = "checkpoints/step-00000002.safetensors"
    assert stem_of("x-{}-y", {}, series[:1], file) == tmp_path / "analysis/x-step-00000002-y"
    values = {"checkpoints": "all", "against": "folder/b", "out": "here"}
    assert stem_of("x-{}-y", values, series, file) == Path("here/x-all-y-against-b")


def test_the_table_names_run_and_step(tmp_path: Path) -> None:
    write_table(tmp_path / "new/x-1.5", [Made("a", 2), Made("b", 3)], {"n": 1})
    table = pd.read_csv(tmp_path / "new/x-1.5.csv")
    assert table.to_dict("list") == {"run": ["a", "b"], "step": [2, 3], "value": [2, 3]}
    assert json.loads((tmp_path / "new/x-1.5.json").read_text()) == {"n": 1}
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="analysis in .*file: cannot be written .*; then start the same command again"):
        write_table(tmp_path / "file/x", [Made("a", 2)], {})


def test_names_are_told_apart() -> None:
    assert unique(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


@pytest.mark.parametrize(
    ("series", "runs"),
    [
        ([("a", 2), ("a", 4), ("b", 2), ("b", 4)], [[0, 1], [2, 3]]),
        ([("a", 2), ("a", 4), ("a", 2), ("a", 4)], [[0, 1], [2, 3]]),  # another folder of the same name
        ([("a", 4), ("a", 4)], [[0], [1]]),
        ([("a.pt", None), ("a.pt", None)], [[0], [1]]),
    ],
)
def test_runs_are_told_apart(series: list[tuple[str, int | None]], runs: list[list[int]]) -> None:
    assert by_run([Made(*one) for one in series]) == runs


def test_looks() -> None:
    """One checkpoint of each run: a colour for each. Several: a colour for each place, dashes for the second run."""
    two = looks([Made("a", 4), Made("b", 2)], ["a", "b"])
    assert [(look["color"], look["linestyle"]) for look in two] == [(style.COLORS[0], "-"), (style.COLORS[1], "-")]
    four = looks([Made("a", 2), Made("a", 4), Made("b", 2), Made("b", 4)], list("abcd"))
    assert [look["color"] for look in four] == 2 * list(style.COLORS[:2])
    assert [look["linestyle"] for look in four] == ["-", "-", "--", "--"]
    assert [look["label"] for look in four] == list("abcd")


def test_bars_and_lines_by_hand() -> None:
    rows = [{"block": b, "raw": 2.0 + b, "raw_low": 1.5, "raw_high": 4.0} for b in range(2)]
    for count in (2, 3):
        _, (axes,) = comparison(1, count)
        series = looks([Made(str(i), 1) for i in range(count)], [str(i) for i in range(count)])
        draw_intervals(axes, [(rows, look) for look in series], "block", "raw")
        low, high = axes.get_ylim()
        assert low == 0
        assert high > 4
        if count == 2:
            bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
            assert [bar.get_height() for bar in bars] == [2, 3, 2, 3]
            assert to_hex(bars[2].get_facecolor()) == style.COLORS[1].lower()
            places = [bar.get_x() + bar.get_width() / 2 for bar in bars]
            assert places == pytest.approx([-0.2, 0.8, 0.2, 1.2])
        else:
            assert not axes.patches
            assert [
                np.asarray(line.get_ydata()).tolist() for line in axes.lines if line.get_linestyle() == "-"
            ] == 3 * [[2, 3]]


def test_a_long_legend_has_room() -> None:
    heights = [comparison(2, count)[0].get_size_inches()[1] for count in (1, 4, 20)]
    assert heights[0] == heights[1] < heights[2]
