"""Claims and what became of them: each one's rule, as it was submitted, applied to its table."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from analysis.evidence import FEWEST_SEEDS, NOT_RUN, PARTLY_RUN, Evidence, Outcome
from analysis.means import pooled
from analysis.metrics import metrics_of
from analysis.power import detectable
from analysis.rules import decide, verdict
from analysis.tables import NoTableError, read_table
from experiments.settings import SWEEPS
from gat.errors import UserError

NOT_JUDGED = "not judged"
MOST_NAMED = 4


@dataclass(frozen=True)
class Judged:
    """A claim with what became of it."""

    sweep: str
    claim: dict[str, Any]
    verdict: str
    outcomes: list[Outcome]
    """One per test of the rule; empty if nothing was run."""
    seeds: str
    """As :func:`seeds_of` says."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know of the rule, or why there is no verdict."""
    floor: str = ""
    """As :func:`noise_floor` says."""


def claims() -> list[tuple[str, dict[str, Any]]]:
    """Every claim as its sweep's file states it now, after the name of the sweep; those about diagnostics follow its own."""
    found = []
    for file in sorted(SWEEPS.glob("*.yaml")):
        head = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        assert isinstance(head, dict)
        own = [head["claim"]] if head.get("claim") else []
        found += [(file.stem, dict(claim)) for claim in (*own, *head.get("diagnostic_claims", ()))]
    return found


def judged(sweep: str, stated: dict[str, Any], results: Path, study: str) -> Judged:
    """A claim's verdict; :class:`UserError` for a table that cannot be read or mixes protocols, or lacks a column."""
    diagnostic = stated.get("diagnostic")
    try:
        table = read_table(results, study, sweep, diagnostic)
    except NoTableError:
        return Judged(sweep, stated, NOT_RUN, [], f"0 of {stated['seeds']}")
    own = table.head.get("claim")
    claim = own or stated
    notes = [table.mark] if table.mark else []
    notes += [] if own else ["its rule is today's, as none was submitted with the runs"]
    notes += ["its rule changed between submissions; the newest counts"] if table.head.get("claim_changed") else []
    rows = table.rows if diagnostic is None else metrics_of(diagnostic, table.rows)
    if rows.empty:
        return Judged(sweep, claim, NOT_RUN, [], f"0 of {claim['seeds']}", notes)
    how = (claim["metric"], claim["confidence"], study, claim["at"], claim["seeds"], diagnostic is not None)
    evidence = Evidence(rows, *how, missing=table.head.get("missing", ()))
    outcomes = [decide(test, evidence) for test in claim["rule"]]
    ended = {arm: evidence.diverged(arm)[1] for arm in evidence.arms}
    found = verdict(claim["rule"], outcomes)
    found = PARTLY_RUN if found == NOT_RUN and any(ended.values()) else found
    return Judged(sweep, claim, found, outcomes, seeds_of(ended, claim["seeds"]), notes, noise_floor(evidence))


def noise_floor(evidence: Evidence) -> str:
    """What seeds alone do to the distance, in words; empty for other metrics and where no arm has two finished runs.

    The scatter is the standard deviation of the logarithm of the distance over training seeds, its variance pooled over the
    arms (about the coefficient of variation), and the ratio the smallest that the planned seeds per arm find
    with a power of 0.8 (analysis/power.py).
    """
    if not evidence.lower_is_better or evidence.column not in evidence.table:
        return ""
    values = [evidence.values(arm) for arm in evidence.arms]
    logs = [np.log(found) for found in values if len(found) >= FEWEST_SEEDS and found.min() > 0]
    if not logs:
        return ""
    freedom = sum(len(found) - 1 for found in logs)
    scatter = pooled(logs)
    told = f"noise floor {scatter:.1%} ({freedom} degrees of freedom)"
    if scatter == 0 or evidence.planned < FEWEST_SEEDS:
        return told
    found = math.exp(detectable(scatter, evidence.planned))
    return f"{told}: {evidence.planned} seeds per arm find a ratio of {found:.3g}"


def seeds_of(ended: dict[str, int], planned: int) -> str:
    """How many seeds ended: the most of an arm, and which arms have fewer."""
    most = max(ended.values())
    few = [f"{arm}: {count}" for arm, count in ended.items() if count < most]
    more = f", and {len(few) - MOST_NAMED} more arms" if len(few) > MOST_NAMED else ""
    return f"{most} of {planned}" + (f" ({', '.join(few[:MOST_NAMED])}{more})" if few else "")


def all_judged(results: Path, study: str) -> list[Judged]:
    """Every claim at one scale; one that cannot be judged does not keep the others from it."""
    found = []
    for sweep, stated in claims():
        try:
            found.append(judged(sweep, stated, results, study))
        except UserError as error:
            found.append(Judged(sweep, stated, NOT_JUDGED, [], "-", [str(error)]))
    return found


def studies_of(results: Path) -> list[str]:
    """Studies with a table in ``results``."""
    heads = sorted(results.glob("*/*.csv"))
    return sorted({file.parent.name for file in heads if (SWEEPS / f"{file.stem}.yaml").is_file()})
