"""Two commands for one run folder: one checks it before the other has begun, or ended, the run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gat.config import Config
from gat.errors import UserError
from gat.processes import Processes
from gat.training import run as run_module
from gat.training import trainer
from gat.training.results import read_metrics
from gat.training.step import training_step
from tests.small_run import SmallConfig
from tests.small_run import recorded as run

Meanwhile = Callable[[Config], dict[str, Any]]


def files_in(folder: Path) -> dict[Path, bytes]:
    """Return the contents of all files by path."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def run_meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Make the next run find its folder free, and let another command run ``config`` while it prepares its data."""

    def arrange(config: Config) -> dict[str, Any]:
        record: dict[str, Any] = {}
        real = trainer.Trainer

        def prepared_slowly(*arguments: Any) -> trainer.Trainer:
            monkeypatch.setattr(run_module, "Trainer", real)
            record.update(run(config))
            return real(*arguments)

        monkeypatch.setattr(run_module, "Trainer", prepared_slowly)
        return record

    return arrange


def test_a_run_that_has_ended_meanwhile_is_not_repeated(
    small: SmallConfig, tmp_path: Path, run_meanwhile: Meanwhile
) -> None:
    config = small("training.keep_checkpoints=false")
    first = run_meanwhile(config)
    assert run(config) == first  # including the time of its end
    assert [line["images_per_s"] for line in read_metrics(tmp_path / "run")][-1] == first["final_metrics"][
        "images_per_s"
    ]


def test_another_evaluation_of_a_run_that_has_ended_meanwhile_is_added(
    small: SmallConfig, run_meanwhile: Meanwhile
) -> None:
    first = run_meanwhile(small())
    second = run(small("evaluation.truncation=0.5"))
    assert second["ended_at"] == first["ended_at"]
    assert len(second["final_metrics"]["evaluations"]) == 2


def test_a_run_of_other_settings_that_has_ended_meanwhile_is_kept(
    small: SmallConfig, tmp_path: Path, run_meanwhile: Meanwhile
) -> None:
    """Without checkpoints, only the record shows that the folder is taken."""
    typed = "training.keep_checkpoints=false"
    run_meanwhile(small(typed))
    with pytest.raises(UserError, match=r"holds an ended run of other settings .*: set another paths\.run"):
        run(small(typed, "training.seed=1"))
    assert "seed: 0" in (tmp_path / "run" / "config.yaml").read_text()
    before = files_in(tmp_path / "run")
    with pytest.raises(UserError, match="holds an ended run of other settings"):
        run(small(typed, "training.seed=1"))
    assert files_in(tmp_path / "run") == before


def test_metrics_of_other_settings_are_kept_before_the_first_checkpoint(
    small: SmallConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*arguments: Any) -> dict[str, Tensor]:
        if (tmp_path / "run" / "metrics.jsonl").read_text():
            raise KeyboardInterrupt
        return training_step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "training_step", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(small())
    before = files_in(tmp_path / "run")
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1]
    with pytest.raises(UserError, match=r"holds metrics of a run of other settings .*: set another paths\.run"):
        run(small("training.seed=1"))
    assert files_in(tmp_path / "run") == before
    (tmp_path / "run" / "config.yaml").write_text("model: [")
    with pytest.raises(UserError, match=r"config\.yaml: not the settings of a run .*: set another paths\.run"):
        run(small())
    for file, content in before.items():
        file.write_bytes(content)
    assert run(small("evaluation.truncation=0.5", "loader.workers=0"))["status"] == "finished"  # the same run


def test_all_processes_follow_what_the_main_one_finds(small: SmallConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends between their checks: by its own, this process would train although the main one does not."""
    found = iter([1.0, 0.0])  # ended, and lacking no numbers

    class Other(Processes):
        def from_main(self, values: Tensor) -> Tensor:
            return torch.full_like(values, next(found))

    @contextmanager
    def joined(_: str) -> Iterator[Processes]:
        yield Other(rank=1, count=2)

    monkeypatch.setattr(run_module, "joined", joined)
    monkeypatch.setattr(run_module, "Trainer", None)
    assert run_module.run(small()) is None
    assert next(found, None) is None
