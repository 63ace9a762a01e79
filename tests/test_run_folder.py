"""Names, identity and metrics file of a run."""

import dataclasses
import json
import multiprocessing
import os
import resource
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gat.config import Config
from gat.errors import UserError
from gat.numerics import NUMERICS
from gat.training import run_identity
from gat.training.checkpoint import on_host
from gat.training.run_folder import RunFolder
from gat.training.run_identity import evaluation_id, identity, run_name
from tests.conftest import compose_config
from tests.test_step import make_networks


def changed(config: Config, group: str, **values: object) -> Config:
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **values)})


def test_identity_follows_what_changes_the_result(default_config: Config) -> None:
    base = identity(default_config)
    without_effect: dict[str, dict[str, object]] = {
        "training": {
            "device": "cpu",
            "log_steps": 3,
            "checkpoint_steps": 7,
            "eval_steps": 5,
            "accumulation": 2,
            "total_steps": 7,
        },
        "evaluation": {"batch_size": 1, "samples": 7, "truncation": 0.5},
        "paths": {"runs": "/elsewhere", "prepared": "x"},
    }
    for group, values in without_effect.items():
        assert identity(changed(default_config, group, **values)) == base
    different = {
        identity(changed(default_config, "training", seed=1)),
        identity(changed(default_config, "objective", mng_schedule="linear")),
        identity(changed(default_config, "model", patch=4)),
    }
    assert len(different | {base}) == 4


def test_identity_follows_the_version_of_the_numerics(default_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    now = identity(default_config)
    monkeypatch.setattr(run_identity, "NUMERICS", NUMERICS + 1)
    assert identity(default_config) != now


def test_an_evaluation_is_known_by_what_changes_its_numbers(default_config: Config) -> None:
    base = evaluation_id(default_config)
    assert evaluation_id(changed(default_config, "evaluation", batch_size=1, grid_columns=2)) == base
    assert evaluation_id(changed(default_config, "training", seed=1)) == base
    assert evaluation_id(changed(default_config, "evaluation", truncation=0.5)) != base
    assert evaluation_id(changed(default_config, "evaluation", samples=0)) == ""


def test_a_new_setting_at_its_neutral_value_renames_no_run(default_config: Config) -> None:
    """As if a version to come had a further term of the loss."""
    base, field = identity(default_config), [("new_weight", float, dataclasses.field(default=0.0))]
    newer = dataclasses.make_dataclass("Newer", field, bases=(type(default_config.objective),), kw_only=True)

    def with_it(**new: float) -> Config:
        values = {
            f.name: getattr(default_config.objective, f.name) for f in dataclasses.fields(default_config.objective)
        }
        return dataclasses.replace(default_config, objective=newer(**values, **new))

    assert identity(with_it()) == identity(with_it(new_weight=0.0)) == base
    assert identity(with_it(new_weight=0.1)) != base
    assert identity(changed(default_config, "objective", consistency_weight=0.1)) != base


def test_neutral_values_are_those_of_gat(default_config: Config) -> None:
    """A default in gat/config.py that differed from objective=gat would hide a setting of the recipe from the identity."""
    recipe = compose_config("model=gat", "objective=gat", "optim=gat")
    for group in ("model", "objective", "optim"):
        values = getattr(recipe, group)
        for field in dataclasses.fields(values):
            assert field.default in (dataclasses.MISSING, getattr(values, field.name)), field.name


def test_name_says_data_size_and_seed(default_config: Config) -> None:
    assert run_name(default_config).startswith("digits-mini-S2-seed0-")


def folder_in(config: Config, path: Path) -> RunFolder:
    return RunFolder(changed(config, "paths", run=str(path)))


def test_metrics_survive_a_cut_off_line_and_are_cut_at_a_step(default_config: Config, tmp_path: Path) -> None:
    folder = folder_in(default_config, tmp_path)
    for step in (1, 2, 3):
        folder.append_metrics({"step": step, "loss": 0.5})
    with folder.metrics_file.open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [line["step"] for line in folder.read_metrics()] == [1, 2, 3]
    folder.cut_metrics(2)
    assert folder.metrics_file.read_text() == "".join(json.dumps({"step": s, "loss": 0.5}) + "\n" for s in (1, 2))


def test_numbers_that_json_lacks_become_null(default_config: Config, tmp_path: Path) -> None:
    folder = folder_in(default_config, tmp_path)
    folder.append_metrics({"step": 1, "a": float("nan"), "b": float("inf"), "c": 2.5})
    assert folder.metrics_file.read_text() == '{"step": 1, "a": null, "b": null, "c": 2.5}\n'


def test_only_the_same_run_counts_as_finished(default_config: Config, tmp_path: Path) -> None:
    folder = RunFolder(changed(default_config, "paths", run=str(tmp_path)))
    assert folder.ended_record() is None
    total = default_config.training.total_steps
    record = {"identity": "other", "status": "finished", "diverged": None, "final_metrics": {"step": total}}
    folder.write_record(record)
    assert folder.ended_record() is None
    record |= {"identity": folder.identity, "protocols": {}}
    folder.write_record(record)
    folder.append_metrics({"step": total})
    assert folder.ended_record() == record


def test_a_run_has_ended_for_whoever_asks_for_no_more_steps(default_config: Config, tmp_path: Path) -> None:
    def of(steps: int) -> RunFolder:
        config = changed(default_config, "training", total_steps=steps)
        return RunFolder(changed(config, "paths", run=str(tmp_path)))

    record: dict[str, Any] = {
        "identity": of(1).identity,
        "status": "finished",
        "diverged": None,
        "final_metrics": {"step": 600},
    }
    of(600).write_record(record)
    for step in (300, 599, 600):
        of(600).append_metrics({"step": step})
    assert [of(steps).ended_record() is not None for steps in (599, 600, 601)] == [True, True, False]
    record |= {"status": "diverged", "diverged": {"step": 600, "reason": "d_loss is nan"}}
    of(600).write_record(record)
    for step in (300, 599, 600):
        of(600).append_metrics({"step": step})
    assert [of(steps).ended_record() is not None for steps in (599, 600, 601)] == [True, True, True]
    assert not of(601).lacks_numbers(record)  # it diverged: nothing to wait for
    assert of(300).lacks_numbers(record)  # by then it had not
    with pytest.raises(UserError, match=r"a run of 600 steps without metrics at step 400: set training\.total_steps"):
        of(400).lacks_numbers(record)


def test_unwritable_folder_is_told(default_config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = folder_in(default_config, tmp_path / "file" / "run")
    with (
        pytest.raises(
            UserError,
            match=r"cannot be written \(Not a directory\): make room or mend its permissions; then start the same",
        ),
        folder.held(),
    ):
        pass


def test_second_process_is_kept_out(default_config: Config, tmp_path: Path) -> None:
    first, second = (folder_in(default_config, tmp_path / "run") for _ in range(2))
    with first.held(), pytest.raises(UserError, match="another process is working on it"), second.held():
        pass
    with second.held():  # the lock ended with its holder
        pass


def test_remains_of_a_killed_process_are_swept_away(default_config: Config, tmp_path: Path) -> None:
    folder = folder_in(default_config, tmp_path)
    folder.checkpoints.mkdir()
    remains = folder.checkpoints / ".step-00000005.safetensors.0a1b2c3d"
    remains.write_text("half a checkpoint")
    with folder.held():
        assert not remains.exists()
        assert (tmp_path / ".lock").exists()


def test_what_a_death_within_safetensors_leaves_is_swept_away(
    default_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_tensors: object, file: Path, _metadata: object) -> NoReturn:
        (Path(file).parent / ".tmpAbC123").touch()  # as safetensors calls its own half-written file
        os._exit(9)

    monkeypatch.setattr("gat.tensors.save_file", die)
    folder, state = folder_in(default_config, tmp_path), on_host(make_networks())
    folder.checkpoints.mkdir()
    child = multiprocessing.get_context("fork").Process(target=folder.save, args=(state, 1, None))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert list(folder.checkpoints.iterdir()) != []
    with folder.held():
        assert list(folder.checkpoints.iterdir()) == []


def test_last_two_and_every_nth_checkpoint_are_kept(default_config: Config, tmp_path: Path) -> None:
    folder, networks = folder_in(default_config, tmp_path), make_networks()
    folder.checkpoints.mkdir()
    for step in range(2, 14, 2):
        folder.save(on_host(networks), step, keep_steps=4)
    assert [int(f.stem.removeprefix("step-")) for f in folder.all_checkpoints()] == [4, 8, 10, 12]
    for step in (14, 16):
        folder.save(on_host(networks), step, keep_steps=None)
    assert [int(f.stem.removeprefix("step-")) for f in folder.all_checkpoints()] == [14, 16]


def test_a_copy_that_a_user_keeps_is_no_checkpoint_and_stays(default_config: Config, tmp_path: Path) -> None:
    folder, networks = folder_in(default_config, tmp_path), make_networks()
    folder.checkpoints.mkdir()
    copy = folder.checkpoints / "step-00000002 copy.safetensors"
    copy.write_bytes(b"kept by hand")
    for step in (2, 4, 6):
        folder.save(on_host(networks), step, keep_steps=6)
    assert [file.name for file in folder.all_checkpoints()] == [
        "step-00000004.safetensors",
        "step-00000006.safetensors",
    ]
    assert folder.unevaluated() == []
    assert copy.exists()


def test_damaged_checkpoints_are_passed_over(default_config: Config, tmp_path: Path) -> None:
    folder, networks = folder_in(default_config, tmp_path), make_networks()
    assert folder.restore(networks) == 0
    folder.checkpoints.mkdir()
    for step in (1, 2):
        folder.save(on_host(networks), step, keep_steps=None)
    last = folder.checkpoint_file(2)
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="step-00000002.safetensors: not a whole checkpoint .*: passed over"):
        assert folder.restore(networks) == 1


def test_disk_full_leaves_the_earlier_checkpoint(default_config: Config, tmp_path: Path) -> None:
    folder, networks = folder_in(default_config, tmp_path), make_networks()
    folder.checkpoints.mkdir()
    folder.save(on_host(networks), 1, keep_steps=None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # a real write error in the middle of the file
    try:
        with pytest.raises(UserError, match="cannot be written .*: make room"):
            folder.save(on_host(networks), 2, keep_steps=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [f.name for f in folder.checkpoints.iterdir()] == ["step-00000001.safetensors"]
    assert folder.restore(networks) == 1
