"""The paper's numbers: the same as in the sweeps' heads, and beside ours only where protocol and data are."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis import paper as of_paper
from analysis.judging import claims
from analysis.paper import FILE, PaperNumber, curves, curves_beside, number, numbers, read_paper
from analysis.tables import read_table
from gat.errors import UserError
from gat.evaluation.protocol import INCEPTION, Protocol
from tests.made_up import PROTOCOL, run_rows, write_results

RULES = {"decoder": "own", "truncation": 0.0, "to_uint8": "rounded", "reference": "file", "image_px": 256}
TRAINING = Protocol(samples=5000, covariance="N", labels="uniform", extractor=f"{INCEPTION}@01", **RULES)  # type: ignore[arg-type]
CORRECTED = Protocol(samples=50000, covariance="N-1", labels="balanced", extractor=f"{INCEPTION}@01", **RULES)  # type: ignore[arg-type]


@pytest.mark.parametrize("claim", [claim for _, claim in claims()], ids=lambda claim: str(claim["id"]))
def test_the_heads_of_sweeps_say_the_same(claim: dict[str, Any]) -> None:
    for one in claim["paper"]:
        assert PaperNumber(claim["id"], **one) in numbers()


def test_numbers_of_curves_stand_among_the_numbers() -> None:
    """Printed labels at 50K: in the curves' tables, in the claims, and in panel (c)."""
    content, table = read_paper(), yaml.safe_load(FILE.read_text())["compute"]
    last = {(c.metric, c.model): c.values[-1] for c in content.curves if c.steps[-1] == 50_000}
    for model in ("S/2", "B/2", "L/2", "XL/2"):
        assert number("model_size", f"FID-50K of {model}") == last["FID-50K", model]
    for model in ("S/2", "B/2", "S/4", "B/4"):
        assert number("patch_size", f"FID-5K of {model}") == last["FID-5K", model]
    for metric, model in last:
        if metric == "FID-50K":
            assert table["values"][model] == last[metric, model]
    for model in table["about"]:
        assert number("gflops", f"FID-50K of {model}") == table["values"][model]
    assert table["values"].keys() == table["gflops"].keys()


def test_the_law_gives_the_printed_label_of_xl() -> None:
    law, images = read_paper().law, 50_000 * 512
    assert law.exponent == number("gflops", "exponent")
    assert law.coefficient * (11.5 * 238 * images) ** law.exponent == pytest.approx(4.0, abs=0.05)


def test_images_of_a_curve() -> None:
    ((_, curve), *_) = curves("model_size")
    assert (curve.model, curve.values[0], curve.images[0]) == ("S/2", 50.0, 10_000 * 512)


def test_arms_of_curves_exist_and_have_their_size() -> None:
    sweeps = {sweep for sweep, _ in claims()}
    for sweep, arms in read_paper().arms.items():
        assert sweep in sweeps
        assert curves(sweep), sweep
        for arm, model in arms.items():
            if "size=" in arm:
                assert arm.split("size=")[1].split(",")[0] == model.split("/")[0]


@pytest.mark.parametrize(
    ("protocol", "study", "models"),
    [
        (TRAINING, "imagenet256", ["S/2", "B/2"]),
        (CORRECTED, "imagenet256", []),  # how FID-50K of the curves was measured is not stated
        (PROTOCOL, "imagenet256", []),
        (TRAINING, "cifar10", []),
    ],
)
def test_curves_stand_beside_equal_protocols_alone(
    tmp_path: Path, protocol: Protocol, study: str, models: list[str]
) -> None:
    rows = [row | {"protocol": protocol.id} for row in run_rows("S", 0, {1: 50.0}) + run_rows("B", 0, {1: 40.0})]
    write_results(tmp_path, "lr_crosscheck", rows, study=study, protocol=protocol)
    beside = curves_beside(read_table(tmp_path, study, "lr_crosscheck"))
    assert [curve.model for _, curve in beside] == models
    assert {curve.metric for _, curve in beside} <= {"FID-5K"}


def test_a_table_without_distances_has_none_beside_it(tmp_path: Path) -> None:
    write_results(tmp_path, "lr_crosscheck", run_rows("S", 0, {}, diverged_step=1), study="imagenet256", protocols={})
    assert curves_beside(read_table(tmp_path, "imagenet256", "lr_crosscheck")) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("law: {coefficient: 352000.0, ", "law: {", "coefficient"),
        ("[53.5, 33.5, 28.0, 24.7, 22.1]", "[53.5]", "curve S/2 has 1 values for 5 steps"),
        ("value: 15.2, ", "value: fifteen, ", "fifteen"),
        ("numbers:", "numbers: [", "restore"),
    ],
)
def test_a_damaged_file(tmp_path: Path, before: str, after: str, told: str) -> None:
    text = FILE.read_text()
    assert before in text
    (tmp_path / "paper.yaml").write_text(text.replace(before, after))
    with pytest.raises(UserError, match=told):
        read_paper(tmp_path / "paper.yaml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml"):
        read_paper(tmp_path / "none.yaml")


def test_a_number_that_there_is_not() -> None:
    with pytest.raises(KeyError, match="0 numbers"):
        of_paper.number("mng", "age of the captain")
