"""The authors' release beside ours: refused settings, and (with RELEASE=FOLDER, a checkout) agreement of both codes."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments.benchmarks import release
from experiments.benchmarks.bench import Bench, bench_of
from experiments.benchmarks.release_run import merged, summary
from experiments.benchmarks.step import networks_for
from experiments.settings import surroundings
from gat.errors import UserError
from tests.conftest import compose_config, composed

TYPED = ("study=nano", "objective.alignment_weight=0", "training.batch_size=8")
RELEASE = os.environ.get("RELEASE", "")
needs_release = pytest.mark.skipif(not RELEASE, reason="RELEASE names no checkout of github.com/hse1032/GAT")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return bench_of(compose_config(*TYPED), surroundings(composed(*TYPED)).study)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("objective.mng_schedule=linear", "mng_schedule=linear"),
        ("objective.alignment_weight=1", "objective.alignment_weight=1.0"),
        ("objective.penalty_fraction=0.5", "objective.penalty_fraction=0.5"),
        ("objective.augment.cutout=0.5", "objective.augment="),
        ("training.accumulation=2", "training.accumulation=2"),
    ],
)
def test_what_the_release_lacks(bench: Bench, setting: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        release.require_comparable(compose_config(*TYPED, setting), bench.dims)


def test_not_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a checkout of github.com/hse1032/GAT"), release.imported(tmp_path):
        pass


def test_a_training_again_replaces_its_rows_alone() -> None:
    def rows(code: str, seed: int, distance: float) -> pd.DataFrame:
        return pd.DataFrame([{"schedule": "flat", "seed": seed, "code": code, "step": 100, "distance": distance}])

    before = pd.concat([rows("ours", 0, 1.0), rows("the release", 0, 2.0), rows("ours", 1, 3.0)])
    found = merged(before, rows("ours", 0, 9.0))
    assert found[["code", "seed", "distance"]].values.tolist() == [
        ["ours", 0, 9.0],
        ["the release", 0, 2.0],
        ["ours", 1, 3.0],
    ]


def test_ratio_of_the_last_third() -> None:
    """Only step 3 of 1, 2, 3 counts: 200 and 400 of the release over our 100 and 200."""
    late = {("ours", 0): 100.0, ("ours", 1): 200.0, ("the release", 0): 200.0, ("the release", 1): 400.0}
    rows = [
        {"schedule": "flat", "seed": seed, "code": code, "step": step, "distance": value if step == 3 else 7.0}
        for (code, seed), value in late.items()
        for step in (1, 2, 3)
    ]
    # the logarithms of both differ by log 2: standard error 0.4901, two degrees of freedom, quantile 4.303: 2 exp(-+2.109)
    assert "2.00 times ours (0.24 to 16.48; 2 and 2 seeds)" in summary(pd.DataFrame(rows))
    assert "times ours" not in summary(pd.DataFrame(rows[:6] + rows[9:]))


@needs_release
def test_losses_agree_on_the_same_draws_and_only_then(bench: Bench) -> None:
    for schedule in ("exponential", "flat"):
        objective = replace(bench.config.objective, mng_schedule=schedule)
        at = replace(bench, config=replace(bench.config, objective=objective))
        networks, _ = networks_for(at, "off")
        theirs = release.build(RELEASE, at.config, at.dims, at.device)
        theirs.take(networks)
        release.require_agreement(theirs, networks, *at.inputs(0, 8))
        theirs.take(networks)
        with torch.no_grad():
            networks.discriminator.logit_linear.weight.mul_(1.01)
        with pytest.raises(UserError, match="its d_loss is"):
            release.require_agreement(theirs, networks, *at.inputs(1, 8))


@needs_release
def test_the_average_is_one_of_our_generators(bench: Bench) -> None:
    theirs = release.build(RELEASE, bench.config, bench.dims, bench.device)
    batch, noise = bench.inputs(0, 8)
    theirs.step(batch.real, batch.labels)
    ours = theirs.averaged()
    expected = theirs.ema(noise.posterior, batch.labels, noise.z)
    torch.testing.assert_close(ours(noise.z, batch.labels)[-1], expected, atol=1e-5, rtol=1e-4)
