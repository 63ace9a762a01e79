"""The head of a sweep: which tests a rule can ask for, and what each must say.

    ordered         ``arms``, best first: each mean distance below the next one's, with an interval of the ratio above 1;
                    ``equivalent``: a ratio within which they count as equivalent
    monotone        ``arms``, best first: their means are in that order at every evaluation
    difference      two ``arms``, a question rather than a claim: is the first below the second? ``equivalent`` too
    at_most_ratio   two ``arms``: the first one's geometric mean is at most ``within`` times the second's
    below, above    ``arms`` whose mean (of another column: ``of``) lies below or above ``value``; ``one_sided``: the other
                    side does not refute; ``studies``: says nothing at other scales than these
    rises           ``arms`` whose metric (another column: ``of``) rises from the first evaluation to the last; ``studies``
    diverges        ``arms`` of which at least this ``share`` of the seeds diverges
    trains          ``arms`` of which this ``share`` of the seeds does not
    slope           log-log slope of the metric against ``x`` over ``arms``: ``predicted``, ``within``
    boundary_slope  log-log slope against ``x`` of the largest ``over`` that trains: ``predicted``, ``within``
    best_slope      the same of the ``over`` of the lowest distance
    correlation     of the logarithms of metric and ``x`` over all arms: ``below``
    power_law       exponent of the metric as a power of ``x`` over all arms: ``predicted``, ``within``
    floor           ``arms`` whose order by the autoencoder's reconstruction distance is their order by the metric, where
                    the former differ by a ``margin``

Each also says whether it ``decides`` the verdict or is reported beside it. ``at`` says which number of a run counts: that
at the ``end``, the geometric mean over the ``last_third`` of a distance's evaluations, or over all logged ``steps``
(``monotone`` looks at every evaluation); an arm with a diverged run has no mean. Fewer ended seeds than planned decide
nothing. Means are over seeds, intervals at the claim's ``confidence``: Student's for means and slopes, Welch's for
differences (for distances: of logarithms, that is ratios), bootstrap over seeds for correlations and power laws. With two
``looks`` the claim is looked at with half of its seeds and with all. Claims of one ``family`` share a control: Holm's
correction spans them. In a grid the largest or best at its edge is censored: it tells nothing. A claim with a
``diagnostic`` is about a table of analysis/diagnose.py instead of the sweep's own.
"""

import math
from collections.abc import Collection
from typing import Any

from experiments.settings import ClaimConfig, SweepConfig
from gat.errors import UserError, require_choice

KINDS: dict[str, set[str]] = {
    "ordered": {"arms"},
    "monotone": {"arms"},
    "difference": {"arms"},
    "at_most_ratio": {"arms", "within"},
    "below": {"arms", "value"},
    "above": {"arms", "value"},
    "rises": {"arms"},
    "diverges": {"arms", "share"},
    "trains": {"arms", "share"},
    "slope": {"arms", "x", "predicted", "within"},
    "boundary_slope": {"x", "over", "predicted", "within"},
    "best_slope": {"x", "over", "predicted", "within"},
    "correlation": {"x", "below"},
    "power_law": {"x", "predicted", "within"},
    "floor": {"arms", "margin"},
}
OPTIONAL: dict[str, set[str]] = {
    "ordered": {"equivalent"},
    "difference": {"equivalent"},
    "below": {"of", "one_sided", "studies"},
    "above": {"of", "one_sided", "studies"},
    "rises": {"of", "studies"},
}
COMPARISONS = ("ordered", "difference", "at_most_ratio", "floor")
"""Kinds that compare arms by their distances."""
PAIRS = ("difference", "at_most_ratio")
LAST_THIRD = "last_third"
MOMENTS = ("end", LAST_THIRD, "steps")


def check_claims(sweep: SweepConfig, arms: Collection[str]) -> None:
    """:class:`UserError` unless all rules of a sweep of these ``arms`` can be applied, one per table."""
    for claim in (sweep.claim, *sweep.diagnostic_claims):
        check_claim(claim, arms)
    tables = [claim.diagnostic for claim in sweep.diagnostic_claims]
    for table in tables:
        if table not in sweep.diagnostics or tables.count(table) > 1:
            raise UserError(
                f"sweep {sweep.name}: the diagnostic {table} of a claim must stand in its diagnostics, and have one claim"
            )


def check_claim(claim: ClaimConfig | None, arms: Collection[str] | None = None) -> None:
    """:class:`UserError` unless the rule can be applied: known kinds, their arguments, and (if given) known ``arms``."""
    if claim is None:
        return
    require_choice(f"claim {claim.id}: at", claim.at, MOMENTS)
    if not 0.5 <= claim.confidence < 1:
        raise UserError(f"claim {claim.id}: confidence={claim.confidence} must be at least 0.5 and below 1")
    if claim.at == LAST_THIRD and claim.metric != "frechet":
        raise UserError(f"claim {claim.id}: at={LAST_THIRD} is for metric frechet, not {claim.metric}: use end")
    if claim.family is not None and claim.looks != 1:
        raise UserError(
            f"claim {claim.id}: looks={claim.looks} with family={claim.family}: Holm's correction needs 1 look"
        )
    if claim.looks not in (1, 2):
        raise UserError(f"claim {claim.id}: looks={claim.looks} is not possible: set it to 1 or 2")
    for test in claim.rule:
        kind = test.get("kind")
        require_choice(f"claim {claim.id}: kind", str(kind), tuple(KINDS))
        _check_keys(claim.id, test, KINDS[str(kind)] | {"kind", "decides"}, OPTIONAL.get(str(kind), set()))
        _check_margins(claim, test)
        if kind in PAIRS and len(test["arms"]) != 2:
            raise UserError(f"claim {claim.id}: {kind} compares 2 arms, not {len(test['arms'])}")
        named = list(test.get("arms", ()))
        if len(set(named)) < len(named) or (kind in COMPARISONS and len(named) < 2):
            raise UserError(f"claim {claim.id}: {kind} names the arms {', '.join(named)}: give at least 2, each once")
        unknown = sorted(set(test.get("arms", ())) - set(arms)) if arms is not None else []
        if unknown:
            raise UserError(
                f"claim {claim.id}: {kind} names arm {unknown[0]!r}, but there are {', '.join(sorted(arms or ()))}"
            )
    deciding = [test["kind"] for test in claim.rule if test["decides"]]
    if not deciding:
        raise UserError(f"claim {claim.id}: none of its tests decides")
    if claim.family is not None and not set(deciding) & set(COMPARISONS):
        raise UserError(f"claim {claim.id}: none of its deciding tests compares arms: leave out family={claim.family}")


def _check_margins(claim: ClaimConfig, test: dict[str, Any]) -> None:
    """:class:`UserError` for ratios that are none, or of another metric than distances."""
    bound = test["within"] if test["kind"] == "at_most_ratio" else test.get("equivalent")
    if bound is None:
        return
    smallest = 0 if test["kind"] == "at_most_ratio" else 1
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not smallest < bound < math.inf:
        raise UserError(f"claim {claim.id}: {test['kind']} has the ratio {bound}: use a number above {smallest}")
    if claim.metric != "frechet":
        raise UserError(f"claim {claim.id}: {test['kind']} compares ratios of distances: its metric must be frechet")


def _check_keys(claim: str, test: dict[str, Any], expected: set[str], optional: set[str]) -> None:
    if test.keys() - optional != expected:
        raise UserError(
            f"claim {claim}: {test['kind']} has {', '.join(sorted(test))}, expected {', '.join(sorted(expected))}"
        )
