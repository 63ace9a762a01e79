"""Claims and what became of them: each one's rule, as it was submitted, applied to its table.

Claims of one family share a control, whose seeds may happen to be good or bad ones: their differences hold together at the
claims' level, and so do their equivalences, by Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979) for
all claims of the family, run or not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from analysis.contrasts import pooled
from analysis.evidence import FAILS, FEWEST_SEEDS, NOT_RUN, PARTLY_RUN, Evidence, Levels, Outcome
from analysis.metrics import metrics_of
from analysis.rules import CONFIRMED, EQUIVALENT, REFUTED, UNDECIDED, decide, verdict
from analysis.tables import ENDED, NoTableError, read_table
from experiments.settings import CONF, SWEEPS, register_resolvers
from experiments.study.claims import check_claim, check_rule, claim_from
from experiments.study.power import detectable, level_at, looks_of
from gat.errors import UserError, first_line

NOT_JUDGED = "not judged"
DECIDED = (CONFIRMED, REFUTED, EQUIVALENT)
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
    levels: Levels | None = None
    """Of its comparisons of arms, before Holm's correction; None if there are none."""


@cache
def claims(study: str = DEFAULT_STUDY) -> list[tuple[str, dict[str, Any]]]:
    """Return every claim as its sweep's file states it now, at the scale of ``study``, after the name of the sweep.

    Those about diagnostics follow the sweep's own. A study of another name uses the effect and scatter of ``imagenet256``.
    """
    register_resolvers()
    named = CONF / "study" / f"{study}.yaml"
    default: Any = OmegaConf.load(CONF / "study" / f"{DEFAULT_STUDY}.yaml")
    own: Any = OmegaConf.load(named) if named.is_file() else {}
    given = {key: value for key, value in own.get("study", {}).items() if value is not None}
    scale = OmegaConf.merge(default["study"], given)
    found = []
    for file in sorted(SWEEPS.glob("*.yaml")):
        head: Any = OmegaConf.load(file)
        parts = {key: head[key] for key in ("claim", "diagnostic_claims") if key in head}
        whole: Any = OmegaConf.create({"study": scale} | parts)
        stated: Any = {key: OmegaConf.to_container(whole[key], resolve=True) for key in parts if whole[key] is not None}
        first = [stated["claim"]] if "claim" in stated else []
        listed = (*first, *stated.get("diagnostic_claims", ()))
        for claim in listed:
            check_claim(claim_from(claim, str(file)))
        found += [(file.stem, claim) for claim in listed]
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
    try:
        check_rule(claim_from(claim, sweep))
    except UserError as error:
        raise UserError(
            f"{results / study / sweep}.json: its claim cannot be applied ({error}): collect again"
        ) from error
    notes = [table.mark] if table.mark else []
    notes += [] if own else ["its rule is today's, as none was submitted with the runs"]
    notes += ["its rule changed between submissions; the newest counts"] if table.head.get("claim_changed") else []
    rows = table.rows if diagnostic is None else metrics_of(diagnostic, table.rows)
    if rows.empty:
        return Judged(sweep, claim, NOT_RUN, [], f"0 of {claim['seeds']}", notes)
    looks, ended = looks_of(claim["seeds"], claim.get("looks", 1)), ended_of(rows)
    how = (claim["metric"], claim["confidence"], study, claim["at"])
    kept = {"measured": diagnostic is not None, "missing": table.head.get("missing", ()), "looks": looks}
    for look in range(looks_reached(claim["rule"], looks, rows, study)):
        seen = first_seeds(rows, looks[look]) if len(looks) > 1 else fewest_seeds(rows, looks[look])
        evidence = Evidence(seen, *how, planned=looks[look], look=look, **kept)
        outcomes = [decide(test, evidence) for test in claim["rule"]]
        found, levels = verdict(claim["rule"], outcomes, evidence.alpha)
        if found in DECIDED:
            break
    found = PARTLY_RUN if found == NOT_RUN and any(ended.values()) else found
    if evidence.look < len(looks) - 1:
        level = level_at(evidence.look, looks, evidence.alpha)
        notes += [f"looked at with {evidence.planned} of {looks[-1]} seeds per arm (level {level:.3g})"]
    counted = ended_of(fewest_seeds(rows, claim["seeds"]))
    floor = noise_floor(replace(evidence, table=rows, planned=claim["seeds"]))
    return Judged(sweep, claim, found, outcomes, seeds_of(counted, claim["seeds"]), notes, floor, levels)


def ended_of(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many seeds of each arm have ended."""
    ended = rows[rows["status"].isin(ENDED)].groupby("arm")["seed"].nunique()
    return {arm: int(ended.get(arm, 0)) for arm in sorted(set(rows["arm"]))}


def looks_reached(rule: list[dict[str, Any]], looks: tuple[int, ...], rows: pd.DataFrame, study: str) -> int:
    """Return how many looks every deciding arm has enough ended seeds for, at least 1.

    A look's seeds are 0, 1, ...: it waits for each of them, however many others have ended.
    """
    speaking = [test for test in rule if test["decides"] and study in test.get("studies", (study,))]
    arms = {arm for test in speaking for arm in test.get("arms", set(rows["arm"]))} or set(rows["arm"])
    whole = [min(ended_of(first_seeds(rows, seeds)).get(arm, 0) for arm in arms) == seeds for seeds in looks]
    return max(1, sum(whole))


def first_seeds(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the rows of the seeds 0, 1, ... that ``count`` are planned with, so that a look sees no others."""
    return rows[rows["seed"] < count]


def fewest_seeds(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the rows without ended runs beyond an arm's first ``count``, in order of their seeds.

    Seeds beyond the planned ones may have been added after looking at the results.
    """
    ended = rows[rows["status"].isin(ENDED)]
    beyond = ended.groupby("arm")["seed"].rank("dense") > count
    return rows.drop(index=ended.index[beyond])


def corrected(verdicts: list[Judged], study: str) -> list[Judged]:
    """Return the verdicts of all claims after Holm's correction within families: those that do not stand are undecided.

    Differences are corrected for the number of claims of the family, and equivalences for that of those that can find one.
    """
    stated = {claim["id"]: claim for _, claim in claims(study) if claim.get("family")}
    found = list(verdicts)
    for family in dict.fromkeys(claim["family"] for claim in stated.values()):
        members = [claim for claim in stated.values() if claim["family"] == family]
        ids = {claim["id"] for claim in members}
        mine = {i: one.levels for i, one in enumerate(verdicts) if one.claim["id"] in ids and one.levels}
        differing = {i: _decisive(verdicts[i], levels) for i, levels in mine.items()}
        _apply(found, {i: p for i, p in differing.items() if p is not None}, len(members))
        asking = sum(any("equivalent" in test for test in claim["rule"]) for claim in members)
        fallen = {i for i, p in differing.items() if p is not None and found[i].verdict == UNDECIDED}
        fallen = {i for i in fallen if all(end.levels is not None for end in _deciding(verdicts[i]))}
        same = {i: one.same for i, one in mine.items() if found[i].verdict == EQUIVALENT or i in fallen}
        _apply(found, {i: p for i, p in same.items() if p <= _alpha(found[i])}, asking, EQUIVALENT)
    return found


def _alpha(one: Judged) -> float:
    return 1 - float(one.claim["confidence"])


def _decisive(one: Judged, levels: Levels) -> float | None:
    """Return the p-value of a difference that a verdict rests on; None if it rests on something else too."""
    if one.verdict == REFUTED and any(end.state == FAILS and end.levels is None for end in _deciding(one)):
        return None
    p = {CONFIRMED: levels.ahead, REFUTED: levels.behind}.get(one.verdict)
    return p if p is not None and p <= _alpha(one) else None


def _deciding(one: Judged) -> list[Outcome]:
    return [end for test, end in zip(one.claim["rule"], one.outcomes, strict=False) if test["decides"]]


def _apply(found: list[Judged], p_values: Mapping[int, float], number: int, verdict_if: str | None = None) -> None:
    """Correct the verdicts at these positions of ``found``, in place; ``verdict_if``: what those that stand become."""
    worst, number = 0.0, max(number, len(p_values))
    for rank, i in enumerate(sorted(p_values, key=lambda i: p_values[i])):
        one = found[i]
        worst = max(worst, min(1.0, (number - rank) * p_values[i]))
        stands, wanted = worst <= _alpha(one), verdict_if or one.verdict
        note = f"{wanted} at p {worst:.2g} by Holm over {number} claims that share its control"
        note += "" if stands else ": not enough"
        found[i] = replace(one, verdict=wanted if stands else UNDECIDED, notes=[*one.notes, note])


def noise_floor(evidence: Evidence) -> str:
    """What seeds alone do to the distance, in words; empty for other metrics and where no arm has two finished runs.

    The scatter is the standard deviation of the logarithm of the distance over training seeds, its variance pooled over the
    arms (about the coefficient of variation), and the ratio the smallest that the planned seeds per arm find
    with a power of 0.8 (experiments/study/power.py), before corrections.
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
        except (ValueError, KeyError, TypeError) as error:
            told = f"{results / study / sweep}.json: its claim cannot be applied ({first_line(error)}): collect again"
            found.append(Judged(sweep, stated, NOT_JUDGED, [], "-", [told]))
    return corrected(found, study)


def studies_of(results: Path) -> list[str]:
    """Studies with a table in ``results``."""
    heads = sorted(results.glob("*/*.csv"))
    return sorted({file.parent.name for file in heads if (SWEEPS / f"{file.stem}.yaml").is_file()})
