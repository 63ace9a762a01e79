"""A run asked for again: another evaluation, another length, older numerics, another run in its place."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments.run import report
from gat.checkpoint_file import under
from gat.config import Config
from gat.data.prepare import prepare
from gat.errors import UserError
from gat.evaluation import evaluator
from gat.evaluation.protocol import from_record
from gat.models.generator import Generator, GeneratorDims
from gat.numerics import NUMERICS
from gat.processes import Processes
from gat.training import evaluation, run_folder, run_identity
from gat.training import run as run_module
from gat.training.evaluation import RunEvaluation
from gat.training.results import numbers_of, read_metrics
from gat.training.run_identity import evaluation_id
from tests.small_run import SmallConfig
from tests.small_run import recorded as run


def test_the_average_is_what_is_evaluated(small: SmallConfig, tmp_path: Path) -> None:
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


def test_the_main_process_alone_downloads_what_evaluations_need(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[bool] = []
    seen: dict[str, bool] = {}

    class Noted(Processes):
        @contextmanager
        def main_first(self) -> Iterator[None]:
            inside.append(True)
            yield
            inside.clear()

    def noted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            seen[name] = bool(inside)
            return original(*arguments)

        return call

    places = {"decoder_of": evaluation, "open_reference": evaluation, "make_extractor": evaluator}
    for name, module in places.items():
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    config = small()
    data = prepare(config.data, config.autoencoder, Path(config.paths.prepared), torch.device("cpu"), 0)
    RunEvaluation(config, data, torch.device("cpu"), Noted(), tmp_path)
    assert seen == dict.fromkeys(places, True)


def test_further_averages_are_measured_beside(small: SmallConfig, tmp_path: Path) -> None:
    """An average of decay 0 is the generator itself; the numbers that count are those of a run without further averages."""
    typed = ("optim.ema_decay=0.5", "optim.also_ema_decays=[0.0, 0.9]", "training.eval_steps=2")
    halves = [
        run(small(*typed, f"training.total_steps={steps}")) for steps in (2, 4)
    ]  # the second goes on from the first
    record = halves[-1]
    name = "FD-EfficientNetLite0-8"
    numbers = numbers_of(record["final_metrics"])
    assert [key for key in numbers if key.startswith(name)] == [name, f"{name}-ema0.0", f"{name}-ema0.9"]
    config = small(*typed)
    data = prepare(config.data, config.autoencoder, Path(config.paths.prepared), torch.device("cpu"), 0)
    generator = Generator(GeneratorDims(**record["model"]["generator"])).eval()
    tensors = load_file(tmp_path / "run" / "checkpoints" / "step-00000004.safetensors")
    generator.load_state_dict(under(tensors, "generator."))
    (number, *_) = RunEvaluation(config, data, torch.device("cpu"), folder=tmp_path).numbers(generator, "x", 4)
    assert numbers[f"{name}-ema0.0"]["value"] == number.value
    alone = small("optim.ema_decay=0.5", "training.eval_steps=2")
    alone = replace(alone, paths=replace(alone.paths, run=str(tmp_path / "alone")))
    assert numbers_of(run(alone)["final_metrics"])[name] == numbers[name]
    added = numbers_of(run(small(*typed, "evaluation.truncation=0.5"))["final_metrics"], evaluation_id(small(*typed)))
    assert added == numbers  # the first numbers stay
    lines = read_metrics(tmp_path / "run")
    assert [len(one) for line in lines for one in line.get("evaluations", {}).values()] == [len(numbers)] * 4


@pytest.mark.parametrize("decays", ["[0.5]", "[0.9, 0.9]"])
def test_averages_that_are_asked_for_twice(small: SmallConfig, decays: str) -> None:
    with pytest.raises(UserError, match=r"optim\.also_ema_decays=\[.*: each must differ from optim\.ema_decay=0\.5"):
        run(small("optim.ema_decay=0.5", f"optim.also_ema_decays={decays}"))


def test_another_protocol_adds_numbers_to_an_ended_run(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_shorter_interval_adds_numbers_where_checkpoints_are_kept(small: SmallConfig, tmp_path: Path) -> None:
    first = run(small("training.eval_steps=4", "training.checkpoint_steps=2"))
    assert run(small("training.eval_steps=2"))["final_metrics"] == first["final_metrics"]
    assert [bool(numbers_of(line)) for line in read_metrics(tmp_path / "run")] == [False, True, False, True]


def test_a_run_whose_end_is_damaged_is_not_trained_longer(small: SmallConfig, tmp_path: Path) -> None:
    """Going on from an earlier checkpoint would drop the numbers of the end."""
    run(small("training.checkpoint_steps=2"))
    before = read_metrics(tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "step-00000004.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    told = "the run ended at step 4, and the checkpoint of that step is damaged or gone"
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(UserError, match=told):
        run(small("training.total_steps=6"))
    assert read_metrics(tmp_path / "run") == before
    with pytest.raises(UserError, match=r"not a whole .*: set another paths\.run to train the run again"):
        run(small("evaluation.truncation=0.5"))
    last.unlink()
    with pytest.raises(UserError, match=told):
        run(small("training.total_steps=6"))
    assert read_metrics(tmp_path / "run") == before


def test_numbers_cannot_be_added_without_a_checkpoint(small: SmallConfig) -> None:
    run(small("training.keep_checkpoints=false"))
    with pytest.raises(UserError, match="without this evaluation, and the checkpoint of that step is not kept"):
        run(small("training.keep_checkpoints=false", "evaluation.truncation=0.5"))


def test_a_run_of_older_numerics_is_kept_and_trained_again_beside(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def beside(*overrides: str) -> Config:
        config = small(*overrides)
        return replace(config, paths=replace(config.paths, run=None, runs=str(tmp_path)))

    monkeypatch.setattr(run_folder, "NUMERICS", 1)
    monkeypatch.setattr(run_identity, "NUMERICS", 1)
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
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_what_is_printed_is_the_length_and_evaluation_asked_for(
    small: SmallConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    short = run(small("training.total_steps=2"))
    record = run(small())
    run(small("training.total_steps=2", "evaluation.seed=2"))
    capsys.readouterr()
    report(record, small("training.total_steps=2"))
    told = capsys.readouterr().out
    assert "finished after 2 steps (8 images), of a run of 4\n" in told
    numbers = numbers_of(short["final_metrics"])
    assert [line.split() for line in told.splitlines() if "FD-" in line and "-reconstruction" not in line] == [
        [name, format(number["value"], ".4g")] for name, number in numbers.items() if number["kind"] == "frechet"
    ]


def test_a_run_without_checkpoints_cannot_be_extended(small: SmallConfig, tmp_path: Path) -> None:
    run(small("training.total_steps=2", "training.keep_checkpoints=false"))
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(
        UserError, match=r"ended after 2 steps and keeps no checkpoint to go on from to training\.total_st"
    ):
        run(small())
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_a_run_that_has_gone_on_is_not_called_finished_at_a_shorter_length(small: SmallConfig, tmp_path: Path) -> None:
    """Its checkpoint lies past the end asked for: nothing is written, and the longer run goes on."""
    run(small("training.total_steps=2"))
    record = (tmp_path / "run" / "record.json").read_text()
    run(small())
    (tmp_path / "run" / "record.json").write_text(record)  # as if it had been killed on the way to 4
    files = {file: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    with pytest.raises(
        UserError, match=r"has gone on to step 4 without an evaluation at step 3: set training\.total_st"
    ):
        run(small("training.total_steps=3"))
    assert {file: file.read_bytes() for file in files} == files
    assert run(small("training.total_steps=2"))["final_metrics"]["step"] == 2
    assert run(small())["final_metrics"]["step"] == 4


def test_an_evaluation_added_after_an_interrupted_extension_leaves_the_end_where_it_was(
    small: SmallConfig, tmp_path: Path
) -> None:
    run(small("training.total_steps=2"))
    record = (tmp_path / "run" / "record.json").read_text()
    run(small())
    (tmp_path / "run" / "record.json").write_text(record)
    final = run(small("training.total_steps=2", "evaluation.seed=2"))["final_metrics"]
    assert (final["step"], len(final["evaluations"])) == (2, 2)
    assert json.loads((tmp_path / "run" / "record.json").read_text())["final_metrics"] == final


def test_numbers_that_a_record_lacks_are_read_from_the_files_beside_it(small: SmallConfig, tmp_path: Path) -> None:
    """A process that dies between them leaves the record behind."""
    run(small())
    old = (tmp_path / "run" / "record.json").read_text()
    whole = run(small("evaluation.truncation=0.5"))
    (tmp_path / "run" / "record.json").write_text(old)
    assert run(small("evaluation.truncation=0.5")) == whole
    assert len(whole["protocols"]) > len(json.loads(old)["protocols"])


def test_a_refused_command_leaves_another_runs_configuration(small: SmallConfig, tmp_path: Path) -> None:
    run(small())
    (tmp_path / "run" / "record.json").unlink()  # as if it had not ended
    before = (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"checkpoint of another configuration: set another paths\.run"):
        run(small("optim.lr_multiple=3"))
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_files_that_are_not_a_runs_are_left_alone(small: SmallConfig, tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    kept = [place / ".bashrc.20240101", place / ".git.backup01", place / ".features-of-mine" / "one"]
    half = place / ".metrics.jsonl.0a1b2c3d"
    for file in (*kept, half):
        file.parent.mkdir(exist_ok=True)
        file.write_text("precious")
    run(small())
    assert all(file.read_text() == "precious" for file in kept)
    assert not half.exists()


@pytest.mark.parametrize("text", ["tru", "{}", "[]"])
def test_a_record_that_is_none(small: SmallConfig, tmp_path: Path, text: str) -> None:
    """A neighbour's is passed over; in the run's own folder it is refused."""
    config = small()
    beside = replace(config, paths=replace(config.paths, run=None, runs=str(tmp_path)))
    name = run_identity.run_name(config).rpartition("-")[0]
    (tmp_path / f"{name}-other").mkdir()
    (tmp_path / f"{name}-other" / "record.json").write_text(text)
    assert run_identity.earlier_run(tmp_path / run_identity.run_name(config), beside) is None
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text(text)
    with pytest.raises(UserError, match=r"not the record of a run \(.*\): remove it"):
        run(config)
