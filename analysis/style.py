"""How all figures look: sizes, colours told apart by the colour-blind, one colour per arm, and files in PNG and PDF."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from gat.files import replacing, told

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's; more than these come from viridis."""
PAPER_COLOR = "#777777"
PANEL_IN = (5.0, 3.6)
DPI = 150
KINDS = ("png", "pdf")
LAW = {"color": PAPER_COLOR, "linestyle": "--", "linewidth": 1.2}
"""Of lines that are the paper's, or a prediction."""
RC: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "font.size": 9.0,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.markersize": 4.0,
    "pdf.fonttype": 42,  # text stays text
}
TABLES = "Tables"
"""Key of a PNG's metadata: the SHA-256 of each file that it was drawn from, by path in the study's folder, as JSON."""
rcParams.update(RC)


def panels(
    columns: int, rows: int = 1, *, width_in: float = PANEL_IN[0], height_in: float = PANEL_IN[1], **how: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure of ``columns`` x ``rows`` panels, and these in reading order. ``how``: sharex, sharey."""
    figure = Figure(figsize=(columns * width_in, rows * height_in), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(axes.flat)


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each of ``names``, in their order."""
    if len(names) <= len(COLORS):
        return dict(zip(names, COLORS, strict=False))
    ramp = colormaps["viridis"]
    return {name: to_hex(ramp(0.95 * i / (len(names) - 1))) for i, name in enumerate(names)}


def legend_in(axes: Axes, **how: Any) -> None:
    """A legend, if a line has a name. ``how``: matplotlib's arguments."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**how)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """The lines of ``axes`` named under all panels."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=min(columns, len(names)))


def print_marks(figure: Figure, gaps: Sequence[str], marks: Sequence[str]) -> None:
    """Print on the figure what is missing from it, and how its results are marked."""
    lines = [f"made {mark}" for mark in marks]
    if gaps:
        more = f"\n... and {len(gaps) - 8} more" if len(gaps) > 8 else ""
        lines.append("missing: " + "\n".join(gaps[:8]) + more)
    if lines:
        figure.suptitle("\n".join(lines), color="#B00020", fontsize="small", x=0.01, ha="left")


def save(figure: Figure, stem: Path, told_in_png: Mapping[str, str] | None = None) -> list[Path]:
    """Write ``stem``.png and ``stem``.pdf, without dates, so that equal figures are equal files.

    ``told_in_png``: more metadata of the PNG.
    Raises :class:`gat.errors.UserError` if they cannot be written.
    """
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in KINDS]
    with told(f"figure {stem}", "draw it again"):
        stem.parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            metadata: dict[str, Any] = {"CreationDate": None}
            if file.suffix == ".png":
                metadata = {"Software": None, **(told_in_png or {})}
            with replacing(file) as stream:
                figure.savefig(stream, format=file.suffix[1:], dpi=DPI, metadata=metadata)
            figure.set_layout_engine("none")  # the layout is found once
    return files


def checksum(file: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
