"""Planned power: how many seeds an effect needs, and which effect a number of seeds can find.

Two arms of n seeds each are compared by the two-sided t-test of the mean logarithms of their distances, with one standard
deviation for both (pooled variance). Power is that of the noncentral t distribution (Cohen, Statistical Power Analysis for
the Behavioral Sciences, 1988, chapter 2). Effects are differences of logarithms: 0.1 is a ratio of 1.105.
"""

import math

from scipy import optimize, stats

POWER, LEVEL = 0.8, 0.05
MOST_SEEDS = 10_000
CERTAIN, NEVER_WRONG = 20.0, 8.0  # standard errors


def power_of(effect: float, scatter: float, seeds: int, level: float = LEVEL) -> float:
    """Return the probability of finding ``effect`` with ``seeds`` per arm, given the standard deviation ``scatter``."""
    freedom = 2 * seeds - 2
    threshold = stats.t.ppf(1 - level / 2, freedom)
    shift = abs(effect) / scatter * math.sqrt(seeds / 2)
    if shift > CERTAIN + threshold:  # scipy's distribution is not finite there
        return 1.0
    wrong_side = stats.nct.cdf(-threshold, freedom, shift) if shift < NEVER_WRONG else 0.0
    return float(stats.nct.sf(threshold, freedom, shift) + wrong_side)


def seeds_for(effect: float, scatter: float, power: float = POWER, level: float = LEVEL) -> int:
    """Return the fewest seeds per arm that find ``effect`` with ``power``. ValueError for more than 10,000."""
    if effect == 0 or power_of(effect, scatter, MOST_SEEDS, level) < power:
        raise ValueError(f"an effect of {effect} at a scatter of {scatter} needs more than {MOST_SEEDS} seeds")
    low, high = 1, MOST_SEEDS  # the fewest lies in (low, high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect, scatter, middle, level) >= power else (middle, high)
    return high


def detectable(scatter: float, seeds: int, power: float = POWER, level: float = LEVEL) -> float:
    """Return the smallest effect that ``seeds`` per arm (at least 2) find with ``power``."""
    return float(optimize.brentq(lambda d: power_of(d * scatter, scatter, seeds, level) - power, 1e-6, 1e3)) * scatter
