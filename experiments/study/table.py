"""Tables of runs and their states for people, once or until all have ended."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pandas as pd

from experiments.study.states import UNDER_WAY, RunState, run_states
from experiments.study.submission import SWEEPS_FOLDER, Entry, Goal, Submission, read_submissions
from gat.evaluation.kinds import FRECHET
from gat.training.results import number_of_kind

WAIT_S = 3.0
Row = tuple[Submission, Entry]


def rows_of(submissions: Sequence[Submission]) -> list[Row]:
    """Each run once per sweep, as its newest submission lists it. ``submissions``: oldest first."""
    newest = {(s.study, s.sweep, entry.goal): (s, entry) for s in submissions for entry in s.entries}
    return list(newest.values())


def describe(row: Row, state: RunState) -> dict[str, str]:
    """One line of the table."""
    submission, entry = row
    step, rate = state.metrics.get("step", 0), state.metrics.get("images_per_s")
    runs = state.kind == "running" and rate
    left = timedelta(seconds=round((entry.total_steps - step) * entry.batch_size / rate)) if runs else ""
    distance = number_of_kind(state.evaluated, FRECHET, entry.evaluation)
    return {
        "sweep": f"{submission.study}/{submission.sweep}",
        "arm": entry.arm,
        "seed": str(entry.seed),
        "state": state.kind,
        "job": state.job or "",
        "step": f"{step}/{entry.total_steps}",
        "img/s": f"{rate:.0f}" if runs else "",
        "left": str(left),
        "last": f"{distance[0]} {distance[1]['value']:.4g} at {state.evaluated['step']}" if distance else "",
        "detail": state.detail if state.kind != "failed" else "see below",
    }


def table(rows: Sequence[Row], states: dict[Goal, RunState]) -> str:
    """All runs, a line each; how many there are of each state; and why runs failed."""
    lines = pd.DataFrame([describe(row, states[row[1].goal]) for row in rows])
    lines["detail"] = lines["detail"].where(lines["detail"] != "", "-")
    counts = Counter(states[entry.goal].kind for _, entry in rows)
    told = [lines.to_string(index=False, justify="left"), ", ".join(f"{n} {kind}" for kind, n in counts.items())]
    for submission, entry in rows:
        state = states[entry.goal]
        if state.kind == "failed":
            where = f"\n    log {state.log}" if state.log else ""
            told.append(f"failed: {submission.sweep}, {entry.arm}, seed {entry.seed}: {state.detail}{where}")
    return "\n".join(told)


def wait_for(submission: Submission) -> bool:
    """Return when no run of ``submission`` is under way any more; whether any has failed. Prints each change."""
    runs = submission.folder.parents[3]
    assert submission.folder.parents[2].name == SWEEPS_FOLDER
    shown = ""
    while True:
        states = run_states(submission.entries, read_submissions(runs))
        counts = Counter(state.kind for state in states.values())
        text = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        if text != shown:
            print(text, flush=True)
            shown = text
        if not any(counts[kind] for kind in UNDER_WAY):
            print(table([(submission, entry) for entry in submission.entries], states))
            return bool(counts["failed"])
        time.sleep(WAIT_S)
