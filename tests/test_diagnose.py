"""Diagnostics of a sweep's runs: the tables, the pictures, what is measured again, and the metrics of claims."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from analysis import diagnose as command
from analysis import diagnosing
from analysis.diagnose import asked_of, config_of, diagnose, lacking
from analysis.diagnosing import Work
from analysis.diagnostics import DIAGNOSTICS
from analysis.metrics import SUMMARIES, evaluations_summary, metrics_of
from analysis.opening import opened
from analysis.tables import picture_name, read_table
from experiments.settings import DiagnosticsConfig
from experiments.study.submission import Submission
from gat.config import Config
from gat.errors import UserError
from tests.made_up import claim_of
from tests.submissions import submission_of, write_run

FEW = DiagnosticsConfig("efficientnet-lite0", "efficientnet-lite0", samples=4, alignment_samples=12, paths=2)
MADE = {"measured_at": "now", "seconds": 1.0, "git": {}, "hardware": {}, "versions": {}}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "config_of", lambda _: FEW)


def swept(runs: Path, trained: Path, **values: Any) -> Submission:
    """A sweep of the trained run, one that diverged, and one that is not done."""
    own = runs / "run-0"
    shutil.copytree(trained / "run", own)
    record = json.loads((own / "record.json").read_text())
    (own / "record.json").write_text(json.dumps(record | {"identity": "abc"}))
    submission = submission_of(runs, "1", "2", "3", launcher="local", sweep="mng", **values)
    gone = {"identity": "abc", "status": "diverged", "diverged": {"reason": "logits", "step": 3}}
    write_run(runs / "run-1", [{"step": 3}], gone)
    total = record["config"]["training"]["total_steps"]
    entries = [replace(entry, total_steps=total) for entry in submission.entries]
    replaced = replace(submission, entries=entries)
    replaced.write()
    replaced.config_file(0).parent.mkdir()
    shutil.copy(own / "config.yaml", replaced.config_file(0))
    return replaced


def test_tables_and_pictures(tmp_path: Path, trained: Path, few: None) -> None:
    claims = [one | {"diagnostic": "layer_lpips"} for one in (claim_of("mng"),)]
    submission = swept(tmp_path / "runs", trained, diagnostic_claims=claims)
    names = "layer_lpips,cknna,pca_features,stages,interpolation,samples"
    given = {
        "runs": str(tmp_path / "runs"),
        "results": str(tmp_path),
        "paths.prepared": f"{trained}/prepared",
        "diagnostics": names,
    }
    told = diagnose(given)
    steps = sorted(
        int(f.stem.removeprefix("step-")) for f in (trained / "run" / "checkpoints").glob("step-*.safetensors")
    )
    for name in names.split(",")[:-1]:
        table = read_table(tmp_path, "mini", "mng", name)
        assert table.head["missing"] == ["arm2, seed 0"]
        metrics = metrics_of(name, table.rows)
        finished, gone = metrics[metrics["arm"] == "arm0"], metrics[metrics["arm"] == "arm1"]
        assert list(finished["step"]) == (steps if DIAGNOSTICS[name].all_checkpoints else steps[-1:])
        assert list(finished["end"]) == [step == submission.entries[0].total_steps for step in finished["step"]]
        assert finished.drop(columns=["arm", "seed", "status", "step", "end"]).notna().all(axis=None)
        assert list(gone["status"]) == ["diverged"]
    assert read_table(tmp_path, "mini", "mng", "layer_lpips").head["claim"]["id"] == "mng"
    assert read_table(tmp_path, "mini", "mng", "cknna").head["claim"] is None
    pictures = {file.name for file in (tmp_path / "mini" / "pictures").iterdir()}
    assert pictures == {f"mng-{name}-arm0.png" for name in ("pca_features", "stages", "interpolation", "samples")}
    assert told[-1].endswith("4 pictures")


def test_what_is_known_is_not_measured_again(
    tmp_path: Path, trained: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(tmp_path / "runs", trained)
    given = {
        "runs": str(tmp_path / "runs"),
        "results": str(tmp_path),
        "paths.prepared": f"{trained}/prepared",
        "diagnostics": "stages",
    }
    diagnose(given)
    table = tmp_path / "mini" / "mng-stages.csv"
    before = table.read_bytes()
    table.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(diagnosing, "opened", lambda *_: pytest.fail("opened again"))
        diagnose(given)
    assert table.read_bytes() == before
    monkeypatch.setattr(command, "config_of", lambda _: replace(FEW, samples=6))  # other settings: measured anew
    diagnose(given)
    assert table.read_bytes() != before


def test_evaluations_are_those_of_the_checkpoint(tmp_path: Path, trained: Path, few: None) -> None:
    runs = tmp_path / "runs"
    swept(runs, trained)
    given = {
        "runs": str(runs),
        "results": str(tmp_path),
        "paths.prepared": f"{trained}/prepared",
        "diagnostics": "evaluations",
    }
    folder = runs / "run-0" / "evaluations"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    last = sorted((runs / "run-0" / "checkpoints").glob("step-*.safetensors"))[-1]
    checkpoint = {
        "sha256": opened(str(last), torch.device("cpu"), {"paths.prepared": f"{trained}/prepared"}).pretrained.facts[
            "sha256"
        ]
    }
    protocol = {"name": "corrected", "id": "p", "truncation": 0.0, "decoder": "own"}
    number = {"kind": "frechet", "value": 1.86, "interval": [1.8, 1.9], "protocol": protocol}
    truncated = number | {"value": 9.0, "protocol": protocol | {"id": "q", "truncation": 0.3}}
    own = {"checkpoint": checkpoint | {"weights": "ema"}, "numbers": {"CLIP-FID-50K": number}}
    (folder / "a.json").write_text(json.dumps(own))
    (folder / "b.json").write_text(json.dumps(own | {"numbers": {"CLIP-FID-50K": truncated}}))  # another protocol
    (folder / "other.json").write_text(json.dumps(own | {"checkpoint": {"sha256": "f00", "weights": "ema"}}))
    diagnose(given)
    metrics = metrics_of("evaluations", read_table(tmp_path, "mini", "mng", "evaluations").rows)
    assert metrics[metrics["status"] == "finished"]["CLIP-FID-50K"].tolist() == [1.86]
    (folder / "other.json").write_text("{")
    told = diagnose(given)
    assert any("other.json: not a record of experiments/evaluate.py" in line for line in told)
    missing = read_table(tmp_path, "mini", "mng", "evaluations").head["missing"]
    assert [line.split(":")[0] for line in missing] == ["arm2, seed 0", f"arm0, seed 0, step {int(last.stem[5:])}"]


def long(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"arm": "a", "seed": 0, "status": "finished", "step": 100, "end": True} | columns)


def test_metrics_by_hand() -> None:
    blocks = long(block=[0, 1, 2, 3], of_largest=[0.1, 0.3, 1.0, 0.5], share=[0.05, 0.15, 0.5, 0.3])
    (row,) = metrics_of("layer_lpips", blocks).to_dict("records")
    assert (row["early_of_largest"], row["early_share"]) == (pytest.approx(0.2), pytest.approx(0.2))
    (row,) = metrics_of("cknna", long(block=[0, 1], real=[0.1, 0.3], fake=[0.3, 0.4])).to_dict("records")
    assert [row[f"cknna_{x}"] for x in ("real", "fake", "fake_minus_real")] == pytest.approx([0.2, 0.35, 0.15])
    layers = [layer for layer in ("embed", "block_0", "block_1", "block_2", "block_3") for _ in range(3)]
    shares = [share for share in (9.0, 0.2, 0.4, 0.8, 0.9) for _ in range(3)]
    (row,) = metrics_of("pca_features", long(layer=layers, variance_of_sample_share=shares)).to_dict("records")
    assert row["early_of_sample"] == pytest.approx(0.3)
    paths = long(largest_step_share=[0.2, 0.4, None], straightness=[0.5, 0.7, None])
    (row,) = metrics_of("interpolation", paths).to_dict("records")
    assert (row["largest_step_share"], row["straightness"]) == (pytest.approx(0.3), pytest.approx(0.6))


def test_one_name_by_two_protocols_is_refused() -> None:
    rows = pd.DataFrame({"number": ["FID-50K"] * 2, "value": [2.0, 3.0], "protocol_id": ["a", "b"]})
    rows = rows.assign(truncation=0.0, decoder="own")
    with pytest.raises(UserError, match="FID-50K was measured by several protocols"):
        evaluations_summary(rows)


def test_one_name_measured_twice_is_refused() -> None:
    """With two seeds, say: neither is the number."""
    rows = pd.DataFrame({"number": ["FID-50K"] * 2, "value": [2.0, 3.0], "protocol_id": ["a", "a"]})
    with pytest.raises(UserError, match="FID-50K was measured 2 times .*: keep one record"):
        evaluations_summary(rows.assign(truncation=0.0, decoder="own"))


def test_checkpoints_that_were_not_kept(default_config: Config) -> None:
    """Another sweep trained the run, and kept the last two alone."""
    work = [Work(name, Path(f"step-{step}.x"), Path(), {}) for name in ("cknna", "stages") for step in (500, 600)]
    training = replace(default_config.training, total_steps=600, keep_steps=200)
    assert lacking(work, ["cknna", "stages"], training) == [("cknna", 200), ("cknna", 400)]
    assert lacking(work, ["cknna", "stages"], replace(training, keep_steps=None)) == []
    assert lacking(work[:1], ["cknna"], replace(training, keep_steps=None)) == [("cknna", 600)]


def test_what_was_not_kept_is_told_beside_the_table(tmp_path: Path, trained: Path, few: None) -> None:
    submission = swept(tmp_path / "runs", trained)
    file = submission.config_file(0)
    file.write_text(file.read_text().replace("keep_steps: null", "keep_steps: 1"))
    diagnose(
        {
            "runs": str(tmp_path / "runs"),
            "results": str(tmp_path),
            "paths.prepared": f"{trained}/prepared",
            "diagnostics": "layer_lpips",
        }
    )
    missing = read_table(tmp_path, "mini", "mng", "layer_lpips").head["missing"]
    assert "arm0, seed 0, step 1: its checkpoint was not kept" in missing


def test_a_run_that_kept_no_checkpoint_does_not_end_the_others_diagnosis(
    tmp_path: Path, trained: Path, few: None
) -> None:
    swept(tmp_path / "runs", trained)
    for file in (tmp_path / "runs/run-0/checkpoints").iterdir():
        file.unlink()
    diagnose(
        {
            "runs": str(tmp_path / "runs"),
            "results": str(tmp_path),
            "paths.prepared": f"{trained}/prepared",
            "diagnostics": "stages",
        }
    )
    table = read_table(tmp_path, "mini", "mng", "stages")
    assert list(table.rows["arm"]) == ["arm1"]
    assert table.head["missing"] == ["arm2, seed 0", "arm0, seed 0, step 4: its checkpoint was not kept"]


def test_a_sweep_that_was_run_on_two_machines(tmp_path: Path, trained: Path, few: None) -> None:
    claims = [one | {"diagnostic": "stages"} for one in (claim_of("mng"),)]
    swept(tmp_path / "one", trained, diagnostic_claims=claims)
    results = {"results": str(tmp_path), "paths.prepared": f"{trained}/prepared", "diagnostics": "stages"}
    diagnose({"runs": str(tmp_path / "one")} | results)
    first = read_table(tmp_path, "mini", "mng", "stages")
    collected = pd.DataFrame([["arm0", 0, "finished", "run-0"]], columns=["arm", "seed", "status", "run"])
    collected.to_csv(tmp_path / "mini/mng.csv", index=False)
    (tmp_path / "mini/mng.json").write_text(json.dumps({"base": "base"}))
    picture = tmp_path / "mini/pictures" / picture_name("mng", "stages", "arm0")
    picture.write_text("of seed 0")
    second = swept(tmp_path / "two", trained)
    replace(second, entries=[replace(second.entries[0], seed=1)]).write()
    diagnose({"runs": str(tmp_path / "two")} | results)
    both = read_table(tmp_path, "mini", "mng", "stages")
    assert sorted(set(both.rows["seed"])) == [0, 1]
    columns = list(first.rows.columns)
    kept = both.rows[both.rows["seed"] == 0][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first.rows.sort_values(["arm"], kind="stable"))
    assert [one["step"] for one in both.head["measured"]] == [one["step"] for one in first.head["measured"]] * 2
    assert both.head["missing"] == ["arm2, seed 0"]
    assert (first.head["claim_changed"], both.head["claim_changed"]) == (False, True)
    assert picture.read_text() == "of seed 0"


def test_two_machines_that_diagnose_at_once_lose_no_rows(
    tmp_path: Path, trained: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process writes its table while the first one measures."""
    swept(tmp_path / "one", trained)
    second = swept(tmp_path / "two", trained)
    replace(second, entries=[replace(second.entries[0], seed=1)]).write()
    results = {"results": str(tmp_path), "diagnostics": "stages", "paths.prepared": str(trained / "prepared")}
    gathered = command.gathered

    def slowly(*arguments: Any) -> command.Gathered:
        monkeypatch.setattr(command, "gathered", gathered)
        diagnose({"runs": str(tmp_path / "two")} | results)
        return gathered(*arguments)

    monkeypatch.setattr(command, "gathered", slowly)
    diagnose({"runs": str(tmp_path / "one")} | results)
    assert sorted(set(read_table(tmp_path, "mini", "mng", "stages").rows["seed"])) == [0, 1]


def test_measured_as_submitted(tmp_path: Path, trained: Path) -> None:
    """Not as the study says by now."""
    swept(tmp_path / "runs", trained, diagnostics=asdict(FEW))
    diagnose(
        {
            "runs": str(tmp_path / "runs"),
            "results": str(tmp_path),
            "paths.prepared": f"{trained}/prepared",
            "diagnostics": "stages",
        }
    )
    assert read_table(tmp_path, "mini", "mng", "stages").head["settings"]["samples"] == FEW.samples


def test_every_diagnostic_with_rows_has_metrics() -> None:
    assert SUMMARIES.keys() == DIAGNOSTICS.keys() - {"samples"}


def test_names() -> None:
    assert asked_of("mng", {}) == ["layer_lpips", "pca_features", "stages", "interpolation", "samples"]
    assert asked_of("consistency", {}) == []
    assert asked_of("mng", {"diagnostics": "cknna"}) == ["cknna"]
    with pytest.raises(UserError, match="diagnostics='cka' is unknown"):
        asked_of("mng", {"diagnostics": "cka"})
    assert picture_name("patch_size", "samples", "small,size=S") == "patch_size-samples-small_size-S.png"
    assert config_of("imagenet256").teacher == "dinov2-g"
    with pytest.raises(UserError, match=r"study=none has no study\.diagnostics"):
        config_of("none")


def test_sweeps_without_diagnostics(tmp_path: Path) -> None:
    submission_of(tmp_path, "1", launcher="local", sweep="consistency")
    with pytest.raises(UserError, match="none of these sweeps asks for diagnostics"):
        diagnose({"runs": str(tmp_path)})
