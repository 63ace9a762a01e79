"""Claims and what became of them: each one's rule, as it was submitted, applied to its table.

Claims of one family share a control, which may be a lucky one: their verdicts together must hold at the claims' level, by
Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979) for all claims of the family, run or not.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from analysis.contrasts import pooled
from analysis.evidence import FEWEST_SEEDS, NOT_RUN, PARTLY_RUN, Evidence, Outcome
from analysis.metrics import metrics_of
from analysis.rules import decide, verdict
from analysis.tables import ENDED, NoTableError, read_table
from experiments.settings import CONF, SWEEPS, register_resolvers
from experiments.study.power import detectable, level_at, looks_of
from gat.errors import UserError

NOT_JUDGED, UNDECIDED = "not judged", "undecided"
MOST_NAMED = 4
DEFAULT_STUDY = "imagenet256"


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
    p: float = 1.0
    """Smallest level at which the verdict stands, before Holm's correction; 1 where it has none."""


@cache
def claims(study: str = DEFAULT_STUDY) -> list[tuple[str, dict[str, Any]]]:
    """Return every claim as its sweep's file states it now, at the scale of ``study``, after the name of the sweep.

    Those about diagnostics follow the sweep's own. A study of another name has the figures of ``imagenet256``.
    """
    register_resolvers()
    named = CONF / "study" / f"{study}.yaml"
    scale: Any = OmegaConf.load(named if named.is_file() else CONF / "study" / f"{DEFAULT_STUDY}.yaml")
    found = []
    for file in sorted(SWEEPS.glob("*.yaml")):
        head: Any = OmegaConf.load(file)
        parts = {key: head[key] for key in ("claim", "diagnostic_claims") if key in head}
        whole: Any = OmegaConf.create({"study": scale["study"]} | parts)
        stated: Any = {key: OmegaConf.to_container(whole[key], resolve=True) for key in parts if whole[key] is not None}
        own = [stated["claim"]] if "claim" in stated else []
        found += [(file.stem, claim) for claim in (*own, *stated.get("diagnostic_claims", ()))]
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
    looks, ended = looks_of(claim["seeds"], claim.get("looks", 1)), ended_of(rows)
    look = look_of(claim["rule"], looks, ended, study)
    how = (claim["metric"], claim["confidence"], study, claim["at"], looks[look], diagnostic is not None)
    missing = table.head.get("missing", ())
    evidence = Evidence(first_seeds(rows, looks[look]), *how, missing=missing, look=look, looks=looks)
    outcomes = [decide(test, evidence) for test in claim["rule"]]
    found, p = verdict(claim["rule"], outcomes, evidence.alpha)
    found = PARTLY_RUN if found == NOT_RUN and any(ended.values()) else found
    if looks[look] < min(max(ended.values()), looks[-1]) or (found == UNDECIDED and look < len(looks) - 1):
        level = level_at(look, looks, evidence.alpha)
        notes += [f"looked at with {looks[look]} of {looks[-1]} seeds per arm (level {level:.3g})"]
    if found == "equivalent":
        notes += [f"equivalent at level {p:.2g}"]
    floor = noise_floor(replace(evidence, table=rows, planned=claim["seeds"]))
    return Judged(sweep, claim, found, outcomes, seeds_of(ended, claim["seeds"]), notes, floor, p)


def ended_of(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many seeds of each arm have ended."""
    ended = rows[rows["status"].isin(ENDED)].groupby("arm")["seed"].nunique()
    return {arm: int(ended.get(arm, 0)) for arm in sorted(set(rows["arm"]))}


def look_of(rule: list[dict[str, Any]], looks: tuple[int, ...], ended: dict[str, int], study: str) -> int:
    """Return which look there are enough ended seeds for, of all arms that decide; the first if for none."""
    speaking = [test for test in rule if test["decides"] and study in test.get("studies", (study,))]
    arms = {arm for test in speaking for arm in test.get("arms", ended)} or set(ended)
    fewest = min(ended.get(arm, 0) for arm in arms)
    return max((look for look, seeds in enumerate(looks) if seeds <= fewest), default=0)


def first_seeds(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the rows less those of ended runs that are not of their arm's first ``count`` seeds: no look sees more."""
    over = rows["status"].isin(ENDED)
    rank = rows[over].groupby("arm")["seed"].rank(method="dense")
    return rows.drop(index=rank.index[rank > count])


def corrected(verdicts: list[Judged], study: str) -> list[Judged]:
    """Return the verdicts of all claims after Holm's correction within families: those that do not hold are undecided."""
    sizes = Counter(stated["family"] for _, stated in claims(study) if stated.get("family"))
    found = list(verdicts)
    for family in sizes:
        mine = [i for i, one in enumerate(verdicts) if one.claim.get("family") == family and one.p < 1]
        worst = 0.0
        for rank, i in enumerate(sorted(mine, key=lambda i: verdicts[i].p)):
            one = verdicts[i]
            worst = max(worst, min(1.0, (sizes[family] - rank) * one.p))
            stands = worst <= 1 - one.claim["confidence"]
            note = f"p {worst:.2g} by Holm over the {sizes[family]} claims that share its control"
            note += "" if stands else f": not enough for {one.verdict}"
            found[i] = replace(one, verdict=one.verdict if stands else UNDECIDED, notes=[*one.notes, note])
    return found


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
    for sweep, stated in claims(study):
        try:
            found.append(judged(sweep, stated, results, study))
        except UserError as error:
            found.append(Judged(sweep, stated, NOT_JUDGED, [], "-", [str(error)]))
    return corrected(found, study)


def studies_of(results: Path) -> list[str]:
    """Studies with a table in ``results``."""
    heads = sorted(results.glob("*/*.csv"))
    return sorted({file.parent.name for file in heads if (SWEEPS / f"{file.stem}.yaml").is_file()})
