"""Tables of results: what is read, what is missing, and what is no table."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.tables import NoTableError, Source, picture_name, read_table
from gat.errors import UserError
from tests.made_up import PROTOCOL, run_rows, write_results


def write(folder: Path, *, missing: tuple[str, ...] = ()) -> Path:
    rows = [row for arm in ("none", "None") for seed in range(3) for row in run_rows(arm, seed, {100: 5.0})]
    return write_results(folder, "mng", rows, missing=missing)


def test_reading(tmp_path: Path) -> None:
    write(tmp_path)
    table = read_table(tmp_path, "mini", "mng")
    assert (table.study, table.sweep, table.gaps) == ("mini", "mng", [])
    assert table.arms == ["none", "None"]  # a word that pandas would read as a gap is a name here
    assert table.protocol == PROTOCOL
    assert len(table.ended) == 6


def test_missing_runs_are_gaps_once(tmp_path: Path) -> None:
    file = write(tmp_path, missing=("none, seed 2",))
    rows = pd.read_csv(file, keep_default_na=False)
    rows[(rows["seed"] < 2) | (rows["arm"] == "None")].to_csv(file, index=False)
    assert read_table(tmp_path, "mini", "mng").gaps == ["mini/mng: none, seed 2"]


def test_an_altered_protocol_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path).with_suffix(".json")
    head = json.loads(file.read_text())
    head["protocols"][PROTOCOL.id]["samples"] = 50_000
    file.write_text(json.dumps(head))
    with pytest.raises(UserError, match="a record's protocol was altered"):
        _ = read_table(tmp_path, "mini", "mng").protocol


def test_a_source_remembers_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path, missing=("none, seed 2",))
    source = Source(tmp_path, "mini")
    assert source.table("mng") is not None
    assert source.table("mng") is not None  # asked for twice, missing once
    assert source.table("repa") is None
    assert source.table("mng", "layer_lpips") is None
    assert source.picture("mng-samples-none.png") is None
    assert source.gaps == [
        "mini/mng: none, seed 2",
        "mini/repa: no table",
        "mini/mng, layer_lpips: no table",
        "mini: no picture mng-samples-none.png",
    ]
    with pytest.raises(
        NoTableError, match=r"there is no such table: run the sweep, then python analysis/diagnose\.py sweep=mng"
    ):
        read_table(tmp_path, "mini", "mng", "layer_lpips")


def test_names_of_pictures() -> None:
    assert picture_name("patch_size", "samples", "small,size=S") == "patch_size-samples-small_size-S.png"
