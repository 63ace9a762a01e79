"""Gather the records of sweeps into tidy tables: ``python experiments/collect.py [sweep=NAME] [study=NAME]``.

Writes ``results/STUDY/SWEEP.csv``, a row per run and evaluation (columns: results/README.md), and beside it ``SWEEP.json``:
claim and rule as they stood when the runs were submitted, and which runs are missing; and ``records/RUN.json``, the record of
each run that has ended. ``runs=FOLDER``, ``results=FOLDER``. Rows that a table there already has of other runs of the same
sweep and settings are kept: a sweep may be run on several machines, and gathered on each into the same ``results``.
"""

import sys
from pathlib import Path
from typing import Any

from experiments.exits import exits
from experiments.study.arguments import FILTERS, find_submissions, parse
from experiments.study.elsewhere import Elsewhere, elsewhere, here_of, table_lock
from experiments.study.records import newest_runs, protocols_of, records_of, rows_of_run, split
from experiments.study.states import ENDED, run_states
from experiments.study.submission import Submission
from gat.errors import UserError
from gat.evaluation.protocol import from_record, require_same
from gat.files import replacing, write_json

RECORDS = "records"
ARGUMENTS = FILTERS | {
    "results": "folder of the tables (default: results)",
    "submission": "id of a submission, for its settings instead of the newest's",
}


def collect(
    mine: list[Submission], others: list[Submission], everything: list[Submission], runs: Path, results: Path
) -> None:
    """Write and report the table of one sweep. ``mine``: its submissions of the same settings, oldest first."""
    file = results / mine[-1].study / f"{mine[-1].sweep}.csv"
    with table_lock(file):
        write_table(file, mine, everything, runs)
    for other in others:
        print(f"  other settings, not in the table: submission={other.id} of {len(other.entries)} runs")


def write_table(file: Path, mine: list[Submission], everything: list[Submission], runs: Path) -> None:
    """Write the table, the JSON beside it and the records, and report; rows of runs that are elsewhere are kept."""
    newest, chosen = mine[-1], newest_runs(mine)
    entries = [entry for _, entry in chosen]
    states = run_states(entries, everything)
    there = elsewhere(file, {"base": newest.base}, here_of(mine, entries, states), runs)
    at = newest.claim["at"] if newest.claim else "evaluations"
    table = there.beside([row for s, entry in chosen for row in rows_of_run(s, entry, states[entry.goal], at)])
    head = head_of(mine, there, protocols_of(chosen))
    head["missing"] = there.missing([entry for entry in entries if states[entry.goal].kind not in ENDED])
    (file.parent / RECORDS).mkdir(parents=True, exist_ok=True)
    with replacing(file) as stream:
        table.to_csv(stream, index=False)
    write_json(file.with_suffix(".json"), head)
    for name, record in records_of(chosen).items():
        write_json(file.parent / RECORDS / f"{name}.json", record)
    kept = f" and {len(there.runs)} kept from the table" if there.runs else ""
    print(f"{file}: {len(table)} rows of {len(entries)} runs here{kept}, {len(head['missing'])} missing")
    why = {f"{e.arm}, seed {e.seed}": f"{states[e.goal].kind} {states[e.goal].detail}" for e in entries}
    for run in head["missing"]:
        print(f"  missing: {run}: {why.get(run, 'not here')}".rstrip())


def head_of(mine: list[Submission], there: Elsewhere, protocols: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What stands beside a table: claim, hash of the settings, submissions, protocols (one, or :class:`UserError`)."""
    newest = mine[-1]
    claims = {"claim": newest.claim, "diagnostic_claims": newest.diagnostic_claims}
    changed = any((s.claim, s.diagnostic_claims) != (newest.claim, newest.diagnostic_claims) for s in mine)
    own = [{"id": s.id, "submitted_at": s.submitted_at, "git": s.git, "launcher": s.launcher} for s in mine]
    submissions = [*there.of_rows("submissions", "submission", "id"), *own]
    kept = set(there.rows["protocol"]) if "protocol" in there.rows else set()
    protocols = {name: one for name, one in there.head.get("protocols", {}).items() if name in kept} | protocols
    require_same((from_record(one) for one in protocols.values()), f"the table of {newest.sweep}")
    return {
        "study": newest.study,
        "sweep": newest.sweep,
        "base": newest.base,
        **claims,
        "claim_changed": changed or there.claims_differ(claims),
        "submissions": sorted(submissions, key=lambda one: str(one["submitted_at"])),
        "missing": [],
        "protocols": protocols,
    }


def main() -> None:
    """Collect every sweep that the arguments choose."""
    with exits():
        values = parse(sys.argv[1:], ARGUMENTS)
        everything, chosen = find_submissions(values)
        folders = Path(values.get("runs", "runs")), Path(values.get("results", "results"))
        refused = []
        for study, name in sorted({(s.study, s.sweep) for s in chosen}):
            sweep = [s for s in everything if (s.study, s.sweep) == (study, name)]
            like = [s for s in chosen if s in sweep][-1]
            try:
                collect(*split(sweep, like), everything, *folders)
            except UserError as error:
                refused.append(str(error))
        if refused:
            raise UserError("; ".join(refused))


if __name__ == "__main__":
    main()
