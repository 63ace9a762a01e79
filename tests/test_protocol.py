"""Protocols: the authors' two, ours, and that numbers of different ones are not put side by side."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gat.errors import UserError
from gat.evaluation.protocol import Protocol, check_rules, from_record, require_same
from tests.conftest import compose_config

ONE = Protocol(
    samples=5000,
    decoder="own",
    truncation=0.0,
    to_uint8="rounded",
    covariance="N",
    labels="uniform",
    extractor="inception-v3-compat@0123456789ab",
    reference="file@0123456789ab",
    image_px=256,
)

# The table of the two protocols, as the authors' code has them.
AUTHORS: dict[str, dict[str, Any]] = {
    "training": {"samples": 5000, "truncation": 0.0, "to_uint8": "rounded", "covariance": "N", "labels": "uniform"},
    "paper": {"samples": 50000, "truncation": 0.3, "to_uint8": "truncated", "covariance": "N-1", "labels": "uniform"},
}


@pytest.mark.parametrize("name", ["training", "paper", "corrected"])
def test_named_configurations_are_the_protocols_of_that_name(name: str) -> None:
    config = compose_config(f"evaluation={name}").evaluation
    rules = {f.name: getattr(config, f.name) for f in fields(Protocol) if hasattr(config, f.name)}
    used = f"{Path(config.decoder).name}@0123456789ab" if config.decoder else "own"
    protocol = replace(ONE, **rules | {"decoder": used, "extractor": ONE.extractor, "reference": "x"})
    assert protocol.name == name
    assert config.extractor == "inception-v3-compat"
    for field, value in AUTHORS.get(name, {}).items():
        assert getattr(config, field) == value
    assert (config.decoder == "stabilityai/sd-vae-ft-ema") == (name == "paper")


def test_a_changed_rule_loses_the_name() -> None:
    assert ONE.name == "training"
    assert replace(ONE, truncation=0.3).name == "own"
    assert replace(ONE, reference="other", image_px=32).name == "training"
    assert replace(ONE, extractor="efficientnet-lite0@0123456789ab").name == "own"  # not the authors' features


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", 50000), ("decoder", "x"), ("truncation", 0.3), ("to_uint8", "truncated"), ("covariance", "N-1"),
        ("labels", "balanced"), ("extractor", "inception-v3-compat@ab"), ("reference", "file@ab"), ("image_px", 512),
    ],
)  # fmt: skip
def test_every_field_counts(field: str, value: Any) -> None:
    other = replace(ONE, **{field: value})
    assert other.id != ONE.id
    with pytest.raises(
        UserError, match=rf"figure 1: numbers of different protocols are not comparable \({field} .*{value!r}\)"
    ):
        require_same([ONE, ONE, other], "figure 1")


def test_all_fields_are_tried_above() -> None:
    assert len(fields(Protocol)) == 9


def test_equal_protocols_stand_together() -> None:
    assert require_same([ONE, replace(ONE)], "here") == ONE
    assert require_same([], "here") is None


def test_record_and_back() -> None:
    record = ONE.as_record()
    assert record["name"] == "training"
    assert from_record(record) == ONE
    with pytest.raises(UserError, match="a record's protocol was altered"):
        from_record(record | {"truncation": 0.5})
    with pytest.raises(UserError, match="a record's protocol lacks 'decoder'"):
        from_record({key: value for key, value in record.items() if key != "decoder"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to_uint8": "floor"}, "evaluation.to_uint8='floor' is unknown: choose one of rounded, truncated"),
        ({"covariance": "n"}, "evaluation.covariance='n' is unknown: choose one of N, N-1"),
        ({"labels": "all"}, "evaluation.labels='all' is unknown: choose one of uniform, balanced"),
        ({"samples": 1}, "evaluation.samples=1: one sample has no covariance"),
    ],
)
def test_rules_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_rules(replace(compose_config().evaluation, **changes))
