"""The figure of analysis/layer_lpips.py: bars for one or two generators, lines for more (a run's checkpoints)."""

from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.blocks import Contribution
from gat.files import replacing

Named = tuple[str, list[Contribution]]
"""Name for the legend, and contributions block by block."""

PAIR = ("#0072B2", "#D55E00")  # told apart by the colour-blind, too
MOST_BARS = len(PAIR)


def save_figure(series: list[Named], removal: str, distance: str, stem: Path) -> list[Path]:
    """Write ``stem``.png and .pdf: raw contributions beside shares, with 95% intervals; the files."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    raw, share = figure.subplots(1, 2)
    first = "blocks 0 to b" if removal == "cumulative" else "block b"
    for axes, field in ((raw, "raw"), (share, "share")):
        draw(axes, series, field)
        axes.set_xlabel("b (block, from 0)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    raw.set_title(f"Image with and without {first}", fontsize="medium")
    raw.set_ylabel(distance)
    whole = "of the image without any block" if removal == "cumulative" else "of the sum over all blocks"
    share.set_title(f"As a share {whole}", fontsize="medium")
    share.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(*raw.get_legend_handles_labels(), loc="outside lower center", fontsize="small", ncols=2)
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    for file in files:
        with replacing(file) as stream:
            figure.savefig(stream, format=file.suffix[1:], dpi=150)
    return files


def draw(axes: Axes, series: list[Named], field: str) -> None:
    """One of the numbers of every series, block by block, with its interval."""
    bars = len(series) <= MOST_BARS
    width = 0.8 / len(series)
    for i, (name, contributions) in enumerate(series):
        values = [getattr(c, field) for c in contributions]
        low = [max(0.0, getattr(c, field) - getattr(c, f"{field}_low")) for c in contributions]
        high = [max(0.0, getattr(c, f"{field}_high") - getattr(c, field)) for c in contributions]
        if bars:
            places = [c.block + (i + 0.5) * width - 0.4 for c in contributions]
            axes.bar(places, values, width, yerr=(low, high), capsize=2, label=name, color=PAIR[i])
        else:
            color = colormaps["viridis"](0.9 * i / (len(series) - 1))
            places = [c.block for c in contributions]
            axes.errorbar(places, values, yerr=(low, high), capsize=2, marker="o", ms=3, label=name, color=color)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
