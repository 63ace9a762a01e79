"""Planned power against textbook values and against simulation."""

import numpy as np
import pytest
from scipy import stats

from experiments.study.power import (
    detectable,
    level_at,
    looks_of,
    planned_seeds,
    power_of,
    seeds_for,
    sequential_p,
)


@pytest.mark.parametrize(("standardised", "seeds"), [(1.0, 17), (0.8, 26), (0.5, 64), (0.2, 394)])
def test_seeds_are_cohens(standardised: float, seeds: int) -> None:
    """Two-sided, level 0.05, power 0.8: Cohen (1988), table 2.4.1."""
    assert seeds_for(standardised, 1.0) == seeds
    assert seeds_for(0.1 * standardised, 0.1) == seeds


def test_detectable_is_the_inverse() -> None:
    assert all(detectable(0.17, seeds, level=level) > 0 for seeds in range(3, 20) for level in (0.05, 0.05 / 12, 1e-4))
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


def test_two_looks_have_the_bounds_of_o_brien_and_fleming() -> None:
    """Jennison and Turnbull (2000), table 2.3: 1.977 at the second of two looks (level 0.05), times sqrt(2) at the first."""
    first, second = (level_at(look, (5, 10)) for look in (0, 1))
    assert stats.norm.isf(second / 2) == pytest.approx(1.977, abs=5e-4)
    assert stats.norm.isf(first / 2) == pytest.approx(1.977 * np.sqrt(2), abs=1e-3)
    assert level_at(0, (10,)) == 0.05


@pytest.mark.parametrize("look", [0, 1])
def test_a_sequential_p_is_the_level_that_it_decides_at(look: int) -> None:
    for level in (1e-4, 0.01, 0.05, 0.3):
        assert sequential_p(level_at(look, (4, 8), level), look, (4, 8)) == pytest.approx(level)
    assert sequential_p(0.01, 0, (8,)) == 0.01
    assert [sequential_p(p, look, (4, 8)) for p in (0.0, 1.0)] == [0.0, 1.0]


def test_looks_and_the_seeds_that_they_need() -> None:
    """1.3 at a scatter of 0.17 is 1.54 standard deviations: 8 seeds; at least 3; half of 7 is 4."""
    assert planned_seeds(1.3, 0.17) == 8
    assert planned_seeds(1.3, 0.001) == 3
    assert [looks_of(seeds, 2) for seeds in (5, 6, 7, 8)] == [(5,), (3, 6), (4, 7), (4, 8)]
    assert looks_of(8, 1) == (8,)
