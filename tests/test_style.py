"""The style of figures: colours, gaps printed on them, and files that are equal if the figures are."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from analysis.style import COLORS, TABLES, checksum, colors_of, legend_below, legend_in, panels, print_marks, save
from gat.errors import UserError


def test_colours_are_told_apart() -> None:
    assert colors_of(["a", "b"]) == {"a": COLORS[0], "b": COLORS[1]}
    many = colors_of([str(i) for i in range(12)])
    assert len(set(many.values())) == 12


def test_panels_in_reading_order() -> None:
    figure, axes = panels(3, 2, width_in=2.0, height_in=1.0)
    assert len(axes) == 6
    assert tuple(figure.get_size_inches()) == (6.0, 2.0)
    assert not axes[0].spines["top"].get_visible()


def test_gaps_are_printed_and_long_lists_cut() -> None:
    figure, _ = panels(1)
    print_marks(figure, [], [])
    assert figure.get_suptitle() == ""
    print_marks(figure, [], ["before the augmentation was corrected"])
    assert figure.get_suptitle() == "made before the augmentation was corrected"
    print_marks(figure, [f"run {i}" for i in range(10)], [])
    assert figure.get_suptitle().splitlines()[0] == "missing: run 0"
    assert figure.get_suptitle().splitlines()[-1] == "... and 2 more"


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        figure, (axes,) = panels(1)
        axes.plot([0, 1], [0, 1], label="line")
        legend_below(figure, axes)
        contents.append([file.read_bytes() for file in save(figure, tmp_path / name / "figure")])
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"\x89PNG")
    assert contents[0][1].startswith(b"%PDF")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(panels(1)[0], tmp_path / "file" / "figure")


def test_what_a_png_is_told_to_bear(tmp_path: Path) -> None:
    file = save(panels(1)[0], tmp_path / "figure", {TABLES: "told"})[0]
    with Image.open(file) as image:
        assert image.info[TABLES] == "told"
    assert checksum(tmp_path / "none") == ""
    assert len(checksum(file)) == 64


def test_no_legend_without_names() -> None:
    _, (axes,) = panels(1)
    legend_in(axes)
    assert axes.get_legend() is None


@pytest.mark.parametrize("module", ["analysis.command", "analysis.figures", "analysis.report"])
def test_what_needs_no_network_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
