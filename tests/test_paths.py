"""Steps along paths between samples: numbers by hand, pairs of ends, lines in w and in z, a planted jump."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.opening import Opened, opened
from analysis.paths import draw_pairs, kind_of, line, measure_paths, numbers_of, rows_of, steps_of, summary
from gat.errors import UserError
from gat.models import Generator
from gat.rng import make_generator
from gat.samples.interpolation import Anchor, w_path
from tests.helpers import CLASSES, mini_generator

CPU = torch.device("cpu")
PAIR = (Anchor(5, 0), Anchor(6, 2))


class GreyDistance:
    """Squared difference of the mean grey level."""

    name = "grey"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a.double().mean(dim=(1, 2, 3)) - b.double().mean(dim=(1, 2, 3))).square()


# numbers


def test_numbers_by_hand() -> None:
    """One jump; four even steps of the distance; even steps in one direction of a feature space, whose ends are 4 apart."""
    steps = np.array([[0.0, 0, 1, 0], [0.5, 0.5, 0.5, 0.5], [1.0, 1, 1, 1], [1, 4, 1, 0]])
    found = numbers_of(steps, np.array([1.0, 0.5, 16, 4]))
    assert found["largest_step_share"].tolist() == pytest.approx([1, 1 / 4, 1 / 4, 4 / 6])
    assert found["straightness"].tolist() == pytest.approx([1, 1 / 4, 4, 4 / 6])
    assert found["root_straightness"].tolist() == pytest.approx([1, 1 / 4, 1, 2 / 4])


def test_paths_on_which_nothing_changes_are_left_out() -> None:
    found = numbers_of(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0.0, 2.0]))
    assert all(np.isnan(values).tolist() == [True, False] for values in found.values())


def test_summary_by_hand() -> None:
    """Within: shares 1/2 and 1 of two paths, a third does not move. Between: none moves."""
    nan = float("nan")
    shares = [("within", 0.5), ("within", 1.0), ("within", nan), ("between", nan)]
    rows = [{"kind": k, "largest_step_share": x, "straightness": 2 * x, "root_straightness": x} for k, x in shares]
    within, between = summary(rows)
    assert (within["kind"], within["paths"], within["left_out"]) == ("within", 2, 1)
    assert (within["largest_step_share"], within["straightness"]) == (0.75, 1.5)
    assert (within["largest_step_share_low"], within["largest_step_share_high"]) == (0.5, 1)  # of two
    assert (between["paths"], between["left_out"], between["largest_step_share"]) == (0, 1, None)
    assert summary(rows[:2]) == [{**within, "left_out": 0}]


def test_intervals_are_the_normal_ones() -> None:
    values = np.random.default_rng(0).uniform(size=400)
    rows = [
        {"kind": "within", "largest_step_share": x, "straightness": x, "root_straightness": x} for x in values.tolist()
    ]
    (found,) = summary(rows)
    half = 1.96 * values.std() / 20
    assert found["straightness_low"] == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found["straightness_high"] == pytest.approx(values.mean() + half, abs=0.15 * half)


# ends


def test_half_within_and_half_between_classes() -> None:
    pairs = draw_pairs(101, 5, seed=3)
    assert [kind_of(pair) for pair in pairs] == (["within", "between"] * 51)[:101]
    assert {end.label for pair in pairs for end in pair} == set(range(5))
    assert len({end.seed for pair in pairs for end in pair}) == 202
    assert draw_pairs(7, 5, seed=3) == pairs[:7]
    assert draw_pairs(7, 5, seed=4) != pairs[:7]


def test_one_class_has_no_others() -> None:
    assert {kind_of(pair) for pair in draw_pairs(8, 1, seed=0)} == {"within"}
    assert all({a.label, b.label} == {0, 1} for a, b in draw_pairs(8, 2, seed=0)[1::2])


# lines


@pytest.fixture(scope="module")
def generator() -> Generator:
    model = mini_generator().requires_grad_(False)
    model.mean_w.normal_(generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("truncation", [0.0, 0.4, 1.0])
def test_both_lines_have_the_same_ends(generator: Generator, truncation: float) -> None:
    in_w, in_z = (line(generator, PAIR, 8, truncation, space) for space in ("w", "z"))
    assert torch.equal(in_w, w_path(generator, PAIR, 8, truncation, closed=False))
    assert in_z.shape == in_w.shape == (9, generator.dims.width)
    for end in (0, -1):
        assert torch.allclose(in_z[end], in_w[end], rtol=0, atol=1e-6)
    assert ((in_z[4] - in_w[4]).norm() > 0.1) == (truncation < 1)  # at psi 1 both go from mean to mean


def test_within_a_class_the_middle_in_z_is_the_image_of_the_middle(generator: Generator) -> None:
    pair = (Anchor(5, 1), Anchor(6, 1))
    first, last = (_z(end) for end in pair)
    z = [torch.lerp(first, last, place) for place in (0.25, 0.5)]
    expected = generator.style(torch.cat(z), torch.tensor([1, 1]), 0.3)
    assert torch.allclose(line(generator, pair, 4, 0.3, "z")[1:3], expected, rtol=0, atol=1e-6)


def _z(end: Anchor) -> Tensor:
    return torch.randn(1, 64, generator=make_generator(end.seed, "interpolation")).double()


@pytest.mark.parametrize("space", ["w", "z"])
def test_lines_that_cannot_be(generator: Generator, space: str) -> None:
    with pytest.raises(UserError, match=r"class 3 must lie between 0 and 2"):
        line(generator, (Anchor(1, 0), Anchor(2, CLASSES)), 4, 0.0, space)
    with pytest.raises(UserError, match="frames=0 must be at least 1"):
        line(generator, PAIR, 0, 0.0, space)
    with pytest.raises(UserError, match="space='x' is unknown: choose one of w, z"):
        line(generator, PAIR, 4, 0.0, "x")


# steps


def test_steps_are_in_order() -> None:
    """Two paths of three grey images: 0 1 3 and 5 5 9."""
    greys = torch.tensor([[0, 1, 3], [5, 5, 9]], dtype=torch.uint8)
    images = greys[..., None, None, None].expand(-1, -1, 3, 4, 4)
    for batch in (1, 3, 64):
        assert steps_of(images, GreyDistance(), batch).tolist() == [[1, 4], [0, 16]]


@pytest.fixture(scope="module")
def run(trained: Path) -> Opened:
    return opened(f"{trained}/run", CPU)


def with_greys(it: Opened, monkeypatch: pytest.MonkeyPatch, grey_of: list[int]) -> None:
    """Each path's images are of these grey levels, whatever its w; in batches of whole paths."""

    def painted(*given: object, **_: object) -> Tensor:
        w = given[3]
        assert isinstance(w, Tensor)
        assert len(w) % len(grey_of) == 0
        greys = torch.tensor(grey_of, dtype=torch.uint8).repeat(len(w) // len(grey_of))
        return greys[:, None, None, None].expand(-1, 3, 32, 32)

    monkeypatch.setattr("analysis.paths.synthesize_path", painted)


@pytest.mark.parametrize(
    ("greys", "share"), [([10, 10, 10, 90, 90], 1), ([10, 20, 30, 40, 50], 1 / 4), ([7, 7, 7, 7, 7], None)]
)
def test_a_stub_decoder(run: Opened, monkeypatch: pytest.MonkeyPatch, greys: list[int], share: float | None) -> None:
    """One that switches hard, one that is even, and one that draws the same image always."""
    with_greys(run, monkeypatch, greys)
    pairs = draw_pairs(6, 2, seed=0)
    found = measure_paths(run, pairs, GreyDistance(), frames=4, space="w", keep=[1, 4], batch_size=12)
    assert found.steps.shape == (6, 4)
    assert sorted(found.images) == [1, 4]
    assert found.images[4][:, 0, 0, 0].tolist() == greys
    for one in summary(rows_of(found)):
        assert one["largest_step_share"] == (None if share is None else pytest.approx(share))
        assert (one["paths"], one["left_out"]) == ((0, 3) if share is None else (3, 0))
    if share:
        assert {row["root_straightness"] for row in rows_of(found)} == {1.0}
        assert {row["step_max_at"] for row in rows_of(found)} == {2 if share == 1 else 0}


def test_batches_do_not_matter(run: Opened) -> None:
    pairs = draw_pairs(5, 2, seed=0)
    whole, parts = (measure_paths(run, pairs, GreyDistance(), frames=3, space="w", batch_size=size) for size in (64, 4))
    assert parts.steps == pytest.approx(whole.steps, abs=0.5)  # rounding of a grey level
    assert whole.pairs == pairs


def test_a_diverged_run_is_told(trained: Path) -> None:
    it = opened(f"{trained}/run", CPU)
    it.subject.generator.class_embedding.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="samples are not finite: the run has diverged, choose an earlier checkpoint"):
        measure_paths(it, draw_pairs(2, 2, seed=0), GreyDistance(), frames=2, space="w")


def test_the_runs_truncation_counts(run: Opened) -> None:
    """At psi 1 a path within a class goes nowhere."""
    rules = replace(run.config.evaluation, truncation=1.0)
    pulled = replace(run, config=replace(run.config, evaluation=rules))
    found = measure_paths(pulled, draw_pairs(2, 2, seed=0), GreyDistance(), frames=2, space="w")
    assert found.steps[0].tolist() == [0, 0]
