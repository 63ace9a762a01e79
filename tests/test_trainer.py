"""Whole small runs: what they leave behind, that they continue exactly, and that nothing is done twice."""

import json
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from gat.data.prepared import PreparedSet
from gat.errors import Interrupted, UserError
from gat.evaluation.protocol import from_record
from gat.numerics import NUMERICS
from gat.processes import Processes
from gat.training import run as run_module
from gat.training import trainer
from gat.training.results import numbers_of
from gat.training.step import Networks, training_step
from gat.training.trackers import NoTracker
from tests.small_run import SmallConfig
from tests.small_run import recorded as run


def test_checkpoints_that_need_not_be_kept_go_with_the_end(small: SmallConfig, tmp_path: Path) -> None:
    kept, run_alone = run(small(run_folder="kept")), run(small("training.keep_checkpoints=false"))
    assert run_alone["checkpoint"] is None
    assert not list((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert len(list((tmp_path / "kept" / "checkpoints").glob("*.safetensors"))) == 2
    assert run_alone["identity"] == kept["identity"]
    assert run(small("training.keep_checkpoints=false")) == run_alone  # an ended run is not repeated for want of one


def test_checkpoints_that_were_kept_stay_when_a_run_is_extended(small: SmallConfig, tmp_path: Path) -> None:
    """Another sweep may need them, whichever of its own checkpoints the extension keeps."""
    run(small("training.total_steps=2", "training.checkpoint_steps=1"))
    typed = ("training.checkpoint_steps=1", "evaluation.samples=0")
    record = run(small(*typed, "training.total_steps=6", "training.keep_checkpoints=false"))
    names = [f"step-{step:08d}.safetensors" for step in (1, 2)]
    assert sorted(file.name for file in (tmp_path / "run" / "checkpoints").iterdir()) == names
    assert Path(record["checkpoint"]).name == names[-1]


def test_what_a_run_leaves_behind(small: SmallConfig, tmp_path: Path) -> None:
    record = run(small())
    folder = tmp_path / "run"
    assert json.loads((folder / "record.json").read_text()) == record
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["images"] for line in lines] == [4, 8, 12, 16]
    assert lines[-1] == record["final_metrics"]
    assert record["numerics"] == NUMERICS
    assert record["by_rounding"].keys() >= {"device", "compiled", "accumulation", "threads", "processes"}
    assert numbers_of(record["final_metrics"])["FD-EfficientNetLite0-8"]["value"] > 0
    assert record["final_metrics"]["lr_g"] == pytest.approx(2e-4 * 768 / 64)
    assert record["status"] == "finished"
    assert record["config"]["training"]["total_steps"] == 4
    assert {"commit", "dirty"} <= record["git"].keys()
    assert record["hardware"]["cores"] > 0
    assert (folder / "config.yaml").read_text().count("total_steps: 4") == 1
    with Image.open(folder / "samples.png") as grid:
        assert grid.size == (3 * 33 + 1, 2 * 33 + 1)  # three columns and a row per class of 32 pixels, one between
    assert [f.name for f in sorted((folder / "checkpoints").iterdir())] == [
        "step-00000002.safetensors",
        "step-00000004.safetensors",
    ]


@pytest.mark.parametrize("overrides", [(), ("objective.generator_alignment_weight=0.5",)])
def test_continues_exactly_where_it_was_cut_off(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    run(small(*overrides, run_folder="whole"))
    step = training_step

    def fails_at_the_fourth(*arguments: Any) -> Any:
        metrics = step(*arguments)
        fails_at_the_fourth.calls += 1  # type: ignore[attr-defined]
        if fails_at_the_fourth.calls == 4:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return metrics

    fails_at_the_fourth.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(trainer, "training_step", fails_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run(small(*overrides, run_folder="cut"))
    monkeypatch.setattr(trainer, "training_step", step)
    run(small(*overrides, run_folder="cut"))
    whole, cut = (load_file(tmp_path / name / "checkpoints" / "step-00000004.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert ("generator.projector.0.weight" in whole) == bool(overrides)

    def untimed(name: str) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "images_per_s"} for line in lines]

    assert untimed("cut") == untimed("whole")
    assert (tmp_path / "cut/samples.png").read_bytes() == (tmp_path / "whole/samples.png").read_bytes()


@pytest.mark.parametrize(("gap", "where"), [(1.0, "there"), (1e9, "the last checkpoint, as it may be diverging")])
def test_an_interrupted_run_says_where_it_goes_on(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: float, where: str
) -> None:
    """And its tracker is closed: what it has not written by then would be lost."""
    closed: list[bool] = []

    class Kept(NoTracker):
        def close(self) -> None:
            closed.append(True)

    def step(*arguments: Any) -> dict[str, Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return training_step(*arguments) | {"logit_gap": torch.tensor(gap)}

    monkeypatch.setattr(trainer, "training_step", step)
    monkeypatch.setattr(trainer, "open_tracker", lambda *_: Kept())
    with pytest.raises(Interrupted, match=f"^interrupted after step 1: the same command goes on from {where}$"):
        run(small())
    assert closed == [True]
    assert [file.name for file in (tmp_path / "run/checkpoints").iterdir()] == (
        ["step-00000001.safetensors"] if where == "there" else []
    )


def test_processes_that_see_other_checkpoints_do_not_train(small: SmallConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has an older one, say: with equal shapes their gradients would be averaged all the same."""
    monkeypatch.setattr(Processes, "from_main", lambda _, found: found if found.is_floating_point() else found + 2)
    with pytest.raises(
        UserError, match=r"find different checkpoints in .* \(rank 0 that of step 0, rank 0 of 2\): they must"
    ):
        run(small())


def test_training_on_latents_needs_no_autoencoder(
    small: SmallConfig, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a node that has the prepared set and no network; with alignment of G it is what the samples are decoded by."""
    run(small("evaluation.samples=0", "training.total_steps=1"))

    def gone(_: PreparedSet) -> NoReturn:
        raise UserError("no autoencoder here")

    monkeypatch.setattr(PreparedSet, "autoencoder", gone)
    run(small("evaluation.samples=0", "training.total_steps=1", run_folder="without"))
    with pytest.raises(UserError, match="no autoencoder here"):
        run(small("evaluation.samples=0", "objective.generator_alignment_weight=0.5", run_folder="aligned"))


def test_a_finished_run_is_not_repeated(small: SmallConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run(small())
    monkeypatch.setattr(run_module, "Trainer", None)  # would fail if it were touched
    assert run(small("training.log_steps=2")) == record


def test_unwritable_place_for_prepared_data(small: SmallConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"prepared data in .*/file/x: cannot be written \(Not a directory\): make room"
    ):
        run(small(f"paths.prepared={tmp_path / 'file' / 'x'}"))


@pytest.mark.parametrize(
    "overrides",
    [
        ("objective.mng_schedule=none",),
        ("objective.mng_schedule=msg", "teacher=none"),
        ("objective.mng_schedule=linear", "objective.mng_nested=false", "objective.mng_form=variance_preserving"),
        ("teacher.cache=false", "teacher.translation=as_released", "objective=gat"),
        ("training.precision=bf16",),
    ],
)
def test_every_switch_runs(small: SmallConfig, overrides: tuple[str, ...]) -> None:
    metrics = run(small("training.total_steps=1", *overrides))["final_metrics"]
    assert all(np.isfinite(value) for name, value in metrics.items() if name != "evaluations")
    assert ("alignment" in metrics) == ("teacher=none" not in overrides)


@pytest.mark.parametrize("cache", ["true", "false"])
def test_only_the_generator_is_aligned(small: SmallConfig, cache: str) -> None:
    weights = ("objective.alignment_weight=0", "objective.generator_alignment_weight=0.5")
    record = run(small(*weights, "objective.generator_alignment_block=2", f"teacher.cache={cache}"))
    assert 0 < record["final_metrics"]["generator_alignment"] < 2
    assert "alignment" not in record["final_metrics"]
    assert record["model"]["generator"]["teacher_width"] == 112
    assert record["model"]["discriminator"]["teacher_width"] == 0


def test_terms_of_the_successors_run_in_parts(small: SmallConfig) -> None:
    terms = ("penalty_fraction=0.5", "consistency_weight=0.1", "logit_centering_weight=0.01")
    overrides = [f"objective.{term}" for term in terms]
    aligned = "objective.generator_alignment_weight=0.5"
    metrics = run(small(*overrides, aligned, "training.accumulation=2", "training.precision=bf16"))["final_metrics"]
    for name in ("consistency", "logit_centering", "generator_alignment", "alignment", "ar1"):
        assert metrics[name] > 0, name


def test_reconstructions_are_reported(small: SmallConfig, prepared: Path) -> None:
    metrics = run(small("evaluation.reconstruction=true", "training.total_steps=1"))["final_metrics"]
    floor = numbers_of(metrics)["FD-EfficientNetLite0-8-reconstruction"]
    assert floor["kind"] == "frechet_reconstruction"
    assert floor["value"] > 0
    assert len(list(prepared.glob("*/reconstruction-*.json"))) == 1


def test_numbers_are_kept_with_their_protocols(small: SmallConfig) -> None:
    record = run(small("evaluation.reconstruction=true", "evaluation.truncation=0.5", "training.total_steps=1"))
    numbers = numbers_of(record["final_metrics"])
    assert {number["kind"] for number in numbers.values()} == {"frechet", "frechet_reconstruction"}
    protocols = {name: from_record(record["protocols"][number["protocol"]]) for name, number in numbers.items()}
    assert protocols["FD-EfficientNetLite0-8"].truncation == 0.5
    assert protocols["FD-EfficientNetLite0-8"].samples == 8
    assert protocols["FD-EfficientNetLite0-8"].image_px == 32


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.penalty_fraction=0.125", "one sample in 8, but the batch is worked through 4 at a time"),
        ("model.num_classes=10", "the data has 2 classes, fewer than model.num_classes=10"),
        ("model.patch=3", "model.patch=3 is not offered"),
        ("training.batch_size=17", "training.batch_size=17 is more than the 16 images"),
        ("evaluation.reference=/nowhere.npz", "/nowhere.npz: no reference statistics"),
        ("evaluation.truncation=2", "evaluation.truncation=2.0 must be at least 0 and at most 1"),
    ],
)
def test_mistakes_leave_no_run_folder(small: SmallConfig, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(small(override))
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_begun_again_keeping_less(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out after D's update, as it may: nothing of that is left, and the run is the one that always fitted."""
    modes: list[str] = []

    def too_large_unless_full(networks: Networks, *inputs: Any) -> dict[str, Tensor]:
        modes.append(networks.generator.checkpointing)
        metrics = training_step(networks, *inputs)
        if networks.generator.checkpointing != "full":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return metrics

    run(small())
    monkeypatch.setattr(trainer, "training_step", too_large_unless_full)
    run(small("training.activation_checkpointing=auto", run_folder="auto"))
    assert modes == ["none", "selective"] + 4 * ["full"]
    expected, found = (load_file(tmp_path / name / "checkpoints/step-00000004.safetensors") for name in ("run", "auto"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("choice", "fails_at", "remedy"),
    [
        ("none", 1, "training.accumulation=2, training.activation_checkpointing=selective"),
        ("auto", 2, "training.accumulation=2, training.activation_checkpointing=selective"),
        ("full", 1, "training.accumulation=2"),
    ],
)
def test_what_does_not_fit_is_told(
    small: SmallConfig, monkeypatch: pytest.MonkeyPatch, choice: str, fails_at: int, remedy: str
) -> None:
    """By itself less is kept only if that was asked for, and at the first step: a later one follows changed networks."""
    steps = 0

    def too_large(networks: Networks, *inputs: Any) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return training_step(networks, *inputs)

    monkeypatch.setattr(trainer, "training_step", too_large)
    with pytest.raises(UserError, match=f"batch_size=4 does not fit the GPU's memory: try {remedy}, or more processes"):
        run(small(f"training.activation_checkpointing={choice}", run_folder=f"{choice}-{fails_at}"))


def test_seeds_of_initialisation_order_and_noise_are_apart(small: SmallConfig, tmp_path: Path) -> None:
    """Each alone gives another run; all three set to the seed give the same."""

    def weights(name: str, *overrides: str) -> dict[str, Tensor]:
        run(small("evaluation.samples=0", "training.total_steps=2", *overrides, run_folder=name))
        return load_file(tmp_path / name / "checkpoints" / "step-00000002.safetensors")

    base = weights("base")
    same = weights("same", "training.seed=3", *(f"training.{which}_seed=0" for which in ("init", "order", "noise")))
    assert all(torch.equal(same[key], base[key]) for key in base)
    for which in ("init", "order", "noise"):
        other = weights(which, f"training.{which}_seed=1")
        assert any(not torch.equal(other[key], base[key]) for key in base), which
