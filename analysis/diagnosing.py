"""Diagnostics of one run: what there is to measure, what is known already, and how a result is kept.

A result lies in the run's ``analysis/diagnosed-DIAGNOSTIC-CHECKPOINT.json``, with its settings, so that a second start
measures only what is new; its picture, if it has one, beside it.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.command import REMEDY, circumstances
from analysis.diagnostics import DIAGNOSTICS, SEED, Tools
from analysis.opening import Opened, opened
from experiments.settings import DiagnosticsConfig
from gat.checkpoint_file import checkpoints_in
from gat.errors import UserError
from gat.files import told, write_json
from gat.training.results import any_record


@dataclass(frozen=True)
class Work:
    """A diagnostic of a run's checkpoint: where its result is kept, and under which settings."""

    diagnostic: str
    checkpoint: Path
    file: Path
    settings: dict[str, Any]

    @property
    def picture(self) -> Path:
        """Beside the result."""
        return self.file.with_suffix(".png")

    @property
    def step(self) -> int:
        """Of the checkpoint."""
        return int(self.checkpoint.stem.removeprefix("step-"))

    def known(self) -> dict[str, Any] | None:
        """Return the stored result; None if it is missing, damaged or of other settings."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            return dict(found) if DIAGNOSTICS[self.diagnostic].kept and found["settings"] == self.settings else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


Result = tuple[Work, dict[str, Any] | UserError]
"""What was measured, or why it could not be."""


def settings_of(name: str, config: DiagnosticsConfig) -> dict[str, Any]:
    """Those that change a diagnostic's numbers."""
    return {key: getattr(config, key) for key in DIAGNOSTICS[name].settings} | {"seed": SEED}


def work_of(run: Path, names: Sequence[str], config: DiagnosticsConfig, steps: int) -> list[Work]:
    """Return all that is to be known of a finished run's first ``steps``, checkpoint by checkpoint."""
    last = run / "checkpoints" / f"step-{steps:08d}.safetensors"
    files = [file for file in checkpoints_in(run) if file.name <= last.name]
    ended_at = (any_record(run) or {}).get("ended_at")
    return [
        Work(
            name,
            checkpoint,
            run / "analysis" / f"diagnosed-{name}-{checkpoint.stem}.json",
            settings_of(name, config) | {"run_ended_at": ended_at},
        )
        for checkpoint in files
        for name in names
        if checkpoint == last or DIAGNOSTICS[name].all_checkpoints
    ]


def measured(work: Sequence[Work], tools: Tools) -> list[Result]:
    """The results of all ``work``; those that are not there yet are made. Each checkpoint is read once, or not at all."""
    results: list[Result] = []
    it: tuple[Path, Opened] | None = None
    for one in work:
        known = one.known()
        try:
            if known is None:
                it = (
                    it
                    if it and it[0] == one.checkpoint
                    else (one.checkpoint, opened(str(one.checkpoint), tools.device, tools.given))
                )
                known = _made(one, it[1], tools)
            results.append((one, known))
        except UserError as error:  # such as samples that are not finite: the other runs are measured all the same
            results.append((one, error))
    return results


def _made(one: Work, it: Opened, tools: Tools) -> dict[str, Any]:
    """Measure and keep; the result."""
    began = time.perf_counter()
    rows, save = DIAGNOSTICS[one.diagnostic].measure(it, tools)
    result = {"settings": one.settings, "rows": rows} | circumstances(tools.device, time.perf_counter() - began)
    with told(f"analysis in {one.file.parent}", REMEDY):
        one.file.parent.mkdir(parents=True, exist_ok=True)
        if save is not None:
            save(one.picture)
        write_json(one.file, result)
    return result
