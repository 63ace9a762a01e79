"""Names of numbers, and that none is stored without its protocol."""

import json
from pathlib import Path

import numpy as np
import pytest

from gat.evaluation.intervals import by_bootstrap
from gat.evaluation.numbers import Number, needs_protocol, number_name
from gat.evaluation.protocol import from_record
from gat.training.results import read_metrics, read_protocols
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
    assert needs_protocol(expected)


@pytest.mark.parametrize("name", ["d_loss", "images_per_s", "step", "lr_g", "sample_rms"])
def test_metrics_of_training_need_none(name: str) -> None:
    assert not needs_protocol(name)


def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(compose_config(f"paths.run={tmp_path}"))
    made.path.mkdir(exist_ok=True)
    return made


def test_a_number_is_stored_with_its_protocol(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.append_metrics({"step": 1, "d_loss": 0.5})
    run.append_metrics({"step": 2}, [Number("FID-5K", 12.5, ONE)])
    first, second = read_metrics(tmp_path)
    assert first == {"step": 1, "d_loss": 0.5}
    assert second == {"step": 2, "FID-5K": 12.5, "protocol": {"FID-5K": ONE.id}}
    assert from_record(read_protocols(tmp_path)[ONE.id]) == ONE


def test_a_number_without_its_protocol_is_not_stored(tmp_path: Path) -> None:
    for name in ("FID-50K", "FD-EfficientNetLite0-1K", "precision-1K", "class_accuracy", "FID-5K-reconstruction"):
        with pytest.raises(ValueError, match=f"{name} cannot be stored without its protocol"):
            folder(tmp_path).append_metrics({"step": 1, name: 2.0})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_record_of_a_number() -> None:
    estimate = by_bootstrap(12.5, np.arange(1.0, 6.0))
    record = json.loads(json.dumps(Number("FID-5K", 12.5, ONE, estimate).as_record()))
    assert record["value"] == 12.5
    assert record["interval"][0] < 12.5 < record["interval"][1]
    assert record["confidence"] == 0.95
    assert record["interval_by"].startswith("bootstrap over samples")
    assert record["protocol"]["id"] == ONE.id
