"""Verdicts from tables on disk: the document, claims without runs, and tables that cannot be judged."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.verdicts import claims, judge, judged
from experiments.settings import SWEEPS
from gat.errors import UserError
from tests.test_rules import A, B, runs

CLAIM = claims()["mng"]


def write_table(folder: Path, rows: list[dict[str, Any]], sweep: str = "mng", claim: dict[str, Any] = CLAIM) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / f"{sweep}.csv", index=False)
    (folder / f"{sweep}.json").write_text(json.dumps({"claim": claim}))
    return folder


def mng_table(exponential: list[float] | None, none: list[float] | None) -> list[dict[str, Any]]:
    arms = {"exponential": exponential, "none": none, "linear": [12.0, 12.1, 11.9], "msg": [30.0, 30.5, 29.5]}
    return [row | {"protocol": "abc"} for arm, values in arms.items() for row in runs(arm, values)]


def test_every_sweep_states_its_claim() -> None:
    assert claims().keys() == {file.stem for file in SWEEPS.glob("*.yaml")}
    assert CLAIM["id"] == "mng"


@pytest.mark.parametrize(
    ("exponential", "none", "expected"), [(A, B, "confirmed"), (B, A, "refuted"), (A, [10.1, 10.6, 9.7], "undecided")]
)
def test_verdict_of_a_table(tmp_path: Path, exponential: list[float], none: list[float], expected: str) -> None:
    write_table(tmp_path, mng_table(exponential, none))
    one = judged("mng", CLAIM, tmp_path, "mini")
    assert (one.verdict, one.seeds) == (expected, "3 of 3")


def test_the_rule_is_the_one_of_the_submission(tmp_path: Path) -> None:
    """Later edits of the sweep's file do not reach runs that were submitted before."""
    swapped = CLAIM | {"rule": [{"kind": "ordered", "arms": ["none", "exponential"], "decides": True}]}
    write_table(tmp_path, mng_table(A, B), claim=swapped)
    assert judged("mng", CLAIM, tmp_path, "mini").verdict == "refuted"


def test_the_document(tmp_path: Path) -> None:
    write_table(tmp_path / "mini", mng_table(A, B))
    told = judge({"results": str(tmp_path)})
    text = (tmp_path / "mini" / "verdicts.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(claims())
    (mng,) = (row for row in rows if row.startswith("| `mng`"))
    assert "none - exponential: 10 (8.867 to 11.13)" in mng
    assert "about 15" in mng
    assert mng.endswith("| 3 of 3 | **confirmed** |")
    assert sum(row.endswith("| **not run** |") for row in rows) == len(rows) - 1
    assert "- ordered of exponential, linear, none, msg (beside it): **" in text
    assert told[-1] == str(tmp_path / "mini" / "verdicts.md")


def test_tables_that_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="holds no table of a sweep: run one, then python experiments/collect.py study=mini"
    ):
        judge({"results": str(tmp_path)})
    mixed = [row | {"protocol": row["arm"]} for row in mng_table(A, B)]
    write_table(tmp_path / "mini", mixed)
    with pytest.raises(UserError, match="has distances of 4 protocols, which are not comparable"):
        judge({"results": str(tmp_path)})
    (tmp_path / "mini" / "mng.json").write_text("{")
    with pytest.raises(UserError, match=r"mng\.csv: is no whole table"):
        judge({"results": str(tmp_path)})
    assert not (tmp_path / "mini" / "verdicts.md").exists()
