"""Confidence intervals of numbers measured on samples: a bootstrap over samples of the first-order influences.

The influence of a sample on a number is the derivative of the number as that sample gains weight; their mean is 0.
Resampling them estimates how the number scatters over draws of the samples. Resampling the images themselves would not do for
Fréchet distances: replicates hold each image several times, have a smaller rank, and lie far above the number
(``tests/test_measures.py`` compares both with independent draws). The bias of small samples is not in the interval: compare
numbers of equal counts.
Shares (precision, recall) have Wilson's interval: a bootstrap of a share of 0 or 1 has no width.
Shapes: n samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

REPLICATES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its 95% interval, and how that was made."""

    value: float
    interval: tuple[float, float]
    interval_by: str


def by_bootstrap(value: float, influences: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Of influences (n,), whose mean is subtracted; 1,000 replicates, percentiles."""
    centred = influences - influences.mean()
    generator = np.random.default_rng(seed)
    n = len(centred)
    means = np.array([generator.multinomial(n, np.full(n, 1 / n)) @ centred / n for _ in range(REPLICATES)])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    interval = (value + float(low), value + float(high))
    return Estimate(value, interval, "bootstrap over samples of first-order influences")


def of_share(share: float, count: int) -> Estimate:
    """Of a share of ``count`` images."""
    interval = binomtest(round(share * count), count).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(share, (float(interval.low), float(interval.high)), "Wilson")
