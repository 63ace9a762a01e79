"""The figure of analysis/layer_lpips.py: what each block contributes, of one generator or several."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import PercentFormatter

from analysis import style
from analysis.series import Measured
from analysis.series_figure import LEGEND_COLUMNS, comparison, draw_intervals, looks


def save_figure(
    series: Sequence[Measured], names: Sequence[str], removal: str, distance: str, stem: Path
) -> list[Path]:
    """Write ``stem``.png and .pdf: raw contributions beside shares, with 95% intervals; the files.

    ``names``: of the series, for the legend; all different.
    """
    figure, (raw, share) = comparison(2, len(series))
    drawn = [(one.rows, look) for one, look in zip(series, looks(series, names), strict=True)]
    first = "blocks 0 to b" if removal == "cumulative" else "block b"
    for axes, field in ((raw, "raw"), (share, "share")):
        draw_intervals(axes, drawn, "block", field)
        axes.set_xlabel("b (block, from 0)")
    raw.set_title(f"Image with and without {first}")
    raw.set_ylabel(distance)
    whole = "of the image without any block" if removal == "cumulative" else "of the sum over all blocks"
    share.set_title(f"As a share {whole}")
    share.yaxis.set_major_formatter(PercentFormatter(1))
    style.legend_below(figure, raw, LEGEND_COLUMNS)
    return style.save(figure, stem)
