"""Every figure from a made-up study; gaps are errors that name what is missing, or are printed on the figure."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis.diagnosis_figures import draw_alignment, draw_blocks, draw_features
from analysis.figures import CAPTIONS, FIGURES, draw_all
from analysis.sweep_figures import curves_of, draw_ablations, draw_mng, groups_of
from analysis.tables import Source, read_table
from gat.errors import UserError
from tests.made_up_study import WIDTHS, write_study


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


@pytest.fixture
def partial(tmp_path: Path, results: Path) -> Path:
    """The mng sweep alone, of which a run is missing."""
    (tmp_path / "mini").mkdir()
    for kind in ("csv", "json"):
        (tmp_path / "mini" / f"mng.{kind}").write_bytes((results / "mini" / f"mng.{kind}").read_bytes())
    head = json.loads((tmp_path / "mini" / "mng.json").read_text())
    (tmp_path / "mini" / "mng.json").write_text(json.dumps(head | {"missing": ["linear, seed 2"]}))
    return tmp_path


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def named(axes: Axes) -> list[str]:
    """Entries of the legend."""
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_all_figures_of_a_whole_study(results: Path) -> None:
    told = draw_all({"results": str(results)})
    assert len(told) == len(FIGURES) == len(CAPTIONS)
    folder = results / "mini" / "figures"
    for name in FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    before = (folder / "repa.png").read_bytes(), (folder / "repa.pdf").read_bytes()
    draw_all({"results": str(results), "figures": "repa"})
    assert ((folder / "repa.png").read_bytes(), (folder / "repa.pdf").read_bytes()) == before


def test_a_gap_is_an_error_that_names_the_missing_runs(partial: Path) -> None:
    with pytest.raises(UserError, match="0 figures written, 2 not") as caught:
        draw_all({"results": str(partial), "figures": "mng,repa"})
    assert "mng: mini/mng: linear, seed 2" in str(caught.value)
    assert "repa: mini/repa: no table" in str(caught.value)
    assert not (partial / "mini" / "figures").exists()


def test_whole_figures_are_written_in_any_case(partial: Path) -> None:
    head = json.loads((partial / "mini" / "mng.json").read_text())
    (partial / "mini" / "mng.json").write_text(json.dumps(head | {"missing": []}))
    with pytest.raises(UserError, match="1 figures written, 1 not"):
        draw_all({"results": str(partial), "figures": "mng,repa"})
    assert (partial / "mini" / "figures" / "mng.png").is_file()


def test_too_few_seeds_are_a_gap(partial: Path) -> None:
    file = partial / "mini" / "mng.csv"
    rows = pd.read_csv(file)
    rows[(rows["arm"] != "none") | (rows["seed"] != 1)].to_csv(file, index=False)
    assert read_table(partial, "mini", "mng").gaps == ["mini/mng: linear, seed 2", "mini/mng: none: 2 of 3 seeds"]


def test_a_part_is_drawn_with_what_is_missing_on_it(partial: Path) -> None:
    told = draw_all({"results": str(partial), "allow_partial": "true"})
    assert len(told) == len(FIGURES)
    assert told[list(FIGURES).index("mng")].endswith("mng.png, .pdf (1 gaps)")
    assert told[list(FIGURES).index("repa")] == "repa: not drawn, as nothing of it was run"
    assert not (partial / "mini" / "figures" / "repa.png").exists()
    source = Source(partial, "mini")
    assert "not run" in texts(curves_of("repa")(source))
    assert "no picture" in texts(draw_features(source))
    assert source.gaps == [
        "mini/repa: no table",
        "mini: no picture mng-pca_features-exponential.png",
        "mini: no picture mng-pca_features-none.png",
    ]


def test_unknown_names(results: Path) -> None:
    with pytest.raises(UserError, match="figures='fid' is unknown"):
        draw_all({"results": str(results), "figures": "fid"})


def test_arms_with_sizes_have_panels_and_one_colour_per_kind(results: Path) -> None:
    table = read_table(results, "mini", "patch_size")
    assert groups_of(table) == {
        f"size {size}": [f"{kind},size={size}" for kind in ("large", "medium", "small")] for size in ("B", "S")
    }
    first, second = curves_of("patch_size")(Source(results, "mini")).axes
    colours = [
        {
            str(line.get_label()).partition(",")[0]: line.get_color()
            for line in axes.lines
            if "size" in str(line.get_label())
        }
        for axes in (first, second)
    ]
    assert colours[0] == colours[1]
    assert len(set(colours[0].values())) == 3


def test_ends_by_hand(results: Path) -> None:
    """The bar is the mean with Student's interval of three seeds: t = 4.303."""
    ends = draw_mng(Source(results, "mini")).axes[1]
    rows = read_table(results, "mini", "mng").rows
    values = rows[(rows["arm"] == "exponential") & rows["end"]]["distance"]
    line = next(line for line in ends.lines if np.array_equal(line.get_xdata(), [0.12]))
    assert line.get_ydata() == pytest.approx([values.mean()])
    bar = ends.collections[0]
    assert isinstance(bar, LineCollection)
    segment = np.asarray(bar.get_segments()[0])
    half = 4.3027 * values.std(ddof=1) / np.sqrt(3)
    assert segment[:, 1] == pytest.approx([values.mean() - half, values.mean() + half], rel=1e-4)


def test_diverged_arms_stand_at_the_edge_of_ablations(tmp_path: Path, results: Path) -> None:
    (tmp_path / "mini").mkdir()
    for kind in ("csv", "json"):
        content = (results / "mini" / f"lr_crosscheck.{kind}").read_bytes()
        (tmp_path / "mini" / f"consistency.{kind}").write_bytes(content)
    assert "3 diverged" in texts(draw_ablations(Source(tmp_path, "mini")))


def test_contributions_are_means_over_seeds(results: Path) -> None:
    bars, training, _ = draw_blocks(Source(results, "mini")).axes
    rows = read_table(results, "mini", "mng", "layer_lpips").rows
    ends = rows[(rows["arm"] == "exponential") & rows["end"]]
    expected = ends.groupby("block")["of_largest"].mean()
    (container,) = (some for some in bars.containers if some.get_label() == "exponential")
    heights = [bar.get_height() for bar in container.get_children() if isinstance(bar, Rectangle)]
    assert heights == pytest.approx(list(expected))
    none = next(line for line in training.lines if line.get_label() == "none")
    assert np.asarray(none.get_ydata())[-1] == pytest.approx(0.2, abs=0.02)
    assert "efficientnet-lite0" in bars.get_ylabel()


def test_alignment_over_training(results: Path) -> None:
    first, second = draw_alignment(Source(results, "mini")).axes
    assert named(first) == [f"{arm}, {side} images" for arm in ("aligned", "not_aligned") for side in ("real", "fake")]
    assert first.get_ylabel() == "CKNNA with efficientnet-lite0\n(n = 1,000)"
    assert len(named(second)) == 2 * len(WIDTHS)
