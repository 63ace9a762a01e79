"""A whole study made up: every sweep's table and diagnostics, with numbers that behave as the paper says."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from analysis.tables import picture_name
from tests.golden.update import GOLDEN
from tests.made_up import run_rows, write_results

SEEDS = 3
WIDTHS = {"S": 64, "B": 128, "L": 192, "XL": 256}
STEPS = (250, 500, 750, 1000, 1250, 1500)
PATCHES = {1: 5.0, 2: 1.0, 4: 0.3}
BLOCKS = 8


def arms_of(sweep: str) -> dict[str, dict[str, Any]]:
    """Arms with the settings that they change."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((GOLDEN / "mini" / f"{sweep}.yaml").read_text())
    return found


def columns_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Of a table, as far as figures look at them."""
    size, patch = settings.get("model.size", "S"), settings.get("model.patch", 2)
    width, multiple = WIDTHS[size], settings.get("optim.lr_multiple", 1.0)
    rate = multiple * 2e-4 * 768 / WIDTHS[settings.get("optim.lr_width_of") or size]
    gflops = 0.01 * (width / 64) ** 2 * PATCHES[patch]
    sizes = {"size": size, "discriminator_size": settings.get("model.discriminator_size") or size, "patch": patch}
    return sizes | {
        "generator_width": width,
        "discriminator_width": WIDTHS[sizes["discriminator_size"]],
        "generator_gflops": gflops,
        "lr_g": rate,
        "lr_multiple": multiple,
        "g_output_change": rate * width / 50,
        "d_output_change": rate * width / 30,
        "seconds": 800.0,
        "processes": 1,
        "hardware": "AMD EPYC",
        "git_commit": "c0ffee0",
        "git_dirty": False,
        "reconstruction_distance": 20.0 + width / 64,
    }


def level_of(sweep: str, arm: str, columns: dict[str, Any]) -> float:
    """Of the distance at the end."""
    worse = {"none": 1.5, "linear": 1.1, "msg": 1.9, "not_aligned": 1.6}.get(arm, 1.0)
    larger_d = WIDTHS[columns["discriminator_size"]] / columns["generator_width"]
    rate = abs(np.log2(columns["lr_multiple"])) if sweep == "lr_grid" else 0.0
    return float(500 * worse * columns["generator_gflops"] ** -0.3 * larger_d**-0.2 * (1 + 0.1 * rate))


def lost_rows(sweep: str) -> list[dict[str, Any]]:
    """Every run of a sweep, all diverged before their first evaluation."""
    return [
        row | {"training_gflops": 1.0, "g_output_change": None, "d_output_change": None}
        for arm, settings in arms_of(sweep).items()
        for seed in range(SEEDS)
        for row in run_rows(arm, seed, {}, diverged_step=10, **columns_of(settings))
    ]


def sweep_rows(sweep: str) -> list[dict[str, Any]]:
    """Every run of a sweep; rates above six times the rule's, and B at S's rate, diverge."""
    noise = np.random.default_rng(0)
    rows = []
    for arm, settings in arms_of(sweep).items():
        columns = columns_of(settings)
        level = level_of(sweep, arm, columns)
        gone = (sweep == "lr_grid" and columns["lr_multiple"] > 6) or arm in ("B_at_rate_of_S", "XL_at_rate_of_S")
        for seed in range(SEEDS):
            factor = float(np.exp(0.04 * noise.normal()))
            curve = {step: level * factor * (1500 / step) ** 0.4 for step in STEPS if not (gone and step > 500)}
            own = columns | {"g_output_change": columns["g_output_change"] * factor, "run": f"{sweep}-{arm}-{seed}"}
            made = run_rows(arm, seed, curve, diverged_step=560 if gone else None, **own)
            rows += [row | {"training_gflops": 5 * 64 * row["step"] * columns["generator_gflops"]} for row in made]
    return rows


def diagnostic_rows(sweep: str, name: str) -> list[dict[str, Any]]:
    """Of layer_lpips, cknna, pca_features or interpolation."""
    noise = np.random.default_rng(1)
    rows = []
    for arm in arms_of(sweep):
        low = arm in ("none", "not_aligned")
        for seed in range(SEEDS):
            for step in STEPS if name in ("layer_lpips", "cknna") else STEPS[-1:]:
                head: dict[str, Any] = {
                    "arm": arm,
                    "seed": seed,
                    "status": "finished",
                    "step": step,
                    "end": step == STEPS[-1],
                }
                for block in range(BLOCKS):
                    value = (0.2 if low and block < BLOCKS // 2 else 0.7) + 0.02 * noise.normal()
                    of_block: dict[str, Any] = {
                        "block": block,
                        "of_largest": 1.0 if block == BLOCKS - 1 else value,
                        "share": value / 6,
                    }
                    aligned = {"block": block, "real": 0.2 * value * step / 1500, "fake": 0.25 * value * step / 1500}
                    path = {"kind": "within", "largest_step_share": 0.1 * value, "straightness": value}
                    features = {"layer": f"block_{block}", "colour": "red", "variance_of_sample_share": 0.9 * value}
                    of_all = {"layer_lpips": of_block, "cknna": aligned, "interpolation": path}
                    rows.append(head | (of_all | {"pca_features": features})[name])
    return rows


def lost_diagnostic_rows(sweep: str) -> list[dict[str, Any]]:
    """Of any diagnostic where every run diverged: runs without numbers."""
    return [{"arm": arm, "seed": seed, "status": "diverged"} for arm in arms_of(sweep) for seed in range(SEEDS)]


DIAGNOSED = (
    ("mng", "layer_lpips"),
    ("mng", "pca_features"),
    ("mng", "interpolation"),
    ("repa", "cknna"),
    ("model_size", "cknna"),
)


def write_study(results: Path, *, lost: bool = False) -> None:
    """Tables and pictures of every sweep; ``lost``: every run diverged."""
    for file in sorted((GOLDEN / "mini").glob("*.yaml")):
        if file.stem not in ("base", "seed_noise"):  # which has no claim, and figures of its own
            write_results(results, file.stem, (lost_rows if lost else sweep_rows)(file.stem))
    beside: dict[str, Any] = {"claim": None, "protocols": {}}
    beside |= {
        "settings": {"distance": "efficientnet-lite0", "teacher": "efficientnet-lite0", "alignment_samples": 1000}
    }
    for sweep, name in DIAGNOSED:
        rows = lost_diagnostic_rows(sweep) if lost else diagnostic_rows(sweep, name)
        write_results(results, sweep, rows, diagnostic=name, **beside)
    for sweep, name in (
        ("mng", "pca_features"),
        ("mng", "interpolation"),
        ("mng", "samples"),
        ("model_size", "samples"),
    ):
        for i, arm in enumerate(arms_of(sweep)):
            file = results / "mini" / "pictures" / picture_name(sweep, name, arm)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300, 80), (40 * i, 120, 200)).save(file)
