"""The head of a sweep: which tests a rule can ask for, and what each must say.

    ordered         ``arms``, best first: each mean distance below the next one's, with an interval that excludes 0
    monotone        ``arms``, best first: their means are in that order at every evaluation
    difference      two ``arms``, a question rather than a claim: is the first below the second?
    ratio_within    two ``arms``: the ratio of their means lies ``within`` this factor of 1
    below, above    ``arms`` whose mean (of another column: ``of``) lies below or above ``value``, in ``studies`` alone
    rises           ``arms`` whose metric (another column: ``of``) rises from the first evaluation to the last
    diverges        ``arms`` of which at least this ``share`` of the seeds diverges
    trains          ``arms`` of which this ``share`` of the seeds does not
    slope           log-log slope of the metric against ``x`` over ``arms``: ``predicted``, ``within``
    boundary_slope  log-log slope against ``x`` of the largest ``over`` that trains: ``predicted``, ``within``
    best_slope      the same of the ``over`` of the lowest distance
    correlation     of the logarithms of metric and ``x`` over all arms: ``below``
    power_law       exponent of the metric as a power of ``x`` over all arms: ``predicted``, ``within``
    floor           ``arms`` whose order by the autoencoder's reconstruction distance is their order by the metric

Each also says whether it ``decides`` the verdict or is reported beside it. Distances are those at the end of finished runs
(column ``end``) but for ``monotone``; an arm with a diverged run has no mean there, and stands behind every arm that has one.
Means are over seeds, intervals at the claim's ``confidence``: Student's for means and slopes, Welch's for differences and
ratios (of logarithms), bootstrap over seeds for correlations and power laws. In a grid the largest or best at its edge is
censored: it tells nothing. A claim with a ``diagnostic`` is about a table of analysis/diagnose.py instead of the sweep's own.
"""

from collections.abc import Collection
from typing import Any

from experiments.settings import ClaimConfig
from gat.errors import UserError, require_choice

KINDS: dict[str, set[str]] = {
    "ordered": {"arms"},
    "monotone": {"arms"},
    "difference": {"arms"},
    "ratio_within": {"arms", "within"},
    "below": {"arms", "value", "studies"},
    "above": {"arms", "value", "studies"},
    "rises": {"arms"},
    "diverges": {"arms", "share"},
    "trains": {"arms", "share"},
    "slope": {"arms", "x", "predicted", "within"},
    "boundary_slope": {"x", "over", "predicted", "within"},
    "best_slope": {"x", "over", "predicted", "within"},
    "correlation": {"x", "below"},
    "power_law": {"x", "predicted", "within"},
    "floor": {"arms"},
}
OPTIONAL: dict[str, set[str]] = {"below": {"of"}, "above": {"of"}, "rises": {"of"}}
MOMENTS = ("end", "evaluations", "steps")


def check_claim(claim: ClaimConfig | None, arms: Collection[str] | None = None) -> None:
    """:class:`UserError` unless the rule can be applied: known kinds, their arguments, and (if given) known ``arms``."""
    if claim is None:
        return
    require_choice(f"claim {claim.id}: at", claim.at, MOMENTS)
    for test in claim.rule:
        kind = test.get("kind")
        require_choice(f"claim {claim.id}: kind", str(kind), tuple(KINDS))
        _check_keys(claim.id, test, KINDS[str(kind)] | {"kind", "decides"}, OPTIONAL.get(str(kind), set()))
        unknown = sorted(set(test.get("arms", ())) - set(arms)) if arms is not None else []
        if unknown:
            raise UserError(
                f"claim {claim.id}: {kind} names arm {unknown[0]!r}, but there are {', '.join(sorted(arms or ()))}"
            )
    if not any(test["decides"] for test in claim.rule):
        raise UserError(f"claim {claim.id}: none of its tests decides")


def _check_keys(claim: str, test: dict[str, Any], expected: set[str], optional: set[str]) -> None:
    if test.keys() - optional != expected:
        raise UserError(
            f"claim {claim}: {test['kind']} has {', '.join(sorted(test))}, expected {', '.join(sorted(expected))}"
        )
