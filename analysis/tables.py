"""Tables of results: a sweep's (``results/STUDY/SWEEP.csv``), and those of diagnostics of its runs (``SWEEP-NAME.csv``).

Beside each stands a JSON of the same name: claim and rule as they stood at submission, missing runs, protocols.
"""

import re
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.study.claims import claim_from
from gat.errors import UserError
from gat.evaluation.protocol import Protocol, from_record, require_same
from gat.files import json_object, reading
from gat.numerics import mark_of
from gat.training.results import FIRST_NUMERICS

ENDED = ("finished", "diverged")
PICTURES = "pictures"


class NoTableError(UserError):
    """There is no such table."""


@dataclass(frozen=True)
class Table:
    """Rows of a table (columns: results/README.md) with the JSON beside it."""

    study: str
    sweep: str
    rows: pd.DataFrame
    head: dict[str, Any]

    @cached_property
    def protocol(self) -> Protocol | None:
        """Of its distances; None if it has none. :class:`UserError` if there are several, or an altered one."""
        return require_same((from_record(one) for one in self.head.get("protocols", {}).values()), self.sweep)

    @property
    def mark(self) -> str | None:
        """Return the mark on results of an older version of the numerics; None for the current version."""
        found = self.rows["numerics"].dropna() if "numerics" in self.rows else self.rows.index[:0]
        return mark_of(int(found.iloc[0])) if len(found) else mark_of(int(self.head.get("numerics", FIRST_NUMERICS)))

    @property
    def arms(self) -> list[str]:
        """In the order of the sweep."""
        return list(dict.fromkeys(self.rows["arm"])) if "arm" in self.rows else []

    @property
    def ended(self) -> pd.DataFrame:
        """Rows of finished and diverged runs."""
        return self.rows[self.rows["status"].isin(ENDED)] if "status" in self.rows else self.rows

    @property
    def gaps(self) -> list[str]:
        """Runs that are missing, in words: submitted and not ended, or fewer seeds than the claim plans."""
        claim = self.head.get("claim")
        planned = self.head.get("seeds") or (claim["seeds"] if claim else 1)
        ended = self.ended.groupby("arm")["seed"].nunique() if "arm" in self.rows else {}
        missing = list(self.head.get("missing", []))
        few = [
            f"{arm}: {ended.get(arm, 0)} of {planned} seeds"
            for arm in self.arms
            if ended.get(arm, 0) < planned and not any(run.startswith(f"{arm}, seed") for run in missing)
        ]
        return [f"{self.study}/{self.sweep}: {run}" for run in (*missing, *few)]


def read_table(results: Path, study: str, sweep: str, diagnostic: str | None = None) -> Table:
    """A table of ``results``.

    Raises :class:`NoTableError` if there is none, :class:`UserError` for one that cannot be read or mixes protocols.
    """
    name = sweep if diagnostic is None else f"{sweep}-{diagnostic}"
    file = results / study / f"{name}.csv"
    command = "experiments/collect.py" if diagnostic is None else "analysis/diagnose.py"
    again = shlex.join(["python", command, f"sweep={sweep}", f"study={study}"])
    if not file.is_file():
        raise NoTableError(f"{file}: there is no such table: run the sweep, then {again}")
    with reading(file, "a whole table", again):
        head = json_object(file.with_suffix(".json"))
        rows = pd.read_csv(file, keep_default_na=False, na_values=[""])  # an arm may be called None
        study, sweep = head["study"], head["sweep"]
        {} | head.get("protocols", {}), {} | (head.get("claim") or {}), [*head.get("missing", ())]
    if head.get("claim"):
        claim_from(head["claim"], str(file.with_suffix(".json")), again)
    found = rows["protocol"].dropna().unique() if "protocol" in rows else []
    if len(found) > 1:
        raise UserError(f"{file}: has distances of {len(found)} protocols, which are not comparable: {again}")
    versions = sorted(rows["numerics"].dropna().unique()) if "numerics" in rows else []
    if len(versions) > 1:
        listed = " and ".join(str(int(version)) for version in versions)
        raise UserError(f"{file}: has runs of versions {listed} of the numerics, which are not comparable: {again}")
    return Table(study, sweep, rows, head)


def picture_name(sweep: str, diagnostic: str, arm: str) -> str:
    """Of a PNG in ``results/STUDY/pictures``; arms such as ``small,size=S`` become ``small_size-S``."""
    return f"{sweep}-{diagnostic}-{re.sub(r'[^A-Za-z0-9_.]', '-', arm.replace(',', '_'))}.png"


@dataclass
class Source:
    """Where figures take their records from; keeps in mind what was asked for and is missing (``gaps``)."""

    results: Path
    study: str
    gaps: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    """Marks on its tables' results (:func:`gat.numerics.mark_of`)."""

    def table(self, sweep: str, diagnostic: str | None = None) -> Table | None:
        """A table, or None if there is none; its missing runs are gaps."""
        try:
            table = read_table(self.results, self.study, sweep, diagnostic)
        except NoTableError:
            what = f"{sweep}" if diagnostic is None else f"{sweep}, {diagnostic}"
            self.miss(f"{self.study}/{what}: no table")
            return None
        for gap in table.gaps:
            self.miss(gap)
        if table.mark and table.mark not in self.marks:
            self.marks.append(table.mark)
        return table

    def picture(self, name: str) -> Path | None:
        """A picture in ``results/STUDY/pictures``, or None if there is none."""
        file = self.results / self.study / PICTURES / name
        if not file.is_file():
            self.miss(f"{self.study}: no picture {name}")
            return None
        return file

    def miss(self, gap: str) -> None:
        """Something is missing."""
        if gap not in self.gaps:
            self.gaps.append(gap)
