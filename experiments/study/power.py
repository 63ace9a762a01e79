"""Planned power: how many seeds an effect needs, which effect a number of seeds can find, and interim looks.

Two arms of n seeds each are compared by the two-sided t-test of the mean logarithms of their distances, with one standard
deviation for both (pooled variance). Power is that of the noncentral t distribution (Cohen, Statistical Power Analysis for
the Behavioral Sciences, 1988, chapter 2). Verdicts use Welch's test, which at 3 or 4 seeds finds less (70 and 76% instead
of 80%, by simulation), and some are corrected for several claims (analysis/judging.py), which is not counted here. Effects
are differences of logarithms: 0.1 is a ratio of 1.105.

A claim may be looked at twice, with half of its seeds and with all. The two looks share one level by the bounds of O'Brien
and Fleming (Biometrics 35, 1979), carried over to Student's t by its p-value (Jennison and Turnbull, Group Sequential Methods
with Applications to Clinical Trials, 2000, sections 2.5 and 4.4).
"""

import math

import numpy as np
from scipy import optimize, special, stats

POWER, LEVEL = 0.8, 0.05
MOST_SEEDS = 10_000
FEWEST_SEEDS, FEWEST_FOR_TWO_LOOKS = 3, 6
CERTAIN = 20.0  # standard errors
LARGEST_Z = 8.0
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


def power_of(effect: float, scatter: float, seeds: int, level: float = LEVEL) -> float:
    """Return the probability of finding ``effect`` with ``seeds`` per arm, given the standard deviation ``scatter``."""
    freedom = 2 * seeds - 2
    threshold = stats.t.ppf(1 - level / 2, freedom)
    shift = abs(effect) / scatter * math.sqrt(seeds / 2)
    if shift > CERTAIN + threshold:  # the distribution is not finite there
        return 1.0
    wrong_side = np.nan_to_num(special.nctdtr(freedom, shift, -threshold))  # too small to be computed is none
    return float(1 - special.nctdtr(freedom, shift, threshold) + wrong_side)


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


def planned_seeds(ratio: float, scatter: float) -> int:
    """Return the seeds per arm, at least 3, that find a ``ratio`` of distances at the level of the last look."""
    seeds = max(FEWEST_SEEDS, seeds_for(math.log(ratio), scatter))
    final = level_at(len(looks_of(seeds, 2)) - 1, looks_of(seeds, 2))
    return max(seeds, seeds_for(math.log(ratio), scatter, level=final))


def looks_of(seeds: int, looks: int) -> tuple[int, ...]:
    """Return the number of seeds at each look: half (rounded up) and all for 2 ``looks`` at 6 seeds or more, else all."""
    return ((seeds + 1) // 2, seeds) if looks == 2 and seeds >= FEWEST_FOR_TWO_LOOKS else (seeds,)


def level_at(look: int, looks: tuple[int, ...], level: float = LEVEL) -> float:
    """Return the two-sided p-value that decides at ``look`` (from 0) of at most two, which share ``level``."""
    if len(looks) == 1:
        return level
    bound = optimize.brentq(lambda last: _crossed(last, looks) - level, 0.01, LARGEST_Z)
    return float(2 * stats.norm.sf(bound / math.sqrt(looks[look] / looks[-1])))


def sequential_p(p: float, look: int, looks: tuple[int, ...]) -> float:
    """Return the smallest level, shared by all looks, at which a two-sided ``p`` at ``look`` decides.

    In a trial that ends at the first look that decides it is a sequential p-value (Liu and Anderson, J. Am. Stat. Assoc. 103,
    2008).
    """
    if not p < 1:  # also what is no number
        return 1.0
    if len(looks) == 1:
        return p
    return _crossed(float(-special.ndtri(p / 2)) * math.sqrt(looks[look] / looks[-1]), looks)


def _crossed(last: float, looks: tuple[int, ...]) -> float:
    """Return the probability that one of two looks crosses its bound under the null; ``last``: the second's bound on |Z|.

    The first look's bound is ``last`` over the root of its share of the seeds (O'Brien and Fleming), and the correlation of
    the two is that root.
    """
    together = math.sqrt(looks[0] / looks[1])
    rest = math.sqrt(1 - together**2)
    first = min(last / together, LARGEST_Z) * NODES
    inside = special.ndtr((last - together * first) / rest) - special.ndtr((-last - together * first) / rest)
    density = np.exp(-(first**2) / 2) / math.sqrt(2 * math.pi)
    return min(1.0, max(0.0, 1.0 - min(last / together, LARGEST_Z) * float(WEIGHTS @ (density * inside))))
