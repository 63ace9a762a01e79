"""Figures of what went wrong: runs that diverged, numbers without a logarithm, tables that lack a column."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.diagnosis_figures import draw_alignment, draw_blocks
from analysis.drawing import EVERY_LOST
from analysis.figures import FIGURES, draw_all
from analysis.style import TABLES, checksum
from analysis.sweep_figures import draw_ablations
from analysis.tables import Source, read_table
from gat.errors import UserError
from tests.made_up import write_results
from tests.made_up_study import SEEDS, diagnostic_rows, write_study
from tests.test_figures import named, texts


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


SPECIAL = {"pca_features", "interpolation", "samples"}
"""Figures of pictures, which know of no run."""


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost")
    write_study(folder, lost=True)
    return folder


def test_all_figures_of_a_study_whose_runs_all_diverged(lost: Path) -> None:
    assert len(draw_all({"results": str(lost)})) == len(FIGURES)
    for name in FIGURES.keys() - SPECIAL:
        told = texts(FIGURES[name].draw(Source(lost, "mini")))
        assert EVERY_LOST in told, name
    assert texts(draw_blocks(Source(lost, "mini"))).count(EVERY_LOST) == 3
    assert texts(draw_alignment(Source(lost, "mini"))).count(EVERY_LOST) == 2
    assert texts(draw_ablations(Source(lost, "mini"))).count(EVERY_LOST) == 6


def test_an_empty_panel_leaves_the_others_their_ticks(results: Path, tmp_path: Path) -> None:
    """They share an axis."""
    (tmp_path / "mini").mkdir()
    for kind in ("csv", "json"):
        shutil.copy(results / "mini" / f"repa-cknna.{kind}", tmp_path / "mini")
    figure = draw_alignment(Source(tmp_path, "mini"))
    figure.draw_without_rendering()
    drawn, empty = figure.axes
    assert sum(bool(label.get_text()) and label.get_visible() for label in drawn.get_yticklabels()) > 2
    assert not any(label.get_visible() for label in empty.get_yticklabels())


def test_all_figures_of_nothing(tmp_path: Path) -> None:
    assert len(draw_all({"results": str(tmp_path), "allow_partial": "true"})) == len(FIGURES)


def changed(results: Path, folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """A copy of a study, one of whose tables differs."""
    shutil.copytree(results / "mini", folder / "mini", ignore=shutil.ignore_patterns("figures"))
    file = folder / "mini" / f"{name}.csv"
    change(pd.read_csv(file, keep_default_na=False, na_values=[""])).to_csv(file, index=False)
    return folder


def saved(name: str, results: Path) -> Figure:
    """A figure, whose PNG could be made."""
    figure = FIGURES[name].draw(Source(results, "mini"))
    figure.savefig(io.BytesIO(), format="png")
    return figure


def with_odd_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """At the end zero in one run and infinity in another, in all columns of numbers that figures draw in logarithms."""
    odd = [name for name in ("distance", "g_output_change") if name in rows]
    ends = rows.index[rows["end"] == True]  # noqa: E712
    rows[odd] = rows[odd].astype(float)
    rows.loc[ends[0], odd] = 0.0
    rows.loc[ends[1], odd] = np.inf
    return rows


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("mng", "mng"),
        ("ablations", "consistency"),
        ("gflops", "gflops"),
        ("decoupled", "decoupled"),
        ("model_size", "model_size"),
        ("lr_width", "update_size"),
        ("lr_width", "lr_grid"),
        ("lr_width", "lr_crosscheck"),
    ],
)
def test_numbers_without_logarithm_are_left_out_and_counted(
    tmp_path: Path, results: Path, figure: str, table: str
) -> None:
    folder = changed(results, tmp_path, table, with_odd_numbers)
    assert "left out: 2 values not above 0, or infinite" in texts(saved(figure, folder))
    assert "left out" not in texts(FIGURES[figure].draw(Source(results, "mini")))


@pytest.mark.parametrize("value", [0.0, np.inf])
@pytest.mark.parametrize(
    ("figure", "table"), [("mng", "mng"), ("gflops", "gflops"), ("decoupled", "decoupled"), ("lr_width", "lr_grid")]
)
def test_no_number_with_a_logarithm(tmp_path: Path, results: Path, figure: str, table: str, value: float) -> None:
    folder = changed(results, tmp_path, table, lambda rows: rows.assign(distance=value))
    assert "no number above 0" in texts(saved(figure, folder))


@pytest.mark.parametrize(
    ("figure", "table", "column"),
    [
        ("lr_crosscheck", "lr_crosscheck", "batch_size"),
        ("lr_crosscheck", "lr_crosscheck", "diverged_step"),
        ("lr_crosscheck", "lr_crosscheck", "images"),
        ("mng", "mng", "end"),
        ("gflops", "gflops", "size"),
        ("gflops", "gflops", "patch"),
        ("decoupled", "decoupled", "size"),
        ("lr_width", "update_size", "size"),
        ("lr_width", "lr_grid", "lr_multiple"),
        ("layer_lpips", "mng-layer_lpips", "block"),
        ("layer_lpips", "mng-pca_features", "layer"),
        ("cknna", "repa-cknna", "fake"),
    ],
)
def test_a_table_without_a_column(tmp_path: Path, results: Path, figure: str, table: str, column: str) -> None:
    folder = changed(results, tmp_path, table, lambda rows: rows.drop(columns=column))
    with pytest.raises(UserError, match=rf"lacks {column}: collect again: python \w+/\w+\.py .*sweep="):
        draw_all({"results": str(folder), "figures": figure})


@pytest.mark.parametrize(("figure", "table"), [("layer_lpips", "mng-layer_lpips"), ("cknna", "repa-cknna")])
def test_a_diagnostic_without_settings(tmp_path: Path, results: Path, figure: str, table: str) -> None:
    folder = changed(results, tmp_path, table, lambda rows: rows)
    head = folder / "mini" / f"{table}.json"
    head.write_text(
        json.dumps({key: value for key, value in json.loads(head.read_text()).items() if key != "settings"})
    )
    with pytest.raises(UserError, match=r"lacks (distance|teacher): collect again: python analysis/diagnose\.py"):
        draw_all({"results": str(folder), "figures": figure})


def some_lost(sweep: str, name: str, lost: dict[str, int]) -> list[dict[str, Any]]:
    """Rows of a diagnostic; of some arms so many seeds, the last ones, diverged."""
    rows = diagnostic_rows(sweep, name)
    gone = [(arm, seed) for arm, count in lost.items() for seed in range(SEEDS - count, SEEDS)]
    kept = [row for row in rows if (row["arm"], row["seed"]) not in gone]
    return kept + [{"arm": arm, "seed": seed, "status": "diverged"} for arm, seed in gone]


def without_names(head: dict[str, Any]) -> dict[str, Any]:
    """What :func:`write_results` takes of a head."""
    return {key: value for key, value in head.items() if key in ("claim", "protocols", "settings")}


def test_diverged_seeds_of_diagnostics_are_counted(tmp_path: Path, results: Path) -> None:
    """Of exponential one of three, of none all of them."""
    folder, gone = changed(results, tmp_path, "mng", lambda rows: rows), {"exponential": 1, "none": 3}
    for name in ("layer_lpips", "pca_features"):
        head = json.loads((folder / "mini" / f"mng-{name}.json").read_text())
        write_results(folder, "mng", some_lost("mng", name, gone), diagnostic=name, **without_names(head))
    draw_all({"results": str(folder), "figures": "layer_lpips"})
    bars, _, features = draw_blocks(Source(folder, "mini")).axes
    names = bars.get_legend_handles_labels()[1]
    assert {"exponential (1 of 3 diverged)", "none (3 of 3 diverged)", "linear", "flat", "msg"} == set(names)
    slots = [label.get_text() for label in features.get_xticklabels()]
    assert {"exponential\n(1 of 3 diverged)", "none\n(3 of 3 diverged)"} < set(slots)
    head = json.loads((folder / "mini" / "repa-cknna.json").read_text())
    rows = some_lost("repa", "cknna", {"aligned": 2})
    write_results(folder, "repa", rows, diagnostic="cknna", **without_names(head))
    assert "aligned (2 of 3 diverged), real images" in named(draw_alignment(Source(folder, "mini")).axes[0])


def test_the_features_part_is_that_of_the_first_blocks(tmp_path: Path, results: Path) -> None:
    features = draw_blocks(Source(results, "mini")).axes[2]
    rows = read_table(results, "mini", "mng", "pca_features").rows
    early = rows[(rows["arm"] == "exponential") & rows["layer"].isin([f"block_{i}" for i in range(4)])]
    expected = early.groupby("seed")["variance_of_sample_share"].mean()
    assert np.asarray(features.lines[0].get_ydata()) == pytest.approx(expected.to_numpy())
    assert np.asarray(features.lines[1].get_ydata()) == pytest.approx([expected.mean()])
    folder = changed(results, tmp_path, "mng", lambda some: some)
    (folder / "mini" / "mng-pca_features.csv").unlink()
    source = Source(folder, "mini")
    assert "not run" in texts(draw_blocks(source))
    assert source.gaps == ["mini/mng, pca_features: no table"]


def test_a_figure_bears_what_it_was_drawn_from(results: Path, tmp_path: Path) -> None:
    draw_all({"results": str(results), "figures": "layer_lpips,samples"})
    study = results / "mini"
    with Image.open(study / "figures" / "layer_lpips.png") as image:
        files = ("mng-layer_lpips.csv", "mng-pca_features.csv")
        assert json.loads(image.info[TABLES]) == {name: checksum(study / name) for name in files}
    with Image.open(study / "figures" / "samples.png") as image:
        assert all(name.startswith("pictures/model_size-samples-") for name in json.loads(image.info[TABLES]))
    (tmp_path / "mini").mkdir()
    for kind in ("csv", "json"):
        shutil.copy(study / f"mng-layer_lpips.{kind}", tmp_path / "mini")
    draw_all({"results": str(tmp_path), "figures": "layer_lpips", "allow_partial": "true"})
    with Image.open(tmp_path / "mini" / "figures" / "layer_lpips.png") as image:
        there = {"mng-layer_lpips.csv": checksum(study / "mng-layer_lpips.csv")}
        assert json.loads(image.info[TABLES]) == there | {"mng-pca_features.csv": ""}
