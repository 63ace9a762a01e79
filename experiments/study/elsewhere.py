"""Runs of a sweep that lie on another machine: what a table that is there already says of them is kept.

A sweep may be run in parts, a seed or an arm here and another there. Who gathers the runs of one machine keeps the rows of
the others, if they are of the same sweep with the same settings; rows are kept as text, to the letter.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.study.states import ENDED, RunState
from experiments.study.submission import Entry, Goal, Submission
from gat.errors import UserError
from gat.files import json_object, one_at_a_time, reading, told

Key = tuple[str, int]
"""Arm and seed of a run."""


@dataclass(frozen=True)
class Here:
    """What this machine has of a sweep: its submissions' ids, the runs that they list, and those of them that have ended."""

    submissions: frozenset[str]
    listed: frozenset[Key]
    ended: frozenset[Key]


def here_of(submissions: Sequence[Submission], entries: Sequence[Entry], states: Mapping[Goal, RunState]) -> Here:
    """Of ``submissions`` of one sweep and their runs. ``states``: by run folder."""
    listed = {(entry.arm, entry.seed): states[entry.goal].kind in ENDED for entry in entries}
    ended = frozenset(key for key, over in listed.items() if over)
    return Here(frozenset(s.id for s in submissions), frozenset(listed), ended)


@dataclass(frozen=True)
class Elsewhere:
    """Of a table that is there: the rows, as text, of runs that are not here."""

    rows: pd.DataFrame
    head: dict[str, Any]
    """The JSON beside the table; empty where no row is kept."""
    arms: tuple[str, ...]
    """All of the table, in its order."""
    gaps: tuple[str, ...]
    """What the JSON lists as missing of runs that are not here."""

    @property
    def runs(self) -> set[Key]:
        """Whose rows these are."""
        return set(_keys(self.rows))

    def missing(self, unended: Sequence[Entry]) -> list[str]:
        """The gaps, and those of the ``unended`` runs here that have no rows from elsewhere."""
        here = [f"{entry.arm}, seed {entry.seed}" for entry in unended if (entry.arm, entry.seed) not in self.runs]
        return [*self.gaps, *here]

    def of_rows(self, name: str, column: str, key: str) -> list[dict[str, Any]]:
        """Of a list in the JSON, the items whose ``key`` stands in a ``column`` of the rows."""
        return [one for one in self.head.get(name, []) if one[key] in set(self.rows[column])]

    def claims_differ(self, own: Mapping[str, Any]) -> bool:
        """Whether rows were made under other claims than ``own``, by their names in the JSON, or under several."""
        return bool(self.head) and (self.head["claim_changed"] or any(self.head[name] != own[name] for name in own))

    def beside(self, own: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """One table of these rows and of ``own``, by arm and seed, in the order of whichever has more arms."""
        if self.rows.empty:
            return pd.DataFrame(own)
        fresh = pd.DataFrame([row for row in own if (row["arm"], row["seed"]) not in self.runs])
        both = pd.concat([self.rows, _as_text(StringIO(fresh.to_csv(index=False)))] if len(fresh) else [self.rows])
        orders = sorted((list(dict.fromkeys(row["arm"] for row in own)), self.arms), key=len, reverse=True)
        order = list(dict.fromkeys([*orders[0], *orders[1]]))
        places = [(order.index(arm), seed) for arm, seed in _keys(both)]
        return both.iloc[sorted(range(len(both)), key=lambda row: places[row])]


def elsewhere(file: Path, alike: Mapping[str, Any], here: Here, runs: Path) -> Elsewhere:
    """What the table ``file`` has of runs that are not here. ``alike``: what its JSON must say for it to be of the same runs.

    A run that this machine submitted and no longer has is not elsewhere. Raises :class:`UserError` for a table of other
    settings whose runs are not under ``runs``: they would be lost.
    """
    nothing = Elsewhere(pd.DataFrame(), {}, (), ())
    if not file.is_file():
        return nothing
    with reading(file, "a whole table", "remove it, and gather again"):
        rows, head = _as_text(file), json_object(file.with_suffix(".json"))
        keys, ended = _keys(rows), rows["status"].isin(ENDED) if len(rows) else []
        missing = [*head.get("missing", [])]
    if any(head.get(name) != value for name, value in alike.items()):
        if lost := {run for run in rows[ended]["run"] if not (runs / run).is_dir()} if len(rows) else set():
            raise UserError(
                f"{file}: has {len(lost)} runs of other settings that are not under {runs}, and would be lost: "
                "move it away, or name another folder by results="
            )
        return nothing
    own = rows["submission"].isin(here.submissions) if "submission" in rows else [False] * len(rows)
    keep = [
        not mine and key not in here.ended and (over or key not in here.listed)
        for mine, key, over in zip(own, keys, ended, strict=True)
    ]
    kept = {key for key, stays in zip(keys, keep, strict=True) if stays}
    known = [f"{arm}, seed {seed}" for arm, seed in here.listed - kept]
    gaps = [one for one in missing if not any(one == run or one.startswith(f"{run},") for run in known)]
    return Elsewhere(rows[keep], head if kept else {}, tuple(dict.fromkeys(arm for arm, _ in keys)), tuple(gaps))


@contextmanager
def table_lock(file: Path) -> Iterator[None]:
    """Hold the lock of a table, to read, complete and write it; other processes wait, and then find the new rows."""
    with told(f"table {file}", "gather again"), one_at_a_time(file.with_name(f".{file.stem}.lock"), f"writing {file}"):
        yield


def _as_text(source: Path | StringIO) -> pd.DataFrame:
    return pd.read_csv(source, dtype=str, keep_default_na=False)


def _keys(rows: pd.DataFrame) -> list[Key]:
    return [(arm, int(seed)) for arm, seed in zip(rows["arm"], rows["seed"], strict=True)] if len(rows) else []
