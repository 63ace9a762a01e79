"""Files damaged by a crash, a full disk or an editor: one line names the file and the remedy."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.fid_curves import table_of_run
from experiments.evaluating import read_evaluation, table
from experiments.study.elsewhere import Here, elsewhere
from experiments.study.queue_state import read_queue
from experiments.study.submission import read_submission
from gat.errors import UserError
from gat.files import json_object, reading
from gat.training.results import any_record, read_metrics, read_protocols, read_record
from tests.small_run import SmallConfig
from tests.small_run import recorded as run
from tests.submissions import submission_of

DAMAGE = (b"", b"\0" * 40, b'{"identity": "a', b"[]", b"3", b"{}", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000)


def queue_of(folder: Path) -> Any:
    return read_queue(replace(submission_of(folder / "runs", None), folder=folder))


READERS: dict[str, Callable[[Path], Any]] = {
    "record.json": any_record,
    "metrics.jsonl": read_metrics,
    "evaluation.json": lambda folder: read_evaluation(folder / "evaluation.json"),
    "submission.json": read_submission,
    "queue.json": queue_of,
}


def refused(folder: Path, name: str, read: Callable[[Path], Any]) -> None:
    with pytest.raises(UserError) as caught:
        read(folder)
    told = str(caught.value)
    assert told.startswith(f"{folder / name}: not ")
    assert re.search(r"\): (remove|restore) [^\n]+$", told)
    assert "\n" not in told


@pytest.mark.parametrize("content", DAMAGE, ids=lambda content: repr(content[:12]))
@pytest.mark.parametrize("name", READERS)
def test_damage_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content + b"\n")
    refused(tmp_path, name, READERS[name])


@pytest.mark.parametrize("content", [*DAMAGE[:5], *DAMAGE[6:]], ids=lambda content: repr(content[:12]))
def test_damaged_protocols_are_one_line(tmp_path: Path, content: bytes) -> None:
    """An empty object is not damaged: a run has no protocols before its first evaluation."""
    (tmp_path / "protocols.json").write_bytes(content)
    refused(tmp_path, "protocols.json", read_protocols)


RECORD: dict[str, Any] = {"identity": "a", "diverged": None, "final_metrics": {"step": 4}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"final_metrics": []},
        {"final_metrics": {"step": "4"}},
        {"final_metrics": {}},
        {"diverged": "no"},
        {"diverged": {"step": None}},
        {"numerics": []},
        {"config": 3},
        {"protocols": []},
        {"checkpoint": 3},
    ],
)
def test_fields_of_another_type(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    assert any_record(tmp_path) == RECORD
    (tmp_path / "record.json").write_text(json.dumps(RECORD | wrong))
    refused(tmp_path, "record.json", any_record)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"missing": 3}'])
def test_heads_of_tables(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text("arm,seed,status,run\none,0,failed,r\n")
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.csv: not a whole table .*: remove it, and gather again"):
        elsewhere(tmp_path / "x.csv", {}, Here(frozenset(), frozenset(), frozenset()), tmp_path)


def test_a_line_is_named_and_shown(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\0\0\0\n{"step": 3}\n')
    with pytest.raises(
        UserError, match=r"metrics\.jsonl: not the metrics of a run \(line 2 is '\\x00\\x00\\x00'\): rest"
    ):
        read_metrics(tmp_path)


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    with (
        pytest.raises(UserError, match=r"^/.*/x: not a plan \(lacks 'seed'\): make one$"),
        reading(tmp_path / "x", "a plan", "make one"),
    ):
        json_object(tmp_path / "x")["seed"]
    with (
        pytest.raises(UserError, match=r"^/.*/y: not a plan \(No such file or directory\): make one$"),
        reading(tmp_path / "y", "a plan", "make one"),
    ):
        json_object(tmp_path / "y")


def test_an_ended_run_with_less_metrics_than_its_record(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained / "run", folder)
    record = any_record(folder)
    assert record is not None
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(
        UserError, match=r"metrics\.jsonl: lacks step 4, at which the run ended: restore it from a copy"
    ):
        read_record(folder, record["identity"])
    (folder / "record.json").write_text("")
    with pytest.raises(UserError, match=r"record\.json: not the record of a run \(it is empty\): remove it"):
        table_of_run(folder)


def test_numbers_of_another_type_are_told_before_they_are_shown(tmp_path: Path) -> None:
    record = {"file": str(tmp_path / "x.json"), "numbers": {"FID": {"value": "low", "protocol": {"reference": "r"}}}}
    with pytest.raises(UserError, match=r"x\.json: not the record of an evaluation .*: remove it, and measure again"):
        table(record)


def test_metrics_that_are_shorter_than_the_checkpoint(small: SmallConfig, tmp_path: Path) -> None:
    """After a power cut, or with an older copy, the lines up to the checkpoint would be missing for good."""
    run(small())
    (tmp_path / "run" / "record.json").unlink()  # as if it had not ended
    metrics = tmp_path / "run" / "metrics.jsonl"
    whole = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(whole[:3]))
    told = (
        r"metrics\.jsonl: lacks step 4, which was logged before step-00000004\.safetensors: restore it .* remove that"
    )
    for steps in (4, 6):
        with pytest.raises(UserError, match=told):
            run(small(f"training.total_steps={steps}"))
    assert metrics.read_text() == "".join(whole[:3])
    (tmp_path / "run" / "checkpoints" / "step-00000004.safetensors").unlink()
    run(small())
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3, 4]
