"""Points of a sweep: arms x grid x seeds, what the command line changes of them, and their names."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from experiments.study.points import expand, label, spell
from gat.errors import UserError


def sweep(**changes: Any) -> DictConfig:
    values = {"name": "test", "claim": {"seeds": 2}, "common": {}, "arms": {}, "grid": {}}
    return OmegaConf.create({"sweep": values | changes, "study": {"steps": 8}}).sweep


def test_arms_times_grid_times_seeds_in_order() -> None:
    points = expand(sweep(common={"c": True}, arms={"one": {"a": 1}, "two": {}}, grid={"m.size": ["S", "B"]}), {})
    assert points[0] == ["c=true", "a=1", "m.size=S", "training.seed=0", "sweep.arm='one,size=S'"]
    assert points[1][-2:] == ["training.seed=1", "sweep.arm='one,size=S'"]
    assert points[-1] == ["c=true", "m.size=B", "training.seed=1", "sweep.arm='two,size=B'"]
    assert len(points) == 2 * 2 * 2


def test_values_may_refer_to_the_study() -> None:
    (point, _) = expand(sweep(arms={"short": {"training.total_steps": "${study.steps}"}}), {})
    assert point[0] == "training.total_steps=8"


def test_command_line_wins() -> None:
    own = sweep(common={"c": 1}, grid={"size": ["S", "B"]})
    assert expand(own, {"size": ["L"], "c": ["5"]}) == [
        ["c=5", "size=L", f"training.seed={seed}", "sweep.arm=L"] for seed in (0, 1)
    ]
    seeds = expand(own, {"training.seed": ["7", "9"]})  # a seed is no axis with a name
    assert [point[2] for point in seeds] == ["training.seed=7", "training.seed=9"] * 2
    further = expand(own, {"optim.lr_base": ["1e-4", "1e-3"], "training.seed": ["0"]})
    assert [point[-1] for point in further] == [
        f"sweep.arm='size={size},lr_base={lr}'" for size in "SB" for lr in ("1e-4", "1e-3")
    ]


def test_some_arms_alone() -> None:
    own = sweep(arms={"one": {"a": 1}, "two": {"a": 2}, "three": {"a": 3}}, grid={"size": ["S"]})
    points = expand(own, {"training.seed": ["0"]}, ["three", "one"])
    assert [point[-1] for point in points] == ["sweep.arm='one,size=S'", "sweep.arm='three,size=S'"]
    assert expand(own, {}, []) == expand(own, {})


def test_unknown_arm() -> None:
    with pytest.raises(UserError, match=r"launch\.arms: sweep 'test' has no arm 'c' \(its arms: a, b\)"):
        expand(sweep(arms={"a": {}, "b": {"x": 1}}), {}, ["a", "c"])
    with pytest.raises(UserError, match=r"has no arm 'c' \(its arms: none: its runs differ in size\)"):
        expand(sweep(grid={"size": ["S"]}), {}, ["c"])
    with pytest.raises(UserError, match=r"launch\.arms is a list: type launch\.arms=\[a,b\]"):
        expand(sweep(arms={"a": {}, "b": {"x": 1}}), {"launch.arms": ["a", "b"]})


def test_a_number_typed_otherwise_is_the_same_point() -> None:
    own = sweep(grid={"lr_multiple": [0.5, 1.0, 16.0]})
    points = expand(own, {"lr_multiple": ["1", ".50", "1.6e1", "3"], "training.seed": ["0"]})
    assert [point[-1] for point in points] == [
        f"sweep.arm='lr_multiple={number}'" for number in ("1.0", "0.5", "16.0", "3")
    ]


def test_added_and_forced_settings() -> None:
    own = sweep(grid={"size": ["S", "B"]}, arms={"a": {"arm": 1}})
    (point, _) = expand(own, {"++size": ["L"], "+extra.key": ["x"]})
    assert point == ["arm=1", "size=L", "+extra.key=x", "training.seed=0", "sweep.arm='a,size=L'"]
    with pytest.raises(UserError, match="arm is what the arms"):
        expand(own, {"++arm": ["2"]})


def test_command_line_cannot_level_arms() -> None:
    with pytest.raises(UserError, match="size is what the arms of sweep 'test' differ in: leave it out"):
        expand(sweep(arms={"S": {"size": "S"}, "B": {"size": "B"}}), {"size": ["S"]})


@pytest.mark.parametrize("key", ["sweep", "study", "study.short_steps", "cluster", "launch.to"])
def test_what_surrounds_the_runs_cannot_be_swept(key: str) -> None:
    with pytest.raises(UserError, match=f"{key} cannot be swept: type one value of it"):
        expand(sweep(), {key: ["a", "b"]})


def test_without_a_claim_one_seed() -> None:
    assert expand(sweep(claim=None), {"a": ["1", "2"]}) == [
        ["a=1", "training.seed=0", "sweep.arm='a=1'"],
        ["a=2", "training.seed=0", "sweep.arm='a=2'"],
    ]


@pytest.mark.parametrize(
    ("arm", "point", "name"),
    [
        ("", {}, "baseline"),
        ("", {"objective.mng_schedule": "linear"}, "linear"),
        ("", {"objective.mng_nested": "true"}, "mng_nested=true"),
        ("", {"optim.lr_multiple": "0.5"}, "lr_multiple=0.5"),
        ("small", {"model.size": "S"}, "small,size=S"),
    ],
)
def test_names(arm: str, point: dict[str, str], name: str) -> None:
    assert label(arm, point) == name


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (None, "null"),
        (True, "true"),
        (0.25, "0.25"),
        ("tiny_f2", "tiny_f2"),
        ("a=b,c", "'a=b,c'"),
        ([8, 16], "[8, 16]"),
    ],
)
def test_spelling(value: object, spelled: str) -> None:
    assert spell(value) == spelled
