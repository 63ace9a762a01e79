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

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.settings import ClaimConfig, SweepConfig, interpolation_in
from gat.errors import UserError, first_line, require_choice
from gat.ranges import Range, check_ranges

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
ARGUMENTS: dict[str, Range | type] = {
    "kind": str,
    "x": str,
    "over": str,
    "of": str,
    "decides": bool,
    "one_sided": bool,
    "arms": list,
    "studies": list,
    "value": Range(),
    "predicted": Range(),
    "below": Range(),
    "share": Range(0, 1),
    "within": Range(above=0),
    "margin": Range(0),
    "equivalent": Range(above=1),
}
"""Types of arguments; for numbers, their ranges."""
PAPER = {"what", "value", "about", "source"}
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


def claim_from(stated: Any, where: str, remedy: str = "see sweeps/README.md") -> ClaimConfig:
    """Return a claim as its dataclass; raise :class:`UserError` if a field is missing or of a wrong type.

    ``where``: its file or sweep, for messages; ``remedy`` ends them.
    """
    told = f"{where}: claim {stated.get('id') if isinstance(stated, Mapping) else stated}"
    needed = [field.name for field in fields(ClaimConfig) if field.default is MISSING]
    if lacking := [name for name in needed if not isinstance(stated, Mapping) or stated.get(name) is None]:
        raise UserError(f"{told} lacks {', '.join(lacking)}: {remedy}")
    if found := interpolation_in(dict(stated)):
        raise UserError(f"{told} holds the interpolation {found!r}, which could read the environment: {remedy}")
    try:
        return cast(ClaimConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ClaimConfig), stated)))
    except OmegaConfBaseException as error:
        raise UserError(f"{told} has an invalid {error.full_key} ({first_line(error)}): {remedy}") from error


def check_claim(claim: ClaimConfig | None, arms: Collection[str] | None = None) -> None:
    """Raise :class:`UserError` unless a new claim can be decided by runs of ``arms`` (None: of any)."""
    if claim is None:
        return
    require_choice(f"claim {claim.id}: at", claim.at, MOMENTS)
    if claim.at == LAST_THIRD and claim.metric != "frechet":
        raise UserError(f"claim {claim.id}: at={LAST_THIRD} is for metric frechet, not {claim.metric}: use end")
    if claim.family is not None and claim.looks != 1:
        raise UserError(
            f"claim {claim.id}: looks={claim.looks} with family={claim.family}: Holm's correction needs 1 look"
        )
    check_rule(claim, arms)
    if claim.family is not None and not any(test["kind"] in COMPARISONS and test["decides"] for test in claim.rule):
        raise UserError(
            f"claim {claim.id}: family={claim.family}, but none of its deciding tests compares arms: leave family out"
        )


def check_rule(claim: ClaimConfig, arms: Collection[str] | None = None) -> None:
    """Raise :class:`UserError` for a number out of range, a test of unknown kind, wrong arguments, or unknown ``arms``."""
    check_ranges(claim, f"claim {claim.id}: ")
    for number in claim.paper:
        if number.keys() != PAPER or not isinstance(number["value"], int | float | None):
            raise UserError(
                f"claim {claim.id}: paper has {number}: give each {', '.join(sorted(PAPER))}, with a number or null as value"
            )
    for test in claim.rule:
        _check_test(claim, test, arms)
    if not any(test["decides"] for test in claim.rule):
        raise UserError(f"claim {claim.id}: none of its tests decides: set decides=true for one")


def _check_test(claim: ClaimConfig, test: dict[str, Any], arms: Collection[str] | None) -> None:
    """Raise :class:`UserError` unless a test of ``claim`` can be applied to ``arms`` (None: to any)."""
    kind, where = str(test.get("kind")), f"claim {claim.id}"
    require_choice(f"{where}: kind", kind, tuple(KINDS))
    expected = KINDS[kind] | {"kind", "decides"}
    if test.keys() - OPTIONAL.get(kind, set()) != expected:
        raise UserError(f"{where}: {kind} has {', '.join(sorted(test))}, expected {', '.join(sorted(expected))}")
    for key, value in test.items():
        _check_argument(f"{where}: {kind}: {key}", value, ARGUMENTS[key])
    if (kind == "at_most_ratio" or "equivalent" in test) and claim.metric != "frechet":
        raise UserError(f"{where}: {kind} compares ratios of distances: its metric must be frechet")
    named: list[str] = test.get("arms", [])
    if kind in PAIRS and len(named) != 2:
        raise UserError(f"{where}: {kind} compares 2 arms, not {len(named)}")
    if len(set(named)) < len(named) or (kind in COMPARISONS and len(named) < 2):
        raise UserError(f"{where}: {kind} names the arms {', '.join(named)}: give at least 2, each once")
    unknown = sorted(set(named) - set(arms)) if arms is not None else []
    if unknown:
        raise UserError(f"{where}: {kind} names arm {unknown[0]!r}, but there are {', '.join(sorted(arms or ()))}")


def _check_argument(name: str, value: Any, allowed: Range | type) -> None:
    """Raise :class:`UserError` for an argument of a test that is of a wrong type or out of range."""
    wanted = {bool: "true or false", str: "a name", list: "a list of names"}
    listed = value if isinstance(value, list) else []
    if isinstance(allowed, Range):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{name}={value} must be a number")
        allowed.check(name, value)
    elif not isinstance(value, allowed) or not all(isinstance(one, str) for one in listed):
        raise UserError(f"{name}={value} must be {wanted[allowed]}")
