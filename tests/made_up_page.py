"""Made-up results of every kind that the page about all studies shows."""

import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from analysis.evidence import HOLDS, Outcome
from analysis.judging import Judged
from analysis.report import write_report
from analysis.style import TABLES, checksum
from tests.made_up import claim_of, run_rows, write_results

ODD = "a<b> & \"c\" 'd'"
PAPER_COMMIT = "0123456789abcdef"
REMARK = "rule of another day"
CURVE = {500: 90.0, 1000: 50.25}
BODY = "tbody tr"


def facts(run: str, **columns: Any) -> dict[str, Any]:
    """What a record says of a run of a quarter of an hour."""
    own = {"run": run, "seconds": 900.0, "processes": 1, "git_commit": PAPER_COMMIT, "git_dirty": False}
    more = {"hardware": "made-up CPU", "ended_at": "2025-11-20T23:30:00+00:00", "size": "S", "mng_schedule": "linear"}
    return own | more | {"patch": 2, "lr_g": 4e-4, "total_steps": 1000, "truncation": 0.0} | columns


def save_png(file: Path, size: tuple[int, int] = (40, 30), *sources: Path) -> None:
    """``sources``: files that it says it was drawn from, in the folder above its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = PngImagePlugin.PngInfo()
    told.add_text(TABLES, json.dumps({source.name: checksum(source) for source in sources}))
    Image.new("RGB", size, "teal").save(file, pnginfo=told if sources else None)


def judged(sweep: str, verdict: str, number: int, notes: tuple[str, ...] = (), **claim: Any) -> Judged:
    stated = claim_of("mng") | {"id": sweep} | claim
    outcomes = [] if verdict == "not run" else [Outcome(HOLDS, f"difference {number}")] * len(stated["rule"])
    return Judged(sweep, stated, verdict, outcomes, f"{number} of 12", list(notes))


def write_all(results: Path) -> Path:
    """Two sweeps that share a run, one with odd names, and claims of every verdict."""
    shared = facts("shared", seconds=1800.0, processes=4, ended_at="2025-11-22T01:00:00+00:00")
    plain = run_rows("plain", 0, CURVE, **shared)
    many = [row for seed in (9, 10) for row in run_rows("many", seed, {1000: 9.0 + seed}, **facts(f"many{seed}"))]
    gone = run_rows("many", 2, {}, diverged_step=31, detail="not finite", **facts("gone", git_dirty=True))
    failed = {"arm": "many", "seed": 3, "status": "failed", "detail": ODD, "run": "failed"}
    write_results(results, "mng", [*plain, *many, *gone, failed], missing=["many, seed 3"], claim_changed=True)
    again = run_rows(ODD, 0, CURVE, **shared)
    write_results(results, "repa", again, claim=None)
    write_results(results, "mng", many, diagnostic="layers")
    (results / "demo").mkdir()
    (results / "demo" / "record.json").write_text('{"sweep": "demo"}')
    save_png(results / "mini" / "figures" / "mng.png", (400, 100), results / "mini" / "mng.csv")
    save_png(results / "mini" / "figures" / "quo'ted.png")
    save_png(results / "mini" / "figures" / "scaling.png", (50, 50))
    for name in ("mng-plain-samples", "repa-stages", "walk"):
        save_png(results / "mini" / "pictures" / f"{name}.png")
    claims = [
        judged("lr_grid", "not run", 0),
        judged("repa", "undecided", 9, sentence=ODD),
        judged("model_size", "refuted", 10),
        judged("mng", "confirmed", 11),
        judged("mng", "undecided", 12, (REMARK,), id="layer_use", sentence="Blocks.", diagnostic="layer_lpips"),
    ]
    captions = {"mng": f"caption of {ODD}", "quo'ted": "another"}
    return write_report(results, {"mini": claims, "cifar10": []}, captions)
