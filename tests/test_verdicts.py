"""Verdicts from tables on disk: the documents, claims without runs, diagnostics' claims, and tables that cannot be judged."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.evidence import FAILS, HOLDS, SILENT, Evidence, Levels, Outcome
from analysis.judging import Judged, all_judged, claims, corrected, judged, noise_floor, seeds_of, studies_of
from analysis.rules import verdict
from analysis.tables import Source, read_table
from analysis.verdicts import FILE, document, included, judge, summary, table_of
from experiments.settings import SWEEPS
from experiments.study.power import detectable
from gat.errors import UserError
from gat.numerics import NUMERICS
from tests.made_up import claim_of, write_results
from tests.made_up_evidence import A, B, runs

CLAIM = claim_of("mng")
LAYER_USE = next(claim for _, claim in claims() if claim["id"] == "layer_use") | {"seeds": 3, "looks": 1}
ROOT = Path(__file__).parent.parent


def mng_table(exponential: list[float] | None, none: list[float] | None) -> list[dict[str, Any]]:
    arms = {
        "exponential": exponential,
        "none": none,
        "linear": [12.0, 12.1, 11.9],
        "flat": [20.0, 20.3, 19.8],
        "msg": [30.0, 30.5, 29.5],
    }
    return [
        row | {"protocol": "abc", "run": f"{arm}-{i}"}
        for arm, values in arms.items()
        for i, row in enumerate(runs(arm, values))
    ]


def block_rows(arm: str, early: float) -> list[dict[str, Any]]:
    """Three seeds of four blocks; the first two contribute ``early`` of the largest, more or less."""
    head = {"arm": arm, "status": "finished", "step": 100, "end": True, "share": 0.25}
    of_largest = (early, early, 1.0, 0.5)
    return [
        head | {"seed": seed, "block": b, "of_largest": value + 0.01 * seed}
        for seed in range(3)
        for b, value in enumerate(of_largest)
    ]


def test_seeds_by_arm_where_they_differ() -> None:
    assert seeds_of({"a": 3, "b": 3}, 3) == "3 of 3"
    assert seeds_of({"a": 3, "b": 2, "c": 0}, 3) == "3 of 3 (b: 2, c: 0)"
    assert seeds_of({str(i): min(i, 1) for i in range(6)} | {"most": 4}, 4) == (
        "4 of 4 (0: 0, 1: 1, 2: 1, 3: 1, and 2 more arms)"
    )


def test_noise_floor_pools_the_variance_of_logarithms_over_arms() -> None:
    """Sums of squares 0.02 and 0, of 1 and 2 degrees of freedom: a standard deviation of sqrt(0.02 / 3)."""
    arms = {"a": [math.exp(-0.1), math.exp(0.1)], "b": [2.0, 2.0, 2.0], "alone": [7.0]}
    table = pd.DataFrame([row for arm, values in arms.items() for row in runs(arm, values)])
    found = noise_floor(Evidence(table, "frechet", 0.95, "mini", planned=5))
    ratio = math.exp(detectable(math.sqrt(0.02 / 3), 5))
    assert found == f"noise floor 8.2% (3 degrees of freedom): 5 seeds per arm find a ratio of {ratio:.3g}"
    assert noise_floor(Evidence(table[table["arm"] == "alone"], "frechet", 0.95, "mini", planned=5)) == ""
    assert noise_floor(Evidence(table.assign(lpips=1.0), "lpips", 0.95, "mini", planned=5)) == ""


def test_noise_floor_stands_beside_every_verdict(tmp_path: Path) -> None:
    write_results(tmp_path, "mng", mng_table(A, [10.1, 10.6, 9.7]))
    one = judged("mng", CLAIM, tmp_path, "mini")
    assert one.floor.startswith("noise floor ")
    assert f"; {one.floor}" in table_of([one], "mini")[-1]
    assert f"\n- {one.floor}\n" in document("mini", [one])


def test_tests_that_say_nothing_at_a_scale_stay_out_of_the_table_beside_others() -> None:
    claim = CLAIM | {"rule": [{"decides": True}, {"decides": True}]}
    silent, speaks = Outcome(SILENT, "says nothing at scale mini"), Outcome(HOLDS, "rise 0.2")
    cells = table_of([Judged("x", claim, "confirmed", [silent, speaks], "3 of 3")], "mini")[-1].split(" | ")
    assert cells[3] == "rise 0.2"
    cells = table_of([Judged("x", claim, "no verdict", [silent, silent], "3 of 3")], "mini")[-1].split(" | ")
    assert cells[3] == "says nothing at scale mini; says nothing at scale mini"


def test_every_sweep_states_its_claim() -> None:
    assert {sweep for sweep, _ in claims()} == {file.stem for file in SWEEPS.glob("*.yaml")} - {"seed_noise"}
    ids = [claim["id"] for _, claim in claims()]
    assert len(ids) == len(set(ids))
    assert ids.index("layer_use") == ids.index("mng") + 1


@pytest.mark.parametrize(
    ("exponential", "none", "expected"), [(A, B, "confirmed"), (B, A, "refuted"), (A, [10.1, 10.6, 9.7], "undecided")]
)
def test_verdict_of_a_table(tmp_path: Path, exponential: list[float], none: list[float], expected: str) -> None:
    write_results(tmp_path, "mng", mng_table(exponential, none))
    one = judged("mng", CLAIM, tmp_path, "mini")
    assert (one.verdict, one.seeds) == (expected, "3 of 3")


@pytest.mark.parametrize(
    ("none", "exponential", "expected"),
    [(0.2, 0.6, "confirmed"), (0.6, 0.7, "refuted"), (0.2, 0.1, "refuted"), (0.2, 0.2, "undecided")],
)
def test_verdict_of_a_diagnostic(tmp_path: Path, none: float, exponential: float, expected: str) -> None:
    """Early blocks below 0.4 without MNG, and below those with it."""
    assert judged("mng", LAYER_USE, tmp_path, "mini").verdict == "not run"
    rows = block_rows("none", none) + block_rows("exponential", exponential)
    write_results(tmp_path, "mng", rows, diagnostic="layer_lpips", claim=LAYER_USE, protocols={})
    one = judged("mng", LAYER_USE, tmp_path, "mini")
    assert one.verdict == expected
    assert one.outcomes[0].told.startswith(f"early_of_largest of none {none + 0.01:.4g}")


def test_the_rule_is_the_one_of_the_submission(tmp_path: Path) -> None:
    """Later edits of the sweep's file do not reach runs that were submitted before."""
    swapped = CLAIM | {"rule": [{"kind": "ordered", "arms": ["none", "exponential"], "decides": True}]}
    write_results(tmp_path, "mng", mng_table(A, B), claim=swapped)
    assert judged("mng", CLAIM, tmp_path, "mini").verdict == "refuted"


def test_the_documents(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_results(results, "mng", mng_table(A, B))
    readme = "before\n<!-- verdicts -->\nold\n<!-- end of verdicts -->\nafter\n"
    (tmp_path / "README.md").write_text(readme)
    told = judge({"results": str(results)})
    text = (results / "mini" / "verdicts.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(claims())
    (mng,) = (row for row in rows if row.startswith("| `mng`"))
    assert "none / exponential: 2.001 (1.804 to 2.221; pooled 1.83 to 2.189; p 0.00025)" in mng
    assert "about 15" in mng
    assert mng.endswith("| 3 of 3 | **confirmed** |")
    assert sum(row.endswith("| **not run** |") for row in rows) == len(rows) - 1
    assert "- ordered of exponential, linear, none, msg (beside it): **" in text
    assert told[-2:] == [str(results / "mini" / "verdicts.md"), str(results / "report.html")]
    assert (
        "none / exponential: 2.001 (1.804 to 2.221; pooled 1.83 to 2.189; p 0.00025)"
        in (results / "report.html").read_text()
    )
    written = (tmp_path / "README.md").read_text()
    assert written.startswith("before\n<!-- verdicts -->\n\n1 of 22 claims and questions have a verdict, ")
    assert written.endswith("<!-- end of verdicts -->\nafter\n")
    assert "lowers FID. | confirmed (mini) |\n" in written
    assert "old" not in written
    assert written.count("| not run |\n") == len(rows) - 1
    assert "Every test with its numbers: [mini](results/mini/verdicts.md).\n" in written
    judge({"results": str(results)})
    assert (tmp_path / "README.md").read_text() == written


def test_the_page_does_not_depend_on_the_study_asked_for_last(tmp_path: Path) -> None:
    for study in ("mini", "other"):
        write_results(tmp_path, "mng", mng_table(A, B), study=study)
    pages = []
    for study in ("mini", "other"):
        judge({"results": str(tmp_path), "study": study})
        pages.append((tmp_path / "report.html").read_text())
    assert pages[0] == pages[1]


def test_a_text_without_markers_is_left_alone() -> None:
    assert included("nothing here\n", ["| mng |"]) == "nothing here\n"


def test_the_summary_has_a_row_per_claim_with_the_verdicts_of_every_study(tmp_path: Path) -> None:
    """Marked where the numerics were older; long sentences end at their colon."""
    write_results(tmp_path, "mng", mng_table(A, B))
    write_results(tmp_path, "mng", [row | {"numerics": 1} for row in mng_table(B, A)], study="other", numerics=1)
    lines = summary({study: all_judged(tmp_path, study) for study in ("mini", "nano", "other")}, "elsewhere")
    assert lines[0].endswith(" some at several scales: 1 confirmed, 1 refuted.")
    assert sum(line.startswith("| [") for line in lines) == len(claims())
    (mng,) = (line for line in lines if line.startswith("| [mng](sweeps/mng.yaml) | "))
    assert mng.endswith(" | confirmed (mini); refuted\\* (other) |")
    (update,) = (line for line in lines if line.startswith("| [update_size]"))
    assert update.endswith("in proportion to width x lr | not run |")
    assert "[other](elsewhere/other/verdicts.md)" in "\n".join(lines)
    assert lines[-1] == "\\* Trained before the augmentation was corrected: not of GAT as released."


def test_committed_tables_are_those_of_the_committed_results() -> None:
    results = ROOT / "results"
    by_study = {study: all_judged(results, study) for study in studies_of(results)}
    text = (ROOT / "README.md").read_text()
    assert "<!-- verdicts -->" in text
    assert included(text, summary(by_study)) == text, "python analysis/verdicts.py study=mini"
    for study, verdicts in by_study.items():
        if any(one.outcomes for one in verdicts):
            written = (results / study / FILE).read_text()
            assert document(study, verdicts) == written, f"python analysis/verdicts.py study={study}"


def test_rules_of_today_and_changed_ones_are_told(tmp_path: Path) -> None:
    write_results(tmp_path, "mng", mng_table(A, B), claim=None, claim_changed=True)
    assert judged("mng", CLAIM, tmp_path, "mini").notes == [
        "its rule is today's, as none was submitted with the runs",
        "its rule changed between submissions; the newest counts",
    ]


@pytest.mark.parametrize("how", ["column", "no word"])
def test_results_of_older_numerics_are_marked_and_never_mixed(tmp_path: Path, how: str) -> None:
    """A table without the column is of version 1."""
    mark = "before the augmentation was corrected"
    rows = [row | ({"numerics": 1} if how == "column" else {}) for row in mng_table(A, B)]
    write_results(tmp_path, "mng", rows, numerics=NUMERICS if how == "column" else 1)
    assert read_table(tmp_path, "mini", "mng").mark == mark
    assert judged("mng", CLAIM, tmp_path, "mini").notes == [mark]
    assert mark in "\n".join(table_of(all_judged(tmp_path, "mini"), "mini"))
    source = Source(tmp_path, "mini")
    source.table("mng")
    assert source.marks == [mark]
    write_results(tmp_path, "mng", [*({**row, "numerics": 1} for row in rows), {**rows[0], "seed": 7, "numerics": 2}])
    with pytest.raises(UserError, match="has runs of versions 1 and 2 of the numerics, which are not comparable"):
        judged("mng", CLAIM, tmp_path, "mini")


def test_looks_see_no_more_seeds_than_planned(tmp_path: Path) -> None:
    """With six of eight seeds the claim is looked at with four; the fifth and sixth would say the opposite."""
    planned = CLAIM | {"seeds": 8, "looks": 2}
    several = [10.0, 10.5, 9.5, 10.1, 90.0, 90.0], [20.0, 20.5, 19.5, 20.1, 1.0, 1.0]
    write_results(tmp_path, "mng", mng_table(*several), claim=planned)
    one = judged("mng", planned, tmp_path, "mini")
    assert (one.verdict, one.seeds) == ("confirmed", "6 of 8 (flat: 3, linear: 3, msg: 3)")
    assert one.notes == ["looked at with 4 of 8 seeds per arm (level 0.00517)"]
    whole = [[*values, values[-1], values[-1]] for values in several]
    write_results(tmp_path, "mng", mng_table(*whole), claim=planned)
    assert judged("mng", planned, tmp_path, "mini").verdict == "confirmed"  # what a look decides stays
    write_results(tmp_path, "mng", mng_table([10.0, 10.5, 9.5], [20.0, 20.5, 19.5]), claim=planned)
    one = judged("mng", planned, tmp_path, "mini")
    assert one.verdict == "undecided"
    assert one.outcomes[0].told.endswith("; of 4 planned seeds ended exponential: 3, none: 3")


def test_a_look_waits_for_its_own_seeds(tmp_path: Path) -> None:
    """Four of eight seeds have ended, but one of them is not of the first four."""
    planned = CLAIM | {"seeds": 8, "looks": 2}
    rows = mng_table([10.0, 10.5, 9.5, 10.1, 10.2], [20.0, 20.5, 19.5, 20.1, 20.2])
    waiting = [row | {"status": "running"} if (row["arm"], row["seed"]) == ("none", 3) else row for row in rows]
    write_results(tmp_path, "mng", waiting, claim=planned)
    one = judged("mng", planned, tmp_path, "mini")
    assert one.verdict == "undecided"
    assert one.outcomes[0].told.endswith("; of 4 planned seeds ended none: 3")
    write_results(tmp_path, "mng", rows, claim=planned)
    assert judged("mng", planned, tmp_path, "mini").verdict == "confirmed"


def test_holm_spans_the_claims_of_a_family() -> None:
    """By hand, twelve claims with nano's base, of which four can be equivalent. 12 x 0.001; 11 x 0.008 is not enough.

    An equivalence takes no rank from the differences (4 x 0.001 by itself), and one that is clear stays where the difference
    beside it is not enough. Another family is left alone.
    """
    family: dict[str, tuple[str, dict[str, Any]]] = {
        claim["id"]: (sweep, claim) for sweep, claim in claims("nano") if claim.get("family") == "base"
    }
    other = next((sweep, claim) for sweep, claim in claims("nano") if claim["id"] == "decoupled")
    assert len(family) == 12
    given = [
        Judged(*family["repa"], "refuted", [], "", levels=Levels(1.0, 0.008)),
        Judged(*family["mng"], "confirmed", [], "", levels=Levels(0.001)),
        Judged(*family["patch_size"], "undecided", [], "", levels=Levels(0.2)),
        Judged(*family["consistency"], "equivalent", [], "", levels=Levels(0.9, 0.4, 0.001)),
        Judged(*family["noise_nesting"], "confirmed", [], "", levels=Levels(0.019, 1.0, 1e-9)),
        Judged(*family["logit_centering"], "equivalent", [], "", levels=Levels(0.9, 0.4, 0.03)),
        Judged(*other, "confirmed", [], "", levels=Levels(0.04)),
    ]
    found = corrected(given, "nano")
    assert [one.verdict for one in found] == [
        *("undecided", "confirmed", "undecided", "equivalent", "equivalent", "undecided", "confirmed")
    ]
    by_holm = "claims that share its control"
    assert found[0].notes == [f"refuted at p 0.088 by Holm over 12 {by_holm}: not enough"]
    assert found[1].notes == [f"confirmed at p 0.012 by Holm over 12 {by_holm}"]
    assert found[3].notes == [f"equivalent at p 0.003 by Holm over 4 {by_holm}"]
    assert found[4].notes[-1] == f"equivalent at p 4e-09 by Holm over 4 {by_holm}"
    assert found[5].notes == [f"equivalent at p 0.06 by Holm over 4 {by_holm}: not enough"]
    assert [found[2], found[6]] == [given[2], given[6]]


def test_tests_without_p_values_do_not_shield_a_claim_from_holm() -> None:
    """Divergence beside an order: the order's p-value counts; a refutation by divergence alone needs no correction."""
    sweep, claim = next(one for one in claims("nano") if one[1]["id"] == "lr_crosscheck")
    compared = Outcome(HOLDS, "", Levels(0.03))
    found, levels = verdict(claim["rule"], [Outcome(HOLDS, ""), Outcome(HOLDS, ""), compared], 0.05)
    (one,) = corrected([Judged(sweep, claim, found, [], "", levels=levels)], "nano")
    assert (found, one.verdict) == ("confirmed", "undecided")
    found, levels = verdict(claim["rule"], [Outcome(FAILS, ""), Outcome(HOLDS, ""), compared], 0.05)
    (one,) = corrected([Judged(sweep, claim, found, [], "", levels=levels)], "nano")
    assert (found, one.verdict) == ("refuted", "refuted")
    for behind in (0.02, 1.0):  # an order that speaks against it too cannot save it
        ends = [Outcome(FAILS, ""), Outcome(HOLDS, ""), Outcome(FAILS, "", Levels(1.0, behind))]
        found, levels = verdict(claim["rule"], ends, 0.05)
        (one,) = corrected([Judged(sweep, claim, found, ends, "", levels=levels)], "nano")
        assert (found, one.verdict) == ("refuted", "refuted")


def test_what_was_left_open_does_not_become_equivalent() -> None:
    """A bound beside it is open, or seeds are missing: the arms' likeness alone is not the claim."""
    sweep, claim = next(one for one in claims("nano") if one[1]["id"] == "consistency")
    open_one = Judged(sweep, claim, "undecided", [], "", levels=Levels(0.9, 0.4, 1e-6))
    assert corrected([open_one], "nano") == [open_one]


def test_an_old_head_without_a_family_is_corrected_too() -> None:
    sweep, claim = next(one for one in claims("nano") if one[1]["id"] == "repa")
    old = {key: value for key, value in claim.items() if key != "family"}
    (one,) = corrected([Judged(sweep, old, "confirmed", [], "", levels=Levels(0.02))], "nano")
    assert one.verdict == "undecided"


@pytest.mark.parametrize("head", [{"confidence": 95}, {"rule": [{"kind": "new"}]}])
def test_a_head_that_cannot_be_applied_is_told(tmp_path: Path, head: dict[str, Any]) -> None:
    write_results(tmp_path, "mng", mng_table(A, B), claim=CLAIM | head)
    write_results(tmp_path, "repa", [row | {"protocol": "abc"} for row in runs("aligned", A) + runs("not_aligned", B)])
    found = {one.claim["id"]: one for one in all_judged(tmp_path, "mini")}
    assert found["mng"].verdict == "not judged"
    assert "mng.json: its claim cannot be applied" in found["mng"].notes[0]
    assert found["repa"].verdict != "not judged"


def test_a_head_reads_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    write_results(tmp_path, "mng", mng_table(A, B), claim=CLAIM | {"sentence": "${oc.env:HF_TOKEN}"})
    found = all_judged(tmp_path, "mini")
    assert (
        "holds the interpolation '${oc.env:HF_TOKEN}'"
        in next(one for one in found if one.claim["id"] == "mng").notes[0]
    )
    assert "hf_secret" not in document("mini", found)


def test_a_head_that_is_not_whole_is_told(tmp_path: Path) -> None:
    """The verdicts are written anyway, and name the missing field and the remedy."""
    head = {key: value for key, value in CLAIM.items() if key not in ("paper", "confirms")}
    write_results(tmp_path, "mng", mng_table(A, B), claim=head)
    found = {one.claim["id"]: one for one in all_judged(tmp_path, "mini")}
    lacking = "mng.json: claim mng lacks paper, confirms: python experiments/collect.py sweep=mng study=mini"
    assert found["mng"].verdict == "not judged"
    assert found["mng"].notes[0].endswith(lacking)
    assert lacking in document("mini", list(found.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper": None, "confirms": None}, "own.yaml: claim mng lacks paper, confirms: see sweeps/README.md"),
        ({"id": None}, "own.yaml: claim None lacks id"),
        ({"seeds": "many"}, "own.yaml: claim mng has an invalid seeds .*many.*: see sweeps/README.md"),
        ({"colour": "red"}, "own.yaml: claim mng has an invalid colour .*: see sweeps/README.md"),
        (
            {"paper": [{"what": "FID", "source": "v1"}]},
            "paper has {'what': 'FID', 'source': 'v1'}: give each about, source, ",
        ),
    ],
)
def test_a_sweep_s_own_head_that_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    head = {key: value for key, value in (CLAIM | change).items() if value is not None}
    (tmp_path / "own.yaml").write_text(json.dumps({"name": "own", "claim": head}))
    monkeypatch.setattr("analysis.judging.SWEEPS", tmp_path)
    with pytest.raises(UserError, match=message):
        claims.__wrapped__("mini")


def test_a_study_that_plans_nothing_still_has_claims() -> None:
    assert len(claims("none")) == len(claims("nano"))


def test_failed_runs_stay_visible(tmp_path: Path) -> None:
    failed = [row | {"status": "failed"} if row["arm"] == "none" else row for row in mng_table(A, B)]
    write_results(tmp_path, "mng", failed)
    one = judged("mng", CLAIM, tmp_path, "mini")
    assert (one.verdict, one.outcomes[0].told) == ("partly run", "no ended run of none (3 failed)")
    text = "\n".join(table_of(all_judged(tmp_path, "mini"), "mini"))
    assert "no ended run of none (3 failed)" in text


def test_a_claim_that_cannot_be_judged_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    write_results(tmp_path, "mng", mng_table(A, B))
    (tmp_path / "mini" / "repa.csv").write_text("damaged")
    with pytest.raises(
        UserError, match=r"verdicts\.md is written, but claims could not be judged: .*repa\.csv: not a whole"
    ):
        judge({"results": str(tmp_path)})
    text = (tmp_path / "mini" / "verdicts.md").read_text()
    assert "| **confirmed** |" in text
    assert "| **not judged** |" in text


def test_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="holds no table of a sweep: run a sweep, then python experiments/collect.py study=mini"
    ):
        judge({"results": str(tmp_path)})
    assert not (tmp_path / "mini").exists()


@pytest.mark.parametrize("head", ["{", json.dumps({"study": "mini"})])
def test_damaged_tables(tmp_path: Path, head: str) -> None:
    write_results(tmp_path, "mng", mng_table(A, B))
    (tmp_path / "mini" / "mng.json").write_text(head)
    with pytest.raises(UserError, match=r"mng\.csv: not a whole table"):
        judged("mng", CLAIM, tmp_path, "mini")


def test_mixed_protocols(tmp_path: Path) -> None:
    write_results(tmp_path, "mng", [row | {"protocol": row["arm"]} for row in mng_table(A, B)])
    with pytest.raises(UserError, match="has distances of 5 protocols, which are not comparable"):
        judged("mng", CLAIM, tmp_path, "mini")


def test_any_seeds_count_and_no_more_than_planned(tmp_path: Path) -> None:
    """Seeds 10 to 12 are judged as 0 to 2 would be; a fourth, added later, would reverse the order and is ignored."""
    rows = [row | {"seed": row["seed"] + 10} for row in mng_table([10.0, 10.5, 9.5, 900.0], [20.0, 20.5, 19.5, 1.0])]
    write_results(tmp_path, "mng", rows, claim=CLAIM)
    one = judged("mng", CLAIM, tmp_path, "mini")
    assert (CLAIM["seeds"], one.verdict, one.seeds) == (3, "confirmed", "3 of 3")
