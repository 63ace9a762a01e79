"""The diagnostics of a sweep's runs: ``python analysis/diagnose.py sweep=mng study=mini [name=value ...]``.

    sweep=NAME study=NAME       whose runs; without them those of every sweep that asks for diagnostics and was submitted
    diagnostics=cknna,samples   which; without it those of the sweep's file
    runs=runs results=results   where the runs lie, and where to write

Measures finished runs with the networks and sample counts that stood at submission (``study.diagnostics``; where a study had
none, those of experiments/conf/study now). Writes
``results/STUDY/SWEEP-DIAGNOSTIC.csv`` and ``.json``, and of each arm's first seed pictures into ``results/STUDY/pictures/``.
What was measured of a run stands in its ``analysis/`` too: a second start measures only what is new. Rows that a table there
already has of runs on other machines are kept, as collect.py does.
analysis/diagnostics.py says what of which checkpoints, each diagnostic's own file how.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from analysis.command import REMEDY, run_command
from analysis.diagnosing import Work, measured, settings_of, work_of
from analysis.diagnostics import DIAGNOSTICS, Row, Tools
from analysis.opening import WHICH
from analysis.tables import PICTURES, picture_name
from experiments.settings import CONF, SWEEPS, DiagnosticsConfig
from experiments.study.arguments import FILTERS, find_submissions
from experiments.study.elsewhere import Elsewhere, elsewhere, here_of, table_lock
from experiments.study.jobs import read_config
from experiments.study.records import newest_runs, split
from experiments.study.states import ENDED, RunState, run_states
from experiments.study.submission import Entry, Goal, Submission
from gat.config import TrainingConfig
from gat.data.workers import told_plainly
from gat.errors import UserError, require_choice
from gat.files import replacing, told, write_json
from gat.platform import choose_device, full_precision, keep_freed_memory

KNOWN = (
    FILTERS
    | {
        "results": "folder of the tables (default: results)",
        "diagnostics": "names, as cknna,samples (default: those of the sweep's file)",
        "submission": "id of a submission, whose settings are used (default: the newest's)",
    }
    | {name: WHICH[name] for name in ("training.device", "paths.prepared", "autoencoder.path")}
)


def asked_of(sweep: str, values: dict[str, str]) -> list[str]:
    """Names of diagnostics; :class:`UserError` for an unknown one."""
    if "diagnostics" in values:
        names = values["diagnostics"].split(",")
    else:
        file = SWEEPS / f"{sweep}.yaml"
        names = list(OmegaConf.select(OmegaConf.load(file), "diagnostics") or []) if file.is_file() else []
    for name in names:
        require_choice("diagnostics", name, tuple(DIAGNOSTICS))
    return names


def config_of(study: str) -> DiagnosticsConfig:
    """A study's; :class:`UserError` for a study that has none."""
    file = CONF / "study" / f"{study}.yaml"
    found = OmegaConf.select(OmegaConf.load(file), "study.diagnostics") if file.is_file() else None
    if found is None:
        raise UserError(f"study={study} has no study.diagnostics in {file}: write there with what to measure")
    return DiagnosticsConfig(**found)


@dataclass(frozen=True)
class Picture:
    """Of a run of that ``seed``."""

    seed: int
    file: Path


@dataclass
class Gathered:
    """Of a sweep's runs, by diagnostic: ``rows``, what made them, and the first seed's pictures by arm."""

    rows: dict[str, list[Row]]
    measurements: dict[str, list[Row]]
    failures: dict[str, list[str]]
    """What could not be measured, and why."""
    pictures: dict[tuple[str, str], Picture]


def gathered(
    runs: Sequence[tuple[Submission, Entry]], states: dict[Goal, RunState], names: Sequence[str], tools: Tools
) -> Gathered:
    """Measure the finished runs; a diverged one has rows without numbers."""
    found = Gathered({name: [] for name in names}, {name: [] for name in names}, {name: [] for name in names}, {})
    for submission, entry in runs:
        kind, run = states[entry.goal].kind, Path(entry.run_folder)
        head = {"arm": entry.arm, "seed": entry.seed, "status": kind, "run": run.name, "submission": submission.id}
        head["numerics"] = submission.numerics
        if kind == "diverged":
            for name in names:
                found.rows[name].append(head)
        if kind != "finished":
            continue
        work = work_of(run, names, tools.config, entry.total_steps)
        for name, step in lacking(work, names, read_config(submission.config_file(entry.index)).training):
            found.failures[name].append(f"{entry.arm}, seed {entry.seed}, step {step}: its checkpoint was not kept")
        for one, result in measured(work, tools):
            at = {"step": one.step, "end": one.step == entry.total_steps}
            if isinstance(result, UserError):
                found.failures[one.diagnostic].append(f"{entry.arm}, seed {entry.seed}, step {one.step}: {result}")
                continue
            found.rows[one.diagnostic] += [head | at | row for row in result["rows"]]
            made = {key: result[key] for key in ("measured_at", "seconds", "git", "hardware", "versions")}
            found.measurements[one.diagnostic].append({"run": run.name, "step": one.step} | made)
            if one.picture.is_file():
                found.pictures.setdefault((one.diagnostic, entry.arm), Picture(entry.seed, one.picture))
    return found


def lacking(work: Sequence[Work], names: Sequence[str], training: TrainingConfig) -> list[tuple[str, int]]:
    """Diagnostics and steps whose checkpoints are to be measured and are not there: another sweep made the run, say."""
    keep, end = training.keep_steps, training.total_steps
    steps = sorted({end, *(range(keep, end + 1, keep) if keep else ())})
    wanted = [(name, step) for name in names for step in (steps if DIAGNOSTICS[name].all_checkpoints else (end,))]
    there = {(one.diagnostic, one.step) for one in work}
    return [each for each in wanted if each not in there]


def diagnose_sweep(mine: list[Submission], everything: list[Submission], values: dict[str, str]) -> list[str]:
    """Measure, and write the tables and pictures of one sweep; lines for the terminal. ``mine``: its submissions."""
    newest, runs = mine[-1], newest_runs(mine)
    entries = [entry for _, entry in runs]
    names, states = asked_of(newest.sweep, values), run_states(entries, everything)
    config = DiagnosticsConfig(**newest.diagnostics) if newest.diagnostics else config_of(newest.study)
    place, folder = Path(values.get("results", "results")) / newest.study, Path(values.get("runs", "runs"))
    here, alike = here_of(mine, entries, states), {"base": newest.base}
    files = {name: place / f"{newest.sweep}-{name}.csv" for name in names if name != "samples"}

    def elsewhere_of(name: str) -> Elsewhere:
        return elsewhere(files[name], alike | {"settings": settings_of(name, config)}, here, folder)

    for name in files:
        elsewhere_of(name)  # raises before anything is measured
    seen = elsewhere(place / f"{newest.sweep}.csv", alike, here, folder).runs
    found = gathered(runs, states, names, Tools(config, choose_device(values.get("training.device", "auto")), values))
    pictures = {
        key: one for key, one in found.pictures.items() if not any((key[1], k) in seen for k in range(one.seed))
    }
    for (name, arm), picture in pictures.items():
        copy_picture(picture.file, place / PICTURES / picture_name(newest.sweep, name, arm))
    unended = [entry for entry in entries if states[entry.goal].kind not in ENDED]
    lines = []
    for name, file in files.items():
        with table_lock(file):
            there = elsewhere_of(name)  # read again: other processes may have added rows during the measurement
            missing = [*there.missing(unended), *found.failures[name]]
            made = [*there.of_rows("measured", "run", "run"), *found.measurements[name]]
            head = head_of(mine, name, config, there) | {"missing": missing, "measured": made}
            lines.append(write_table(file, there.beside(found.rows[name]), head))
        lines += [f"  not measured: {failure}" for failure in found.failures[name]]
    return [*lines, f"{place / PICTURES}: {len(pictures)} pictures"]


def head_of(mine: list[Submission], name: str, config: DiagnosticsConfig, there: Elsewhere) -> dict[str, Any]:
    """What stands beside a diagnostic's table."""
    newest = mine[-1]
    own = [claim for claim in newest.diagnostic_claims if claim["diagnostic"] == name]
    claim = {"claim": own[0] if own else None, "seeds": newest.claim["seeds"] if newest.claim else None}
    changed = any(s.diagnostic_claims != newest.diagnostic_claims for s in mine)
    return {
        "study": newest.study,
        "sweep": newest.sweep,
        "diagnostic": name,
        "base": newest.base,
        "settings": settings_of(name, config),
        **claim,
        "claim_changed": changed or there.claims_differ(claim),
    }


def write_table(file: Path, table: pd.DataFrame, head: dict[str, Any]) -> str:
    """Write the table and the JSON beside it; return a line for the terminal."""
    with replacing(file) as stream:
        (table if len(table) else pd.DataFrame(columns=["arm", "seed", "status"])).to_csv(stream, index=False)
    write_json(file.with_suffix(".json"), head)
    return f"{file}: {len(table)} rows, {len(head['missing'])} runs missing"


def copy_picture(source: Path, file: Path) -> None:
    """Whole or not at all; :class:`UserError` if it cannot be written."""
    with told(f"picture {file}", REMEDY):
        file.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as given, replacing(file) as stream:
            shutil.copyfileobj(given, stream)


def diagnose(values: dict[str, str]) -> list[str]:
    """Do so for every sweep that the arguments choose; lines for the terminal."""
    everything, chosen = find_submissions(values)
    keep_freed_memory()
    lines: list[str] = []
    refused: list[str] = []
    with told_plainly(), full_precision():
        for study, name in sorted({(s.study, s.sweep) for s in chosen}):
            if not asked_of(name, values):
                continue
            sweep = [s for s in everything if (s.study, s.sweep) == (study, name)]
            like = [s for s in chosen if s in sweep][-1]
            mine, _ = split(sweep, like)
            try:
                lines += diagnose_sweep(mine, everything, values)
            except UserError as error:
                refused.append(str(error))
    if refused:
        print("\n".join(lines))
        raise UserError("; ".join(refused))
    if not lines:
        raise UserError("none of these sweeps asks for diagnostics: name some by diagnostics=layer_lpips,cknna")
    return lines


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, diagnose)


if __name__ == "__main__":
    main()
