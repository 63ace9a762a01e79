"""Tables of a sweep that was run on several machines."""

import json
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import experiments.collect
from experiments.study.elsewhere import Elsewhere, Here, elsewhere
from gat.errors import UserError
from tests.submissions import ENTRY, numbers_line, submission_of, write_run
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
    """Machine one ends ``arm0`` and fails ``arm1``; machine two ends ``arm1``, and its submission lists both."""
    submission_of(Path("one"), "", "", launcher="local")
    write_run(Path("one/run-0"), LINES, record_of())
    assert collect(monkeypatch, "one") == [["arm0", "finished"]] * 2 + [["arm1", "failed"]]
    submission_of(Path("two"), None, "", launcher="local", **second)
    write_run(Path("two/run-1"), [LINES[0], LINES[2]], record_of())
    return collect(monkeypatch, "two")


def test_two_machines_that_gather_at_once_lose_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process begins when the first has read the table, but not yet written it."""
    one_machine_each(monkeypatch)
    TABLE.unlink()
    second = threading.Thread(target=collect, args=(monkeypatch, "two"))

    def read_slowly(*arguments: Any) -> Elsewhere:
        found = elsewhere(*arguments)
        monkeypatch.setattr(experiments.collect, "elsewhere", elsewhere)
        second.start()
        second.join(timeout=2)
        return found

    monkeypatch.setattr(experiments.collect, "elsewhere", read_slowly)
    collect(monkeypatch, "one")
    second.join()
    assert pd.read_csv(TABLE)["arm"].tolist() == ["arm0", "arm0", "arm1"]
    assert set(pd.read_csv(TABLE)["status"]) == {"finished"}


def rows_of(arm: str) -> list[str]:
    return [line for line in TABLE.read_text().splitlines() if f",{arm}," in line]


def head() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(TABLE.with_suffix(".json").read_text())
    return read


def test_rows_of_the_other_machine_stay_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = one_machine_each(monkeypatch)
    assert table == [["arm0", "finished"]] * 2 + [["arm1", "finished"]]
    assert "3 rows of 2 runs here and 1 kept from the table, 0 missing" in capsys.readouterr().out
    assert (head()["missing"], len(head()["submissions"]), head()["claim_changed"]) == ([], 2, False)
    assert head()["protocols"] == {ONE.id: ONE.as_record()}
    first, second = rows_of("arm0"), rows_of("arm1")
    assert collect(monkeypatch, "one") == table  # its own failed run does not replace the other's
    assert rows_of("arm1") == second
    assert collect(monkeypatch, "two") == table
    assert [len(first), len(rows_of("arm0"))] == [2, 2]
    assert {file.stem for file in (TABLE.parent / "records").iterdir()} == {"run-0", "run-1"}


def test_what_is_missing_elsewhere_stays_missing_until_it_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submission_of(Path("one"), "", "", "", launcher="local")
    write_run(Path("one/run-0"), LINES, record_of())
    collect(monkeypatch, "one")
    assert head()["missing"] == ["arm1, seed 0", "arm2, seed 0"]
    submission = submission_of(Path("two"), "", "", launcher="local")
    replace(submission, entries=submission.entries[1:]).write()
    write_run(Path("two/run-1"), LINES[:1], record_of("diverged", final_metrics=LINES[0], protocols={}))
    assert collect(monkeypatch, "two") == [*[["arm0", "finished"]] * 2, ["arm1", "diverged"], ["arm2", "failed"]]
    assert head()["missing"] == ["arm2, seed 0"]
    assert "missing: arm2, seed 0: not here" in capsys.readouterr().out


def test_nothing_stays_of_a_table_whose_runs_are_all_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated under another claim, and against another reference."""
    one_machine_each(monkeypatch)
    other = replace(ONE, reference="another")
    submission = submission_of(Path("all"), "", "", launcher="local", claim={"at": "evaluations"})
    for i in (0, 1):
        line = LINES[-1] | numbers_line({"FD-x-8": 10.0}, other.id)
        changed = record_of(final_metrics=line, protocols={other.id: other.as_record()})
        write_run(Path(f"all/run-{i}"), [line], changed)
    assert collect(monkeypatch, "all") == [["arm0", "finished"], ["arm1", "finished"]]
    assert (head()["claim_changed"], list(head()["protocols"])) == (False, [other.id])
    assert [one["id"] for one in head()["submissions"]] == [submission.id]


def test_a_run_that_was_removed_here_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    submission_of(Path("one"), "", launcher="local")
    write_run(Path("one/run-0"), LINES, record_of())
    assert collect(monkeypatch, "one") == [["arm0", "finished"]] * 2
    shutil.rmtree("one/run-0")
    assert collect(monkeypatch, "one") == [["arm0", "failed"]]
    assert head()["missing"] == ["arm0, seed 0"]


def test_arms_stand_in_the_order_of_who_submitted_most(monkeypatch: pytest.MonkeyPatch) -> None:
    submission = submission_of(Path("one"), "", "", "", launcher="local")
    replace(submission, entries=submission.entries[2:]).write()
    collect(monkeypatch, "one")
    submission_of(Path("two"), "", "", "", launcher="local")
    assert [arm for arm, _ in collect(monkeypatch, "two")] == ["arm0", "arm1", "arm2"]
    assert [arm for arm, _ in collect(monkeypatch, "one")] == ["arm0", "arm1", "arm2"]


def test_a_claim_that_changed_between_machines_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one_machine_each(monkeypatch, claim={"at": "evaluations"})
    assert head()["claim_changed"]


def test_runs_of_other_settings_are_not_lost_and_do_not_stop_other_sweeps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submission_of(Path("two"), None, launcher="local", sweep="zebra")
    with pytest.raises(SystemExit) as stopped:
        one_machine_each(monkeypatch, base="other")
    assert stopped.value.code == 2
    assert "test.csv: has 1 runs of other settings that are not under two, and would be lost" in capsys.readouterr().err
    assert pd.read_csv(TABLE)["arm"].tolist() == ["arm0", "arm0", "arm1"]
    assert TABLE.with_name("zebra.csv").is_file()
    TABLE.unlink()
    assert collect(monkeypatch, "two") == [["arm0", "not submitted"], ["arm1", "finished"]]


def test_rows_of_diagnostics_and_what_could_not_be_measured(tmp_path: Path) -> None:
    rows = [["a", 0, "finished", "run-0", 0.1], ["a", 1, "finished", "run-1", 0.30000000000000004]]
    file = tmp_path / "test-cknna.csv"
    pd.DataFrame(rows, columns=["arm", "seed", "status", "run", "real"]).to_csv(file, index=False)
    missing = ["a, seed 1, step 4: its checkpoint was not kept", "a, seed 10", "b, seed 0"]
    file.with_suffix(".json").write_text(json.dumps({"base": "x", "missing": missing}))
    key = frozenset({("a", 1)})
    there = elsewhere(file, {"base": "x"}, Here(frozenset(), key, key), tmp_path)
    assert there.missing([]) == ["a, seed 10", "b, seed 0"]
    table = there.beside([{"arm": "a", "seed": 1, "status": "finished", "run": "run-2", "fake": 0.5}])
    assert table.fillna("").to_numpy().tolist() == [
        ["a", "0", "finished", "run-0", "0.1", ""],
        ["a", "1", "finished", "run-2", "", "0.5"],
    ]
    unended = elsewhere(file, {"base": "x"}, Here(frozenset(), key, frozenset()), tmp_path)
    assert unended.rows["real"].tolist() == ["0.1", "0.30000000000000004"]
    assert unended.missing([replace(ENTRY, arm="a", seed=1)]) == missing
    file.write_text("")
    with pytest.raises(UserError, match=r"test-cknna\.csv: not a whole table .*: remove it, and gather again"):
        elsewhere(file, {}, Here(frozenset(), key, key), tmp_path)
