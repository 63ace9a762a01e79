"""Planned power against textbook values and against simulation."""

import numpy as np
import pytest
from scipy import stats

from analysis.power import detectable, power_of, seeds_for


@pytest.mark.parametrize(("standardised", "seeds"), [(1.0, 17), (0.8, 26), (0.5, 64), (0.2, 394)])
def test_seeds_are_cohens(standardised: float, seeds: int) -> None:
    """Two-sided, level 0.05, power 0.8: Cohen (1988), table 2.4.1."""
    assert seeds_for(standardised, 1.0) == seeds
    assert seeds_for(0.1 * standardised, 0.1) == seeds


def test_detectable_is_the_inverse() -> None:
    for seeds in (2, 3, 5, 10):
        effect = detectable(0.15, seeds)
        assert power_of(effect, 0.15, seeds) == pytest.approx(0.8)
        assert seeds_for(effect * 1.0001, 0.15) == seeds
    assert power_of(0.0, 1.0, 5) == pytest.approx(0.05)


def test_power_is_the_share_of_simulated_tests_that_find_the_effect() -> None:
    rng, runs, seeds, effect, scatter = np.random.default_rng(0), 20_000, 5, 0.3, 0.15
    a, b = rng.normal(0, scatter, (runs, seeds)), rng.normal(effect, scatter, (runs, seeds))
    found = float((stats.ttest_ind(a, b, axis=1).pvalue < 0.05).mean())
    assert power_of(effect, scatter, seeds) == pytest.approx(found, abs=3 * np.sqrt(0.25 / runs))


def test_effects_beyond_reach() -> None:
    for effect in (0.0, 1e-4):
        with pytest.raises(ValueError, match="needs more than 10000 seeds"):
            seeds_for(effect, 1.0)
