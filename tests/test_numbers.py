"""Names of numbers, and that none is stored without its protocol."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gat.evaluation.intervals import by_bootstrap
from gat.evaluation.kinds import KINDS, number_name
from gat.evaluation.numbers import Number
from gat.evaluation.protocol import from_record
from gat.training.results import number_of_kind, read_metrics, read_protocols
from gat.training.run_folder import RunFolder
from tests.conftest import compose_config
from tests.test_protocol import ONE


@pytest.mark.parametrize(
    ("kind", "extractor", "samples", "expected"),
    [
        ("frechet", "inception-v3-compat", 50_000, "FID-50K"),
        ("frechet", "inception-v3-compat", 2_500, "FID-2500"),
        ("frechet", "efficientnet-lite0", 1_000, "FD-EfficientNetLite0-1K"),
        ("frechet", "efficientnet-lite0", 64, "FD-EfficientNetLite0-64"),
        ("frechet", "clip-vit-b-32", 50_000, "CLIP-FID-50K"),
        ("frechet", "dinov2-vit-l-14", 50_000, "FD-DINOv2-50K"),
        ("frechet", "vgg16", 5_000, "FD-vgg16-5K"),
        ("kid", "inception-v3-compat", 5_000, "KID-5K"),
        ("kid", "efficientnet-lite0", 5_000, "KID-EfficientNetLite0-5K"),
        ("inception_score", "inception-v3-compat", 50_000, "IS-50K"),
        ("recall", "efficientnet-lite0", 2_000, "recall-EfficientNetLite0-2K"),
    ],
)
def test_names(kind: str, extractor: str, samples: int, expected: str) -> None:
    assert number_name(kind, extractor, samples) == expected


def test_a_number_knows_its_name() -> None:
    named = replace(ONE, extractor="inception-v3-compat@0123456789ab", samples=5000)
    assert [Number(kind, 1.0, named).name for kind in KINDS] == [
        *("FID-5K", "FID-5K-reconstruction", "KID-5K", "IS-5K", "precision-5K", "recall-5K"),
        *("class_accuracy", "class_accuracy_real_held_out"),
    ]


def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(compose_config(f"paths.run={tmp_path}"))
    made.path.mkdir(exist_ok=True)
    return made


def test_a_number_is_stored_with_its_protocol(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.append_metrics({"step": 1, "d_loss": 0.5})
    number = Number("frechet", 12.5, ONE)
    run.append_metrics({"step": 2}, [number])
    first, second = read_metrics(tmp_path)
    assert first == {"step": 1, "d_loss": 0.5}
    kept = {"kind": "frechet", "value": 12.5, "protocol": ONE.id}
    assert second == {"step": 2, "evaluations": {run.evaluation: {number.name: kept}}}
    assert from_record(read_protocols(tmp_path)[ONE.id]) == ONE


def test_a_further_evaluation_goes_into_the_same_line(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.append_metrics({"step": 1}, [Number("frechet", 12.5, ONE)])
    run.append_metrics({"step": 2}, [Number("frechet", 11.5, ONE)])
    other = RunFolder(compose_config(f"paths.run={tmp_path}", "evaluation.truncation=0.5"))
    assert other.identity == run.identity
    assert other.evaluation != run.evaluation
    other.add_numbers(2, [Number("frechet", 9.0, replace(ONE, truncation=0.5))])
    lines = read_metrics(tmp_path)
    assert [list(line["evaluations"]) for line in lines] == [[run.evaluation], [run.evaluation, other.evaluation]]
    values = [
        number_of_kind(line, "frechet", evaluation)
        for line in lines
        for evaluation in (run.evaluation, other.evaluation)
    ]
    assert [found and found[1]["value"] for found in values] == [12.5, None, 11.5, 9.0]
    assert len(read_protocols(tmp_path)) == 2


def test_record_of_a_number() -> None:
    estimate = by_bootstrap(12.5, np.arange(1.0, 6.0))
    record = json.loads(json.dumps(Number("frechet", 12.5, ONE, estimate).as_record()))
    assert (record["kind"], record["value"]) == ("frechet", 12.5)
    assert record["interval"][0] < 12.5 < record["interval"][1]
    assert record["confidence"] == 0.95
    assert record["interval_by"].startswith("bootstrap over samples")
    assert record["protocol"]["id"] == ONE.id
