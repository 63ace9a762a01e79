"""Whole small runs: what they leave behind, that they continue exactly, and that nothing is done twice."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from gat.checkpoint_file import under
from gat.config import Config
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from gat.errors import Interrupted, UserError
from gat.evaluation.protocol import from_record
from gat.models.generator import Generator, GeneratorDims
from gat.numerics import NUMERICS
from gat.processes import Processes
from gat.training import run as run_module
from gat.training import run_folder, trainer
from gat.training.evaluation import RunEvaluation
from gat.training.results import numbers_of, read_metrics
from gat.training.step import Networks, training_step
from gat.training.trackers import NoTracker
from tests.conftest import compose_config
from tests.small_run import SMALL, write_images

Compose = Callable[..., Config]


def run(config: Config) -> dict[str, Any]:
    """The record of the only process."""
    record = run_module.run(config)
    assert record is not None
    return record


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight random images."""
    root = tmp_path_factory.mktemp("images")
    write_images(root)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture
def small(images: Path, prepared: Path, tmp_path: Path) -> Compose:
    def compose(*overrides: str, run_folder: str = "run") -> Config:
        paths = (f"data.root={images}", f"paths.prepared={prepared}", f"paths.run={tmp_path / run_folder}")
        return compose_config(*SMALL, "training.eval_steps=4", *paths, *overrides)

    return compose


def test_checkpoints_that_need_not_be_kept_go_with_the_end(small: Compose, tmp_path: Path) -> None:
    kept, run_alone = run(small(run_folder="kept")), run(small("training.keep_checkpoints=false"))
    assert run_alone["checkpoint"] is None
    assert not list((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert len(list((tmp_path / "kept" / "checkpoints").glob("*.safetensors"))) == 2
    assert run_alone["identity"] == kept["identity"]
    assert run(small("training.keep_checkpoints=false")) == run_alone  # an ended run is not repeated for want of one


def test_what_a_run_leaves_behind(small: Compose, tmp_path: Path) -> None:
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
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
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
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: float, where: str
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


def test_processes_that_see_other_checkpoints_do_not_train(small: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has an older one, say: with equal shapes their gradients would be averaged all the same."""
    monkeypatch.setattr(Processes, "from_main", lambda _, step: step + 2)
    with pytest.raises(
        UserError, match=r"find different checkpoints in .* \(rank 0 that of step 0, rank 0 of 2\): they must"
    ):
        run(small())


def test_training_on_latents_needs_no_autoencoder(
    small: Compose, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a node that has the prepared set and no network; with alignment of G it is what the samples are decoded by."""
    run(small("evaluation.samples=0", "training.total_steps=1"))

    def gone(_: PreparedSet) -> NoReturn:
        raise UserError("no autoencoder here")

    monkeypatch.setattr(PreparedSet, "autoencoder", gone)
    run(small("evaluation.samples=0", "training.total_steps=1", run_folder="without"))
    with pytest.raises(UserError, match="no autoencoder here"):
        run(small("evaluation.samples=0", "objective.generator_alignment_weight=0.5", run_folder="aligned"))


def test_a_finished_run_is_not_repeated(small: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run(small())
    monkeypatch.setattr(run_module, "Trainer", None)  # would fail if it were touched
    assert run(small("training.log_steps=2")) == record


def test_unwritable_place_for_prepared_data(small: Compose, tmp_path: Path) -> None:
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
def test_every_switch_runs(small: Compose, overrides: tuple[str, ...]) -> None:
    metrics = run(small("training.total_steps=1", *overrides))["final_metrics"]
    assert all(np.isfinite(value) for name, value in metrics.items() if name != "evaluations")
    assert ("alignment" in metrics) == ("teacher=none" not in overrides)


@pytest.mark.parametrize("cache", ["true", "false"])
def test_only_the_generator_is_aligned(small: Compose, cache: str) -> None:
    weights = ("objective.alignment_weight=0", "objective.generator_alignment_weight=0.5")
    record = run(small(*weights, "objective.generator_alignment_block=2", f"teacher.cache={cache}"))
    assert 0 < record["final_metrics"]["generator_alignment"] < 2
    assert "alignment" not in record["final_metrics"]
    assert record["model"]["generator"]["teacher_width"] == 112
    assert record["model"]["discriminator"]["teacher_width"] == 0


def test_terms_of_the_successors_run_in_parts(small: Compose) -> None:
    terms = ("penalty_fraction=0.5", "consistency_weight=0.1", "logit_centering_weight=0.01")
    overrides = [f"objective.{term}" for term in terms]
    aligned = "objective.generator_alignment_weight=0.5"
    metrics = run(small(*overrides, aligned, "training.accumulation=2", "training.precision=bf16"))["final_metrics"]
    for name in ("consistency", "logit_centering", "generator_alignment", "alignment", "ar1"):
        assert metrics[name] > 0, name


def test_reconstructions_are_reported(small: Compose, prepared: Path) -> None:
    metrics = run(small("evaluation.reconstruction=true", "training.total_steps=1"))["final_metrics"]
    floor = numbers_of(metrics)["FD-EfficientNetLite0-8-reconstruction"]
    assert floor["kind"] == "frechet_reconstruction"
    assert floor["value"] > 0
    assert len(list(prepared.glob("*/reconstruction-*.json"))) == 1


def test_numbers_are_kept_with_their_protocols(small: Compose) -> None:
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
        ("evaluation.truncation=2", "evaluation.truncation=2.0 must lie between 0"),
    ],
)
def test_mistakes_leave_no_run_folder(small: Compose, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(small(override))
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_begun_again_keeping_less(
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        ("none", 1, "training.activation_checkpointing=selective, training.accumulation=2"),
        ("auto", 2, "training.activation_checkpointing=selective, training.accumulation=2"),
        ("full", 1, "training.accumulation=2"),
    ],
)
def test_what_does_not_fit_is_told(
    small: Compose, monkeypatch: pytest.MonkeyPatch, choice: str, fails_at: int, remedy: str
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


def test_the_average_is_what_is_evaluated(small: Compose, tmp_path: Path) -> None:
    """The number in training is that of the checkpoint's ``ema``, not of its last weights."""
    record = run(small("optim.ema_decay=0.5"))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").glob("step-00000004.safetensors")
    config = small("optim.ema_decay=0.5")
    data = prepare(config.data, config.autoencoder, Path(config.paths.prepared), torch.device("cpu"), 0)
    evaluation = RunEvaluation(config, data, torch.device("cpu"), folder=tmp_path)
    found = {}
    for part in ("ema", "generator"):
        generator = Generator(GeneratorDims(**record["model"]["generator"])).eval()
        generator.load_state_dict(under(load_file(checkpoint), f"{part}."))
        (number, *_) = evaluation.numbers(generator, part, 4)
        found[part] = number.value
    assert numbers_of(record["final_metrics"])["FD-EfficientNetLite0-8"]["value"] == found["ema"]
    assert found["generator"] != found["ema"]


def test_another_protocol_adds_numbers_to_an_ended_run(
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(small("training.eval_steps=2"))
    monkeypatch.setattr(run_module, "Trainer", None)  # nothing is trained again
    second = run(small("training.eval_steps=2", "evaluation.truncation=0.5"))
    assert second["identity"] == first["identity"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [len(line.get("evaluations", {})) for line in lines] == [0, 2, 0, 2]
    (ours, theirs) = lines[-1]["evaluations"].values()
    assert ours == numbers_of(first["final_metrics"])
    number = theirs["FD-EfficientNetLite0-8"]
    assert number["value"] != ours["FD-EfficientNetLite0-8"]["value"]
    assert from_record(second["protocols"][number["protocol"]]).truncation == 0.5
    assert second["final_metrics"] == lines[-1]
    assert {key: value for key, value in second.items() if key not in ("final_metrics", "protocols")} == {
        key: value for key, value in first.items() if key not in ("final_metrics", "protocols")
    }
    assert "truncation: 0.0" in (tmp_path / "run" / "config.yaml").read_text()  # the run's own settings stay
    assert run(small("training.eval_steps=2", "evaluation.truncation=0.5")) == second  # and nothing is measured again


def test_numbers_cannot_be_added_without_a_checkpoint(small: Compose) -> None:
    run(small("training.keep_checkpoints=false"))
    with pytest.raises(UserError, match="without this evaluation, and the checkpoint of that step is not kept"):
        run(small("training.keep_checkpoints=false", "evaluation.truncation=0.5"))


def test_a_run_of_older_numerics_is_kept_and_trained_again_beside(
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def beside(*overrides: str) -> Config:
        config = small(*overrides)
        return replace(config, paths=replace(config.paths, run=None, runs=str(tmp_path)))

    monkeypatch.setattr(run_folder, "NUMERICS", 1)
    monkeypatch.setattr(run_module, "NUMERICS", 1)
    old = run(beside())
    monkeypatch.undo()
    new = run(beside())
    assert old["run_folder"] != new["run_folder"]
    assert (old["numerics"], new["numerics"]) == (1, NUMERICS)
    told = capsys.readouterr().err
    assert f"{old['run_folder']}: holds the same run under version 1 of the numerics (before the augmentation" in told
    assert json.loads(Path(old["run_folder"], "record.json").read_text()) == old
    with pytest.raises(UserError, match=r"holds a run of version 1 of the numerics .* set another paths\.run"):
        run(replace(beside(), paths=replace(beside().paths, run=old["run_folder"])))
    with pytest.raises(UserError, match=r"holds an ended run of other settings .*: set another paths\.run"):
        run(replace(beside("training.seed=1"), paths=replace(beside().paths, run=new["run_folder"])))


def test_a_run_is_extended_as_if_it_had_always_been_longer(
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation at the shorter end is kept, and the longer run stands for the shorter."""
    short = run(small("training.total_steps=2"))
    longer = run(small())
    assert short["identity"] == longer["identity"]
    lines = {line["step"]: line for line in read_metrics(tmp_path / "run")}
    assert list(lines) == [1, 2, 3, 4]
    assert lines[2] == short["final_metrics"]
    run(small(run_folder="whole"))
    name = "checkpoints/step-00000004.safetensors"
    extended, whole = (load_file(tmp_path / folder / name) for folder in ("run", "whole"))
    assert all(torch.equal(extended[key], whole[key]) for key in whole)
    monkeypatch.setattr(run_module, "Trainer", None)
    assert run(small("training.total_steps=2")) == longer  # nothing is trained again
    with pytest.raises(UserError, match="the checkpoint of that step is not kept|without metrics at step"):
        run(small("training.total_steps=3", "training.log_steps=2"))


def test_a_run_without_checkpoints_cannot_be_extended(small: Compose, tmp_path: Path) -> None:
    run(small("training.total_steps=2", "training.keep_checkpoints=false"))
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(
        UserError, match=r"ended after 2 steps and keeps no checkpoint to go on from to training\.total_st"
    ):
        run(small())
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_seeds_of_initialisation_order_and_noise_are_apart(small: Compose, tmp_path: Path) -> None:
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
