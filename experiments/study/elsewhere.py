"""Runs of a sweep that lie on another machine: what a table that is there already says of them is kept.

A sweep may be run in parts, a seed or an arm here and another there. Who gathers the runs of one machine keeps the rows of
the others, if they are of the same sweep with the same settings; rows are kept as text, to the letter.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.study.states import ENDED, RunState
from experiments.study.submission import Entry, Submission
from gat.errors import UserError, first_line

Key = tuple[str, int]
"""Arm and seed of a run."""


@dataclass(frozen=True)
class Here:
    """The runs of a sweep on this machine: all that its submissions list, and those of them that have ended."""

    listed: frozenset[Key]
    ended: frozenset[Key]


def here_of(runs: Sequence[tuple[Submission, Entry]], states: Mapping[str, RunState]) -> Here:
    """The runs that this machine's submissions list. ``states``: by run folder."""
    keys = {(entry.arm, entry.seed): states[entry.run_folder].kind in ENDED for _, entry in runs}
    return Here(frozenset(keys), frozenset(key for key, over in keys.items() if over))


@dataclass(frozen=True)
class Elsewhere:
    """Of a table that is there: rows (as text) of runs that are not here, and the JSON beside it; both empty without any."""

    rows: pd.DataFrame
    head: dict[str, Any]

    @property
    def runs(self) -> set[Key]:
        """Whose rows these are."""
        return set(_keys(self.rows))

    def missing(self, unended: Sequence[Entry]) -> list[str]:
        """What the JSON lists as missing, and those of the ``unended`` runs here that have no rows from elsewhere."""
        here = [f"{entry.arm}, seed {entry.seed}" for entry in unended if (entry.arm, entry.seed) not in self.runs]
        return [*self.head.get("missing", []), *here]

    def beside(self, own: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """One table of these rows and of ``own``, in the order in which arms first come, then by seed."""
        if self.rows.empty:
            return pd.DataFrame(own)
        fresh = pd.DataFrame([row for row in own if (row["arm"], row["seed"]) not in self.runs])
        both = pd.concat([self.rows, _as_text(StringIO(fresh.to_csv(index=False)))] if len(fresh) else [self.rows])
        order = {arm: place for place, arm in enumerate(dict.fromkeys([*self.head["arms"], *both["arm"]]))}
        places = [(order[arm], seed) for arm, seed in _keys(both)]
        return both.iloc[sorted(range(len(both)), key=lambda row: places[row])]


def elsewhere(file: Path, alike: Mapping[str, Any], here: Here, runs: Path) -> Elsewhere:
    """What the table ``file`` has of runs that are not here. ``alike``: what its JSON must say for it to be of the same runs.

    Raises :class:`UserError` for a table of other settings whose runs are not under ``runs``: they would be lost.
    """
    nothing = Elsewhere(pd.DataFrame(), {})
    if not file.is_file():
        return nothing
    try:
        rows, head = _as_text(file), json.loads(file.with_suffix(".json").read_text())
        keys, ended = _keys(rows), rows["status"].isin(ENDED) if len(rows) else []
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file}: is no whole table ({first_line(error)}): remove it, and collect again") from error
    if any(head.get(name) != value for name, value in alike.items()):
        if lost := {run for run in rows[ended]["run"] if not (runs / run).is_dir()} if len(rows) else set():
            raise UserError(
                f"{file}: has {len(lost)} runs of other settings that are not under {runs}, and would be lost: "
                "move it away, or name another folder by results="
            )
        return nothing
    keep = [key not in here.ended and (over or key not in here.listed) for key, over in zip(keys, ended, strict=True)]
    known = {f"{arm}, seed {seed}" for arm, seed in here.listed}
    absent = [
        one for one in head.get("missing", []) if not any(one == run or one.startswith(f"{run},") for run in known)
    ]
    return Elsewhere(rows[keep], head | {"missing": absent, "arms": list(dict.fromkeys(rows["arm"]))})


def _as_text(source: Path | StringIO) -> pd.DataFrame:
    return pd.read_csv(source, dtype=str, keep_default_na=False)


def _keys(rows: pd.DataFrame) -> list[Key]:
    return [(arm, int(seed)) for arm, seed in zip(rows["arm"], rows["seed"], strict=True)] if len(rows) else []
