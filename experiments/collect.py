"""Gather the records of sweeps into tidy tables: ``python experiments/collect.py [sweep=NAME] [study=NAME]``.

Writes ``results/STUDY/SWEEP.csv``, a row per run and evaluation (columns: results/README.md), and beside it ``SWEEP.json``:
claim and rule as they stood when the runs were submitted, and which runs are missing; and ``records/RUN.json``, the record of
each run that has ended. ``runs=FOLDER``, ``results=FOLDER``.
"""

import sys
from pathlib import Path

import pandas as pd

from experiments.exits import exits
from experiments.study.arguments import FILTERS, find_submissions, parse
from experiments.study.records import newest_runs, protocols_of, records_of, rows_of_run, split
from experiments.study.states import ENDED, run_states
from experiments.study.submission import Submission
from gat.files import replacing, told, write_json

RECORDS = "records"
ARGUMENTS = FILTERS | {
    "results": "folder of the tables (default: results)",
    "submission": "id of a submission, for its settings instead of the newest's",
}


def collect(mine: list[Submission], others: list[Submission], everything: list[Submission], results: Path) -> None:
    """Write and report the table of one sweep. ``mine``: its submissions of the same settings, oldest first."""
    newest, runs = mine[-1], newest_runs(mine)
    states = run_states([entry for _, entry in runs], everything)
    at = newest.claim["at"] if newest.claim else "evaluations"
    rows = [row for s, entry in runs for row in rows_of_run(s, entry, states[entry.run_folder], at)]
    missing = [(entry, states[entry.run_folder]) for _, entry in runs if states[entry.run_folder].kind not in ENDED]
    protocols, records = protocols_of(runs), records_of(runs)
    file = results / newest.study / f"{newest.sweep}.csv"
    with told(f"table {file}", "collect again"):
        (file.parent / RECORDS).mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            pd.DataFrame(rows).to_csv(stream, index=False)
        absent = [f"{entry.arm}, seed {entry.seed}" for entry, _ in missing]
        write_json(file.with_suffix(".json"), head(mine, absent) | {"protocols": protocols})
        for name, record in records.items():
            write_json(file.parent / RECORDS / f"{name}.json", record)
    print(f"{file}: {len(rows)} rows of {len(runs)} runs, {len(missing)} of them missing")
    for entry, state in missing:
        print(f"  missing: {entry.arm}, seed {entry.seed}: {state.kind} {state.detail}".rstrip())
    for other in others:
        print(f"  other settings, not in the table: submission={other.id} of {len(other.entries)} runs")


def head(mine: list[Submission], missing: list[str]) -> dict[str, object]:
    """What stands beside a table: claim, submissions, missing runs."""
    newest = mine[-1]
    return {
        "study": newest.study,
        "sweep": newest.sweep,
        "claim": newest.claim,
        "diagnostic_claims": newest.diagnostic_claims,
        "claim_changed": any((s.claim, s.diagnostic_claims) != (newest.claim, newest.diagnostic_claims) for s in mine),
        "submissions": [
            {"id": s.id, "submitted_at": s.submitted_at, "git": s.git, "launcher": s.launcher} for s in mine
        ],
        "missing": missing,
    }


def main() -> None:
    """Collect every sweep that the arguments choose."""
    with exits():
        values = parse(sys.argv[1:], ARGUMENTS)
        everything, chosen = find_submissions(values)
        for study, name in sorted({(s.study, s.sweep) for s in chosen}):
            sweep = [s for s in everything if (s.study, s.sweep) == (study, name)]
            like = [s for s in chosen if s in sweep][-1]
            collect(*split(sweep, like), everything, Path(values.get("results", "results")))


if __name__ == "__main__":
    main()
