"""Tables of a sweep that was run on several machines."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import experiments.collect
from experiments.study.elsewhere import Here, elsewhere
from gat.errors import UserError
from tests.submissions import submission_of, write_run
from tests.test_collect import LINES, record_of
from tests.test_protocol import ONE

TABLE = Path("results/mini/test.csv")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def collect(monkeypatch: pytest.MonkeyPatch, machine: str) -> list[list[str]]:
    """Gather the runs of a machine; arms and statuses of the table's rows."""
    monkeypatch.setattr(sys, "argv", ["collect.py", f"runs={machine}"])
    experiments.collect.main()
    return pd.read_csv(TABLE)[["arm", "status"]].to_numpy().tolist()


def one_machine_each(monkeypatch: pytest.MonkeyPatch, **second: Any) -> list[list[str]]:
    """Machine one ends ``arm0`` and fails ``arm1``; machine two ends what its submission lists, ``arm0`` and ``arm1``."""
    submission_of(Path("one"), "", "", launcher="local")
    write_run(Path("one/run-0"), LINES, record_of())
    assert collect(monkeypatch, "one") == [["arm0", "finished"]] * 2 + [["arm1", "failed"]]
    submission_of(Path("two"), None, "", launcher="local", **second)
    write_run(Path("two/run-1"), LINES[:2], record_of(final_metrics=LINES[1]))
    return collect(monkeypatch, "two")


def test_rows_of_the_other_machine_stay_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = one_machine_each(monkeypatch)
    assert table == [["arm0", "finished"]] * 2 + [["arm1", "finished"]]
    assert "3 rows of 2 runs here and 1 kept from the table, 0 missing" in capsys.readouterr().out
    head = json.loads(TABLE.with_suffix(".json").read_text())
    assert (head["missing"], len(head["submissions"]), head["claim_changed"]) == ([], 2, False)
    assert head["protocols"] == {ONE.id: ONE.as_record()}
    both = pd.read_csv(TABLE)
    assert collect(monkeypatch, "one") == table  # its own failed run does not replace the other's
    assert collect(monkeypatch, "two") == table
    pd.testing.assert_frame_equal(pd.read_csv(TABLE), both, check_dtype=False)
    assert {file.stem for file in (TABLE.parent / "records").iterdir()} == {"run-0", "run-1"}


def test_what_is_missing_elsewhere_stays_missing_until_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    submission_of(Path("one"), "", "", "", launcher="local")
    write_run(Path("one/run-0"), LINES, record_of())
    collect(monkeypatch, "one")
    assert json.loads(TABLE.with_suffix(".json").read_text())["missing"] == ["arm1, seed 0", "arm2, seed 0"]
    submission = submission_of(Path("two"), "", "", launcher="local")
    replace(submission, entries=submission.entries[1:]).write()
    write_run(Path("two/run-1"), LINES[:1], record_of("diverged", final_metrics=LINES[0], protocols={}))
    assert collect(monkeypatch, "two") == [*[["arm0", "finished"]] * 2, ["arm1", "diverged"], ["arm2", "failed"]]
    assert json.loads(TABLE.with_suffix(".json").read_text())["missing"] == ["arm2, seed 0"]


def test_a_claim_that_changed_between_machines_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one_machine_each(monkeypatch, claim={"at": "evaluations"})
    assert json.loads(TABLE.with_suffix(".json").read_text())["claim_changed"]


def test_runs_of_other_settings_are_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        one_machine_each(monkeypatch, base="other")
    assert stopped.value.code == 2
    assert "test.csv: has 1 runs of other settings that are not under two, and would be lost" in capsys.readouterr().err
    assert pd.read_csv(TABLE)["arm"].tolist() == ["arm0", "arm0", "arm1"]
    TABLE.unlink()
    assert collect(monkeypatch, "two") == [["arm0", "not submitted"], ["arm1", "finished"]]


def test_rows_of_diagnostics_and_what_could_not_be_measured(tmp_path: Path) -> None:
    rows = [["a", 0, "finished", "run-0", 0.1], ["a", 1, "finished", "run-1", 0.30000000000000004]]
    file = tmp_path / "test-cknna.csv"
    pd.DataFrame(rows, columns=["arm", "seed", "status", "run", "real"]).to_csv(file, index=False)
    missing = ["a, seed 1, step 4: its checkpoint was not kept", "a, seed 10", "b, seed 0"]
    file.with_suffix(".json").write_text(json.dumps({"base": "x", "missing": missing}))
    key = frozenset({("a", 1)})
    there = elsewhere(file, {"base": "x"}, Here(key, key), tmp_path)
    assert there.missing([]) == ["a, seed 10", "b, seed 0"]
    table = there.beside([{"arm": "a", "seed": 1, "status": "finished", "run": "run-2", "fake": 0.5}])
    assert table.fillna("").to_numpy().tolist() == [
        ["a", "0", "finished", "run-0", "0.1", ""],
        ["a", "1", "finished", "run-2", "", "0.5"],
    ]
    unended = elsewhere(file, {"base": "x"}, Here(key, frozenset()), tmp_path)
    assert unended.rows["real"].tolist() == ["0.1", "0.30000000000000004"]
    file.write_text("")
    with pytest.raises(UserError, match=r"test-cknna\.csv: is no whole table .*: remove it, and collect again"):
        elsewhere(file, {}, Here(key, key), tmp_path)
