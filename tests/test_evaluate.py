"""experiments/evaluate.py as a user types it: a run's checkpoint, the release's, protocols, interruptions, and mistakes."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments import evaluating
from experiments.checkpoints import merged
from experiments.exits import not_many
from gat.data.autoencoder import build_tiny
from gat.errors import UserError
from gat.evaluation import features, samples
from gat.evaluation.frechet import Statistics
from gat.evaluation.protocol import from_record
from gat.evaluation.sampling import sample_images
from gat.evaluation.statistics_file import save_statistics
from gat.tensors import save_tensors
from gat.training.results import numbers_of
from tests.conftest import compose_config, composed
from tests.data_helpers import random_autoencoder
from tests.released import training_checkpoint, write_checkpoint, write_conversion

ROOT = Path(__file__).parent.parent
NAME = "FD-EfficientNetLite0-{}"


def evaluate(*overrides: str) -> dict[str, Any]:
    """Its record."""
    record = evaluating.evaluate(composed(*overrides), list(overrides))
    assert record is not None
    return record


def command(*arguments: str, processes: int = 1, code: int = 0) -> str:
    """What experiments/evaluate.py prints, or its message."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    typed = [sys.executable, *launcher, str(ROOT / "experiments" / "evaluate.py"), *arguments]
    done = subprocess.run(typed, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def record_in(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.json")
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def typed_for(trained: Path, out: Path) -> list[str]:
    return [f"checkpoint={trained}/run", f"paths.prepared={trained}/prepared", f"out={out}"]


def test_a_run_is_measured_as_in_training(trained: Path, tmp_path: Path) -> None:
    told = command(*typed_for(trained, tmp_path))
    record = record_in(tmp_path)
    last = json.loads((trained / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    number = record["numbers"][NAME.format(8)]
    in_training = numbers_of(last)[NAME.format(8)]
    assert number["kind"] == in_training["kind"] == "frechet"
    assert number["protocol"]["id"] == in_training["protocol"]
    assert number["value"] == pytest.approx(in_training["value"], rel=1e-6)  # the command's threads may differ
    with_equal_threads = evaluate(*typed_for(trained, tmp_path / "again"))["numbers"][NAME.format(8)]
    assert with_equal_threads["value"] == in_training["value"]
    assert number["protocol"]["truncation"] == 0.25
    assert number["interval"][0] < number["value"] < number["interval"][1]
    assert set(record["numbers"]) == {NAME.format(8)} | {
        f"{x}-EfficientNetLite0-8" for x in ("KID", "precision", "recall")
    }
    assert record["checkpoint"]["step"] == 4
    for given in number["protocol"]["id"], "95% interval", "truncation 0.25", f"{number['value']:.5g}":
        assert given in told
    assert not list(tmp_path.glob(".features-*"))


def test_what_is_typed_wins_over_the_runs_settings(trained: Path, tmp_path: Path) -> None:
    typed = (*typed_for(trained, tmp_path), "measure.metrics=[frechet]", "evaluation.samples=12")
    protocol = evaluate(*typed)["numbers"][NAME.format(12)]["protocol"]
    assert (protocol["samples"], protocol["truncation"]) == (12, 0.25)
    protocol = evaluate(*typed, "evaluation=efficientnet2k")["numbers"][NAME.format(12)]["protocol"]
    assert (protocol["samples"], protocol["truncation"]) == (12, 0)
    assert len(list(tmp_path.glob("*.json"))) == 2  # another protocol is another record


def test_what_is_measured_is_kept_and_not_measured_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other metrics come into the same record; other samples and checkpoints are other records."""
    typed = typed_for(trained, tmp_path)
    first = evaluate(*typed, "measure.metrics=[frechet]")["numbers"]
    both = evaluate(*typed, "measure.metrics=[kid]")["numbers"]
    assert both.keys() == {NAME.format(8), "KID-EfficientNetLite0-8"}
    assert both[NAME.format(8)] == first[NAME.format(8)]
    evaluate(*typed, "measure.metrics=[kid]", "evaluation.seed=1")
    earlier = f"checkpoint={trained}/run/checkpoints/step-00000002.safetensors"
    evaluate(earlier, *typed[1:], "measure.metrics=[kid]")
    assert len(list(tmp_path.glob("*.json"))) == 3
    monkeypatch.setattr(samples, "sample_images", None)
    assert evaluate(*typed, "measure.metrics=[frechet,kid]")["numbers"] == both  # without sampling


@pytest.mark.parametrize("other", ["kid", "frechet"])
def test_two_evaluations_at_once_lose_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The second one ends after the first has sampled and before it measures, and deletes the features that they share."""
    typed, make = typed_for(trained, tmp_path), features.SampleFeatures.make

    def meanwhile(self: features.SampleFeatures) -> None:
        make(self)
        monkeypatch.setattr(features.SampleFeatures, "make", make)
        evaluate(*typed, f"measure.metrics=[{other}]")

    monkeypatch.setattr(features.SampleFeatures, "make", meanwhile)
    numbers = evaluate(*typed, "measure.metrics=[frechet]")["numbers"]
    assert numbers.keys() == {NAME.format(8)} | ({"KID-EfficientNetLite0-8"} if other == "kid" else set())
    assert not list(tmp_path.glob(".features-*"))


def test_what_a_cut_off_evaluation_left_is_told_beside_the_numbers(trained: Path, tmp_path: Path) -> None:
    left = tmp_path / ".features-0123456789ab"
    left.mkdir()
    record = evaluate(*typed_for(trained, tmp_path), "measure.metrics=[frechet]")
    assert (
        f"features of an unfinished evaluation, which continues from them if its command is started again: {left}"
        in evaluating.table(record)
    )
    left.rmdir()
    assert "cut off" not in evaluating.table(record)


def test_features_stay_until_the_record_is_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    typed = (*typed_for(trained, tmp_path), "measure.metrics=[frechet]")
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "write_json", full)
        with pytest.raises(UserError, match="No space left on device.*what is made is kept"):
            evaluate(*typed)
    assert list(tmp_path.glob(".features-*/shard-*"))
    monkeypatch.setattr(samples, "sample_images", None)
    assert evaluate(*typed)["numbers"].keys() == {NAME.format(8)}


def test_a_damaged_shard_is_made_again(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = (*typed_for(trained, tmp_path), "measure.metrics=[frechet]")
    save = save_tensors

    def cut(file: Path, tensors: dict[str, Tensor]) -> None:
        save(file, tensors)
        file.write_bytes(file.read_bytes()[:-8])

    with monkeypatch.context() as patched:
        patched.setattr(features, "save_tensors", cut)
        with pytest.raises(
            UserError, match=r"shard-00000\.safetensors: was damaged, and has been deleted: start the same"
        ):
            evaluate(*typed)
    assert evaluate(*typed)["numbers"].keys() == {NAME.format(8)}


def test_a_shard_that_cannot_be_read_this_once_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shard-00000.safetensors"
    save_tensors(file, {"a": torch.zeros(1)})

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(features, "load_file", fail)
    with pytest.raises(
        UserError, match=r"shard-00000\.safetensors: cannot be read \(Input/output error\): start the same"
    ):
        features._read(file)
    assert file.exists()


def test_a_generator_that_draws_no_numbers(tmp_path: Path, reference: dict[str, Tensor]) -> None:
    content = {"ema": training_checkpoint(reference)["ema"]}
    for stage in range(4):  # each is finite, their sum is not
        key = f"final_layers.{stage}.linear.bias"
        content["ema"][key] = torch.full_like(content["ema"][key], 3e38)
    file = write_checkpoint(tmp_path / "nan.pt", content)
    random_autoencoder().save_pretrained(tmp_path / "vae")
    save_statistics(tmp_path / "own.npz", Statistics(np.zeros(1280), np.eye(1280)))
    typed = [f"checkpoint={file}", f"evaluation.decoder={tmp_path}/vae", f"out={tmp_path}/out"]
    typed += [f"evaluation.reference={tmp_path}/own.npz", "evaluation.samples=10", "measure.metrics=[frechet]"]
    with pytest.raises(UserError, match="the generator draws numbers that are not finite"):
        evaluate(*typed)


def test_numbers_of_fewer_samples_have_their_own_protocol(trained: Path, tmp_path: Path) -> None:
    typed = (*typed_for(trained, tmp_path), "measure.also_samples=[5]", "evaluation.samples=10")
    numbers = evaluate(*typed, "measure.metrics=[frechet]")["numbers"]
    alone = (*typed_for(trained, tmp_path / "five"), "evaluation.samples=5", "measure.metrics=[frechet]")
    assert evaluate(*alone)["numbers"] == {NAME.format(5): numbers[NAME.format(5)]}  # the same samples
    assert from_record(numbers[NAME.format(5)]["protocol"]).samples == 5
    assert from_record(numbers[NAME.format(10)]["protocol"]).samples == 10
    with pytest.raises(UserError, match="measure.metrics=inception_score needs at least 10 samples, not 5: raise"):
        evaluate(*typed, "measure.metrics=[inception_score]")


def test_two_processes_give_the_numbers_of_one(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes which shard: tests/test_division.py. Another batch size changes the last bits of pictures, at most."""
    typed = ("evaluation.samples=60", "measure.metrics=[frechet]")
    name = NAME.format(60)
    command(*typed_for(trained, tmp_path / "two"), *typed, processes=2)
    two = record_in(tmp_path / "two")
    assert two["hardware"]["processes"] == 2
    with one_thread():
        one = evaluate(*typed_for(trained, tmp_path / "one"), *typed)["numbers"][name]
        batch = evaluate(*typed_for(trained, tmp_path / "batch"), *typed, "evaluation.batch_size=7")["numbers"][name]
    assert two["numbers"][name]["value"] == pytest.approx(one["value"], rel=1e-9)
    assert batch["value"] == pytest.approx(one["value"], rel=1e-4)
    assert two["numbers"][name]["protocol"] == batch["protocol"] == one["protocol"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in the order of the processes started by :func:`command`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_an_interrupted_evaluation_goes_on(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD", 10)
    made: list[Tensor] = []

    def fails_in_the_third(*given: Any, **how: Any) -> Iterator[Tensor]:
        made.append(given[3])
        if len(made) == 3:
            raise KeyboardInterrupt
        return sample_images(*given, **how)

    typed = ("evaluation.samples=40", "measure.metrics=[frechet]")
    whole = evaluate(*typed_for(trained, tmp_path / "whole"), *typed)["numbers"]
    monkeypatch.setattr(samples, "sample_images", fails_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*typed_for(trained, tmp_path / "cut"), *typed)
    assert len(list((tmp_path / "cut").glob(".features-*/shard-*"))) == 2
    assert evaluate(*typed_for(trained, tmp_path / "cut"), *typed)["numbers"] == whole
    assert len(made) == 5  # of the four shards one was begun twice
    assert not list((tmp_path / "cut").glob(".features-*"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, reference: dict[str, Tensor]) -> list[str]:
    """Arguments for the release's checkpoint, an autoencoder of SD-VAE's kind, and a reference of ADM's layout."""
    folder = tmp_path_factory.mktemp("release")
    write_checkpoint(folder / "0150000.pt", training_checkpoint(reference))
    write_conversion(folder / "GAT-XL-2-256", reference)
    random_autoencoder().save_pretrained(folder / "vae")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "adm.npz", mu=np.zeros(1280), sigma=np.eye(1280), arr_0=images, arr_1=np.zeros(30))
    return [
        f"checkpoint={folder}/0150000.pt", f"evaluation.decoder={folder}/vae", f"evaluation.reference={folder}/adm.npz",
        "evaluation.extractor=efficientnet-lite0", "evaluation.samples=20",
    ]  # fmt: skip


def test_the_headline_claim_is_one_command(release: list[str], tmp_path: Path) -> None:
    """The paper's protocol on the authors' checkpoint, with small stand-ins for Inception and SD-VAE, and few samples."""
    record = evaluate("evaluation=paper", *release, f"out={tmp_path}")
    protocol = record["numbers"][NAME.format(20)]["protocol"]
    assert (protocol["truncation"], protocol["to_uint8"], protocol["covariance"]) == (0.3, "truncated", "N-1")
    assert protocol["reference"].startswith("file@")
    assert re.fullmatch("vae@[0-9a-f]{12}", protocol["decoder"])
    assert (record["checkpoint"]["kind"], record["checkpoint"]["step"]) == ("release", 150_000)
    assert record["numbers"]["KID-EfficientNetLite0-20"]["protocol"]["reference"].endswith(", 30 of them")


def test_the_conversion_gives_the_generators_numbers(
    release: list[str], tmp_path: Path, reference: dict[str, Tensor]
) -> None:
    """It holds the last weights here, not the averaged ones: as a checkpoint that has these alone."""
    folder = Path(release[0].partition("=")[2]).parent
    write_checkpoint(tmp_path / "alone.pt", {"generator": training_checkpoint(reference)["generator"]})
    typed = (*release[1:], "measure.metrics=[frechet]", f"out={tmp_path}")
    conversion = evaluate(f"checkpoint={folder}/GAT-XL-2-256", *typed)
    assert conversion["numbers"] == evaluate(f"checkpoint={tmp_path}/alone.pt", *typed)["numbers"]
    assert conversion["checkpoint"]["kind"] == "conversion"


MISTAKES = [
    (["evaluation.to_uint8=floor"], "evaluation.to_uint8='floor' is unknown"),
    (["measure.metrics=[fid]"], "measure.metrics='fid' is unknown: choose one of frechet, kid"),
    (["measure.also_extractors=[clip]"], "evaluation.extractor='clip' is unknown: choose one of"),
    (["measure.also_samples=[9]"], "measure.also_samples=9 must be at most evaluation.samples=8"),
    (["evaluation.decoder=stabilityai/sd-vae-ft-ema"], "cannot decode latents of"),
    (["evaluation.reference={}/narrow.npz"], "statistics of 1280 and 3 features cannot be compared"),
    (["evaluation.reference={}/large.npz"], "the samples are 32 pixels wide, the reference 64"),
    (["evaluation.reference={}/other.npz"], "statistics of features inception-v3-compat@12, not efficientnet-lite0@"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES)
def test_mistakes_with_a_run(trained: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    np.savez(tmp_path / "large.npz", mu=np.zeros(1280), sigma=np.eye(1280), arr_0=np.zeros((2, 64, 64, 3), np.uint8))
    np.savez(tmp_path / "narrow.npz", mu=np.zeros(3), sigma=np.eye(3))
    other = Statistics(np.zeros(1280), np.eye(1280))
    save_statistics(tmp_path / "other.npz", other, {"extractor": "inception-v3-compat@12"})
    with pytest.raises(UserError, match=re.escape(message)) as told:
        evaluate(*typed_for(trained, tmp_path / "out"), *(override.format(tmp_path) for override in overrides))
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.parametrize("plus", ["", "++"])
def test_every_form_of_an_override_counts(trained: Path, tmp_path: Path, plus: str) -> None:
    typed = (*typed_for(trained, tmp_path), "measure.metrics=[frechet]")
    assert NAME.format(6) in evaluate(*typed, f"{plus}evaluation.samples=6")["numbers"]


def test_a_run_finds_its_data_from_elsewhere_and_prepares_nothing(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "runs" / "one" / "config.yaml"
    file.parent.mkdir(parents=True)
    (tmp_path / "prepared").mkdir()
    text = (trained / "run" / "config.yaml").read_text()
    file.write_text(re.sub(r"prepared: .*", "prepared: prepared-elsewhere", text))
    assert merged(composed(), file, []).paths.prepared == "prepared-elsewhere"
    (tmp_path / "prepared-elsewhere").mkdir()
    assert Path(merged(composed(), file, []).paths.prepared) == tmp_path / "prepared-elsewhere"
    with pytest.raises(UserError, match="the prepared images are not there: give paths.prepared=FOLDER"):
        evaluate(f"checkpoint={trained}/run", f"paths.prepared={tmp_path}/nowhere", f"out={tmp_path}/out")
    assert not (tmp_path / "nowhere").exists()


def test_mistakes_with_released_weights(release: list[str], tmp_path: Path) -> None:
    build_tiny(replace(compose_config().autoencoder, latent_channels=16)).save_pretrained(tmp_path / "vae16")
    for overrides, message in (
        ([release[0], release[1], *release[3:]], "evaluation.reference=null: nothing to compare with"),
        ([*release, f"evaluation.decoder={tmp_path}/vae16"], "draws latents of 4 channels, but .*vae16 decodes 16"),
        (release[1:], r"give one of checkpoint= and run= \(evaluate\.py: or samples=\): a run's folder or checkpoint"),
        ([*release, "run=runs/x"], "give one of checkpoint= and run="),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(*overrides, f"out={tmp_path}/out")


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    told = command(f"checkpoint={tmp_path}/nothing.pt", code=2)
    assert told.strip().startswith(f"error: checkpoint={tmp_path}/nothing.pt: no such file or folder")
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["evaluate.py", "sample.py", "export.py"])
def test_there_are_no_jobs_to_launch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        not_many([f"experiments/{name}", "-m", "checkpoint=x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {name} launches no jobs: leave out -m")
    assert "not_many(sys.argv)" in (ROOT / "experiments" / name).read_text()
