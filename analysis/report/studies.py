"""What a results folder holds, study by study."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.judging import Judged
from analysis.report.claims import Told, counts, tell
from analysis.report.pictures import Picture, figures_in, pictures_in
from analysis.report.runs import SHOWN, Run, number_text, runs_of, shared_settings, total_hours
from analysis.tables import Table, read_table

PAPER_SCALE = "imagenet256"
SCALES = {
    "mini": "Fashion-MNIST, 8x8x4 latents of a tiny autoencoder trained on it, networks of the mini sizes, a small "
    "offline teacher: minutes per run on CPU cores",
    "cifar10": "CIFAR-10, 16x16x4 latents of a tiny autoencoder trained on it, networks of the paper's sizes, a small "
    "offline teacher: minutes per run on one GPU",
    PAPER_SCALE: "the paper's: ImageNet at 256 pixels, SD-VAE latents, DINOv2 as teacher, batch 512",
}


@dataclass(frozen=True)
class Study:
    """All that the page says of one study."""

    name: str
    anchor: str
    claims: list[Told]
    tables: list[Table]
    runs: list[Run]
    figures: list[Picture]
    pictures: dict[str, list[Picture]]

    @property
    def about(self) -> str:
        """Its scale in words, if it is one of ours."""
        return SCALES.get(self.name, "")

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Claims by verdict."""
        return counts(self.claims)

    @property
    def scale(self) -> list[tuple[str, str]]:
        """What its runs range over."""
        parts = [
            (title, spans(self.runs, name))
            for title, name in (("sizes", "size"), ("patch", "patch"), ("batch", "batch_size"), ("steps", "steps"))
        ]
        return [(title, span) for title, span in parts if span]

    @property
    def hours(self) -> float:
        """Of its runs."""
        return total_hours(self.runs)

    @property
    def shared(self) -> dict[str, Any]:
        """Settings that all its runs have in common."""
        return shared_settings(self.runs)

    @property
    def measures(self) -> list[tuple[str, str]]:
        """Names and protocols of the distances at the end."""
        return list(dict.fromkeys(run.measure for run in self.runs if run.measure))

    @property
    def gaps(self) -> list[str]:
        """Missing runs, in words."""
        return list(dict.fromkeys(gap.removeprefix(f"{self.name}/") for table in self.tables for gap in table.gaps))

    @property
    def marks(self) -> list[tuple[str, list[str]]]:
        """Return each mark on results, with the sweeps that bear it."""
        found: dict[str, list[str]] = {}
        for table in self.tables:
            if table.mark:
                found.setdefault(table.mark, []).append(table.sweep)
        return list(found.items())

    @property
    def protocols(self) -> list[tuple[dict[str, Any], list[str]]]:
        """How distances were measured, and in which sweeps."""
        found: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for table in self.tables:
            for name, record in table.head.get("protocols", {}).items():
                found.setdefault(name, (record, []))[1].append(table.sweep)
        return list(found.values())


def studies_of(results: Path, judged: Mapping[str, Sequence[Judged]], captions: Mapping[str, str]) -> list[Study]:
    """Those that were judged, in their order, then others with tables."""
    with_tables = [folder.name for folder in sorted(results.glob("*/")) if sweeps_in(folder)]
    return [study_of(results, name, judged.get(name, []), captions) for name in dict.fromkeys((*judged, *with_tables))]


def study_of(results: Path, name: str, judged: Sequence[Judged], captions: Mapping[str, str]) -> Study:
    """One study; :class:`gat.errors.UserError` for a table or a picture that cannot be read."""
    folder, anchor = results / name, slug(name)
    tables = {sweep: read_table(results, name, sweep) for sweep in sweeps_in(folder)}
    claims = [tell(f"{anchor}-{slug(one.claim['id'])}", one, tables.get(one.sweep)) for one in judged]
    return Study(
        name=name,
        anchor=anchor,
        claims=sorted(claims, key=lambda claim: claim.rank),
        tables=list(tables.values()),
        runs=runs_of(tables.values()),
        figures=figures_in(folder, captions),
        pictures=pictures_in(folder / "pictures", {*tables, *(one.sweep for one in judged)}, captions),
    )


def sweeps_in(folder: Path) -> list[str]:
    """Names of the sweeps that a folder has tables of; other tables and records there are none of them."""
    return [file.stem for file in sorted(folder.glob("*.csv")) if is_sweep(file.with_suffix(".json"), file.stem)]


def is_sweep(file: Path, name: str) -> bool:
    """Whether a JSON is that of a sweep's table (a diagnostic's has the sweep's name, and another one itself)."""
    try:
        head = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # read_table says what is wrong with it
    return isinstance(head, dict) and head.get("sweep") == name


def spans(runs: Sequence[Run], name: str) -> str:
    """The values of a column, or the range of many."""
    column = "total_steps" if name == "steps" else name
    values = list(dict.fromkeys(run.values[column] for run in runs if column in run.values))
    if any(isinstance(value, str) for value in values):
        return ", ".join(str(value) for value in values)
    told = [number_text(value) for value in sorted(values)]
    return ", ".join(told) if len(told) <= len(SHOWN) else f"{told[0]} to {told[-1]}"


def slug(name: str) -> str:
    """A name as an id: what is no letter, digit or underscore by its number."""
    return re.sub(r"[^A-Za-z0-9_]", lambda found: f".{ord(found[0]):x}", name)
