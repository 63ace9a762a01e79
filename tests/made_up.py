"""Made-up tables of results, as experiments/collect.py writes them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.judging import claims
from gat.evaluation.protocol import Protocol
from gat.numerics import NUMERICS

PROTOCOL = Protocol(
    samples=2000,
    decoder="own",
    truncation=0.0,
    to_uint8="rounded",
    covariance="N-1",
    labels="uniform",
    extractor="efficientnet-lite0@0123456789ab",
    reference="made-up",
    image_px=32,
)


def claim_of(sweep: str) -> dict[str, Any]:
    """The claim of a sweep's file as of study mini, planned with three seeds and looked at once."""
    found = next(claim for name, claim in claims("mini") if name == sweep and "diagnostic" not in claim)
    return found | {"seeds": 3, "looks": 1}


def run_rows(
    arm: str, seed: int, curve: dict[int, float], *, diverged_step: int | None = None, batch: int = 64, **columns: Any
) -> list[dict[str, Any]]:
    """Rows of one run: its distance by step; ``diverged_step``: it diverged there, after the last of them."""
    status = "finished" if diverged_step is None else "diverged"
    last = max(curve) if curve else None
    head = {"study": "mini", "sweep": "made_up", "arm": arm, "seed": seed, "status": status, "batch_size": batch}
    tail = {"diverged_step": diverged_step, "distance_name": "FD-EfficientNetLite0-2K", "protocol": PROTOCOL.id}
    rows = [
        head
        | {"step": step, "images": step * batch, "distance": value, "end": status == "finished" and step == last}
        | tail
        | columns
        for step, value in curve.items()
    ]
    gone = {"step": diverged_step, "images": (diverged_step or 0) * batch, "end": False}
    return rows or [head | gone | tail | {"distance": None, "protocol": None} | columns]


def write_results(
    results: Path,
    sweep: str,
    rows: Iterable[dict[str, Any]],
    *,
    study: str = "mini",
    missing: Iterable[str] = (),
    diagnostic: str | None = None,
    protocol: Protocol = PROTOCOL,
    **head: Any,
) -> Path:
    """Write a table and the JSON beside it; the table's file. ``head``: more keys of the JSON, e.g. another ``claim``."""
    file = results / study / f"{sweep if diagnostic is None else f'{sweep}-{diagnostic}'}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row | {"study": study, "sweep": sweep} for row in rows]).to_csv(file, index=False)
    beside: dict[str, Any] = {
        "study": study,
        "sweep": sweep,
        "claim": None if "claim" in head else claim_of(sweep),
        "claim_changed": False,
        "submissions": [],
        "missing": list(missing),
        "protocols": {protocol.id: protocol.as_record()},
        "numerics": NUMERICS,
    }
    named = {} if diagnostic is None else {"diagnostic": diagnostic}
    file.with_suffix(".json").write_text(json.dumps(beside | named | head))
    return file
