"""What counts as divergence, and how a run that diverges ends."""

import json
import math
from pathlib import Path

import pytest

from gat.config import DivergenceConfig
from gat.training import run as run_module
from gat.training.divergence import Divergence, DivergenceWatch
from tests.conftest import compose_config
from tests.small_run import SMALL, metrics_of, write_images

GOOD = {"logit_gap": 1.0, "logit_rms": 3.0, "sample_rms": 1.0, "d_loss": 0.5}


@pytest.fixture
def watch() -> DivergenceWatch:
    return DivergenceWatch(DivergenceConfig(max_logit_gap=50, max_logit_rms=1e3, max_sample_rms=10, patience_steps=3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_counts_at_once(watch: DivergenceWatch, value: float) -> None:
    assert watch.see(1, GOOD) is None
    assert watch.see(2, GOOD | {"d_loss": value}) == Divergence(2, f"d_loss is {value}")


def test_a_bound_counts_after_its_patience_from_where_it_began(watch: DivergenceWatch) -> None:
    far = GOOD | {"logit_gap": -51.0}
    assert watch.see(1, far) is None
    assert watch.suspicious
    assert watch.see(2, GOOD | {"logit_gap": 50.0}) is None  # back within: the count starts again
    assert not watch.since
    assert [watch.see(step, far) for step in (3, 4)] == [None, None]
    assert watch.see(5, far) == Divergence(3, "logit_gap beyond 50 for 3 steps")


def test_bounds_count_apart(watch: DivergenceWatch) -> None:
    assert watch.see(1, GOOD | {"sample_rms": 11.0}) is None
    assert watch.see(2, GOOD | {"logit_gap": 60.0}) is None
    assert watch.see(3, GOOD | {"logit_gap": 60.0, "sample_rms": 11.0}) is None
    assert watch.see(4, GOOD | {"logit_gap": 60.0}) == Divergence(2, "logit_gap beyond 50 for 3 steps")


def run_until_diverged(folder: Path, *overrides: str) -> dict[str, object]:
    (folder / "images").mkdir()
    write_images(folder / "images")
    paths = (f"data.root={folder / 'images'}", f"paths.prepared={folder / 'prepared'}", f"paths.run={folder / 'run'}")
    config = compose_config(*SMALL, *paths, "training.total_steps=60", *overrides)
    record = run_module.run(config)
    assert record is not None
    assert run_module.run(config) == record  # it has ended: it is not tried again
    assert json.loads((folder / "run/record.json").read_text()) == record
    return record


def test_a_far_too_large_rate_is_a_result(tmp_path: Path) -> None:
    record = run_until_diverged(
        tmp_path, "optim.lr_base=30", "training.divergence.patience_steps=4", "training.log_steps=5"
    )
    assert record["status"] == "diverged"
    diverged = record["diverged"]
    assert isinstance(diverged, dict)
    last_step = metrics_of(tmp_path / "run")[-1]["step"]
    assert 1 <= diverged["step"] <= last_step < 60
    for file in (tmp_path / "run/checkpoints").iterdir():  # only from before it began
        assert int(file.stem.removeprefix("step-")) < diverged["step"]


def test_divergence_before_the_first_line_of_metrics(tmp_path: Path) -> None:
    """It is seen when the checkpoint is due: that step has a line then, and the run its record."""
    record = run_until_diverged(tmp_path, "optim.lr_base=1e38", "training.log_steps=50", "training.checkpoint_steps=3")
    assert record["status"] == "diverged"
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == [3]
    final = record["final_metrics"]
    assert isinstance(final, dict)
    assert (final["step"], final["images"]) == (3, 12)
    assert not list((tmp_path / "run/checkpoints").iterdir())


def test_weights_that_are_not_finite_are_seen(tmp_path: Path) -> None:
    record = run_until_diverged(tmp_path, "optim.lr_base=1e38")
    assert record["status"] == "diverged"
    assert record["diverged"] is not None
    assert (tmp_path / "run/metrics.jsonl").read_text().count("null") > 0
    assert "NaN" not in (tmp_path / "run/metrics.jsonl").read_text()
