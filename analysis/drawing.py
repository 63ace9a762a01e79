"""What the commands that draw figures of sweeps share: arguments, gaps, empty panels, and the files they write."""

import json
import shlex
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.command import REMEDY
from analysis.fits import Fit
from analysis.style import LAW, TABLES, checksum, print_marks, save
from analysis.tables import PICTURES, Source, Table
from gat.errors import UserError, require_choice
from gat.files import replacing, told, write_json

KNOWN = {
    "study": "whose tables (default: mini)",
    "results": "folder of tables (default: results)",
    "allow_partial": "true: draw what there is, and print on the figure what is missing (default: false)",
}
MOST_NAMED = 12
SEED_ALPHA = 0.5
MOST_SPAN = 200
PAPER_LINE: dict[str, Any] = {**LAW}
LOST_COLOR = "#B00020"
"""Of what marks diverged runs."""
EVERY_LOST = "every run diverged"


@dataclass
class Tracked(Source):
    """A source that keeps in mind which files it was asked for, with their SHA-256 (empty: there was none)."""

    files: dict[str, str] = field(default_factory=dict)

    def table(self, sweep: str, diagnostic: str | None = None) -> Table | None:
        """As of any source."""
        self.ask(f"{sweep}.csv" if diagnostic is None else f"{sweep}-{diagnostic}.csv")
        return super().table(sweep, diagnostic)

    def picture(self, name: str) -> Path | None:
        """As of any source."""
        self.ask(f"{PICTURES}/{name}")
        return super().picture(name)

    @property
    def found(self) -> bool:
        """Whether any of them was there."""
        return any(self.files.values())

    def ask(self, name: str) -> None:
        """Keep in mind."""
        self.files[name] = checksum(self.results / self.study / name)


def source_of(values: Mapping[str, str]) -> Tracked:
    """From the arguments; one per figure, as it keeps that figure's gaps and files."""
    return Tracked(Path(values.get("results", "results")), values.get("study", "mini"))


def partial_of(values: Mapping[str, str]) -> bool:
    """Argument ``allow_partial``; :class:`UserError` for another value than true or false."""
    value = values.get("allow_partial", "false")
    require_choice("allow_partial", value, ("true", "false"))
    return value == "true"


def confidence_of(table: Table) -> float:
    """Of the claim's intervals."""
    return float((table.head.get("claim") or {}).get("confidence", 0.95))


def require_whole(source: Source, allow_partial: bool) -> None:
    """:class:`UserError` naming the missing runs, unless a part will do."""
    if source.gaps and not allow_partial:
        more = f"; and {len(source.gaps) - MOST_NAMED} more" if len(source.gaps) > MOST_NAMED else ""
        raise UserError(
            f"{source.results / source.study}: missing: {'; '.join(source.gaps[:MOST_NAMED])}{more}: run them and collect "
            "again, or draw what there is by allow_partial=true"
        )


def finish(figure: Figure, source: Source, stem: Path, *, allow_partial: bool) -> list[Path]:
    """Write the figure as ``stem``.png and .pdf, with gaps and marks printed on it; :class:`UserError` for gaps not allowed.

    The PNG bears which files a tracked source was asked for (``TABLES``).
    """
    require_whole(source, allow_partial)
    print_marks(figure, source.gaps, source.marks)
    return save(figure, stem, {TABLES: json.dumps(source.files)} if isinstance(source, Tracked) else {})


def write_numbers(stem: Path, facts: Mapping[str, Any], fits: Sequence[Fit], rows: pd.DataFrame) -> list[Path]:
    """``stem``.json: facts and fits; ``stem``.csv: the points."""
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("json", "csv")]
    with told(f"numbers {stem}", REMEDY):
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_json(files[0], {**facts, "fits": [asdict(fit) for fit in fits]})
        with replacing(files[1]) as stream:
            rows.to_csv(stream, index=False)
    return files


def facts_of(source: Source, definition: str | None, *tables: Table | None) -> dict[str, Any]:
    """What stands beside numbers: of which tables, by which protocol, and what is missing."""
    there = [table for table in tables if table is not None]
    return {
        "study": source.study,
        "definition": definition,
        "protocols": {table.sweep: table.protocol.as_record() if table.protocol else None for table in there},
        "submissions": {table.sweep: table.head.get("submissions", []) for table in there},
        "missing": source.gaps,
    }


def usable(axes: Axes, table: Table | None, *columns: str) -> bool:
    """Whether there is anything to draw; otherwise the panel says why not ("not run", or that every run diverged).

    :class:`UserError` for a table of ended runs that lacks one of ``columns``; where every run diverged, numbers may.
    """
    if table is None or table.ended.empty:
        say(axes, "not run" if table is None else "no run has ended")
        return False
    if all_lost(table) and any(name not in table.rows for name in columns):
        say(axes, EVERY_LOST)
        return False
    require_columns(table, *columns)
    return True


def has(table: Table | None, *columns: str) -> TypeGuard[Table]:
    """Whether a table has ended runs and these columns."""
    return table is not None and not table.ended.empty and all(name in table.rows for name in columns)


def all_lost(table: Table) -> bool:
    """Whether every run that has ended diverged."""
    return bool(len(table.ended)) and set(table.ended["status"]) == {"diverged"}


def setting_of(table: Table, name: str) -> Any:
    """Of a diagnostic, as the JSON beside its table says; :class:`UserError` for one without it."""
    settings = table.head.get("settings") or {}
    require_columns(table, name, there=settings)
    return settings[name]


def require_columns(table: Table, *columns: str, there: Container[str] | None = None) -> None:
    """:class:`UserError` for a table that lacks one of them, with the command that makes it again. ``there``: other names."""
    lacking = [name for name in columns if name not in (table.rows if there is None else there)]
    if lacking:
        diagnostic = table.head.get("diagnostic")
        name = f"{table.study}/{table.sweep}" + (f", {diagnostic}" if diagnostic else "")
        command = ["analysis/diagnose.py", f"diagnostics={diagnostic}"] if diagnostic else ["experiments/collect.py"]
        again = shlex.join(["python", *command, f"sweep={table.sweep}", f"study={table.study}"])
        raise UserError(f"{name}: the table lacks {', '.join(lacking)}: collect again: {again}")


def say(axes: Axes, text: str, which: str = "xy") -> None:
    """A panel without a drawing; ``which``: axes whose ticks it hides (others that share them keep theirs)."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#777777")
    if "x" in which:
        axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    if "y" in which:
        axes.tick_params(axis="y", which="both", left=False, labelleft=False)


def logarithmic(axes: Axes, which: str, ticks: Sequence[float] | None = None) -> bool:
    """Axis ``which`` (x or y) in logarithms with plain numbers: call it after drawing; False, undone, without such numbers.

    ``ticks``: where alone to put them (such as the widths that were run).
    """
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_minpos(), axis.get_data_interval()[1]
    if not (np.isfinite([low, high]).all() and 0 < low <= high):
        return False
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    if ticks is not None:
        axis.set_ticks(list(ticks))
    elif 1 < high / low < MOST_SPAN:  # decades alone would leave one label, or none
        subs = (1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 6, 8)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    return True


def logarithms_of(axes: Axes, table: Table, values: pd.Series) -> None:
    """The y axis in logarithms; a panel without numbers says why, and any how many of ``values`` are left out."""
    if not logarithmic(axes, "y"):
        say(axes, why_empty(table), "y")
    note_left_out(axes, values)


def why_empty(table: Table) -> str:
    """Of a table whose ended runs give nothing to draw."""
    if all_lost(table):
        return EVERY_LOST
    return "a run of every arm diverged" if set(table.ended["arm"]) == lost_of(table).keys() else "no number above 0"


def positive(values: pd.Series) -> pd.Series:
    """With gaps for what has no logarithm: zero, negative and infinite numbers."""
    return values.where((values > 0) & np.isfinite(values))


def note_left_out(axes: Axes, values: pd.Series) -> None:
    """Print on the panel how many numbers :func:`positive` takes out."""
    if count := int((values.notna() & positive(values).isna()).sum()):
        text = f"left out: {count} value{'s' * (count > 1)} not above 0, or infinite"
        axes.text(0.01, 0.01, text, transform=axes.transAxes, color=LOST_COLOR, fontsize="x-small")


def mark_lost(axes: Axes, places: Sequence[float], color: str) -> None:
    """Crosses at the upper edge, for what diverged and has no distance."""
    if places:  # without any, an empty line would upset the layout
        edge = axes.get_xaxis_transform()
        axes.plot(places, [0.98] * len(places), "x", color=color, markersize=6, markeredgewidth=1.6, transform=edge)


def lost_of(table: Table) -> dict[str, int]:
    """Diverged seeds by arm."""
    gone = table.rows[table.rows["status"] == "diverged"]
    return {str(arm): int(seeds) for arm, seeds in gone.groupby("arm")["seed"].nunique().items()}


def left_out_of(table: Table) -> list[str]:
    """Arms with diverged seeds, in words."""
    ended = table.ended.groupby("arm")["seed"].nunique()
    return [f"{arm}: {count} of {ended[arm]} seeds diverged" for arm, count in lost_of(table).items()]


def named_with_lost(table: Table) -> dict[str, str]:
    """A name for each arm; of those with diverged seeds it says how many of how many, as means are of the others."""
    ended, lost = table.ended.groupby("arm")["seed"].nunique(), lost_of(table)
    return {arm: f"{arm} ({lost[arm]} of {ended[arm]} diverged)" if arm in lost else arm for arm in table.arms}
