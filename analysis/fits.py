"""Numbers fitted to means over seeds, with their intervals, as the figures of sweeps show and write them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.evidence import FEWEST_SEEDS
from analysis.slopes import FEWEST_WIDTHS, Points, contrast_slope, estimated, fitted_slope


@dataclass(frozen=True)
class Fit:
    """A number fitted to means over seeds, with its interval over seeds."""

    what: str
    value: float | None
    """None: too few points."""
    low: float | None
    high: float | None
    """None: too few points, or one of fewer than two seeds."""
    confidence: float
    points: int
    seeds: int
    """Fewest of a point."""
    paper: float | None
    """The paper's number, or what it predicts."""
    left_out: tuple[str, ...] = ()
    """Arms or widths that are not in it, with the reason."""

    @property
    def told(self) -> str:
        """In words."""
        if self.value is None:
            return f"too few points ({self.points})"
        if self.low is None:
            return f"{self.value:.3f} (a point has 1 seed: no interval)"
        if self.low == self.high:
            return f"{self.value:.3f} (no scatter over seeds)"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def fitted(
    what: str,
    points: Points,
    confidence: float,
    *,
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float] = fitted_slope,
    by_t: bool = False,
    grid_step: float = 1.0,
    fewest: int = FEWEST_WIDTHS,
    paper: float | None = None,
    left_out: Sequence[str] = (),
) -> Fit:
    """``statistic`` of the means of ``points``; interval by a bootstrap over seeds, or (slopes) ``by_t``.

    ``grid_step``: as of :func:`analysis.slopes.contrast_slope`.
    """
    seeds = min((len(values) for values in points.values()), default=0)
    value = low = high = None
    if len(points) >= fewest:
        value = statistic(np.array(list(points)), np.array([values.mean() for values in points.values()]))
        if seeds >= FEWEST_SEEDS:
            t = contrast_slope(points, confidence, grid_step) if by_t else None
            low, high = (t or estimated(points, statistic, confidence))[1]
    return Fit(what, value, low, high, confidence, len(points), seeds, paper, tuple(left_out))


def through_centre(points: Points, slope: float, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The line of that log-log slope through the mean of the points, at x = ``at``; not in logarithms."""
    x = np.mean(np.log(list(points)))
    y = np.mean([values.mean() for values in points.values()])
    return np.exp(y + slope * (np.log(at) - x))
