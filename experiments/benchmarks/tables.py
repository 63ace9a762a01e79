"""Tables of measurements: printed as Markdown, and kept as Markdown and CSV, named by hardware."""

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gat.files import replacing, told
from gat.platform import git_state, hardware

LOCAL = ("benchmark.out=", "paths.")  # settings that name folders of the machine alone


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown; numbers with three digits, NaN empty."""
    rows = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    rows += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def machine() -> str:
    """The hardware in a line."""
    facts = hardware()
    gpus = ", ".join(facts["gpus"]) or "no GPU"
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {gpus}"


def measured_by(typed: Sequence[str]) -> str:
    """A sentence's beginning: the command with its arguments, the hardware, and the commit of the code."""
    shown = [one for one in typed if not one.startswith(LOCAL)]
    arguments = shlex.join("benchmark.release=FOLDER" if one.startswith("benchmark.release=") else one for one in shown)
    git = git_state()
    changed = " with changes" if git["dirty"] else ""
    commit = f", at commit {git['commit'][:7]}{changed}" if git["commit"] else ""
    return f"`python experiments/benchmark.py {arguments}` on {machine()}{commit}."


def keep(folder: Path, kind: str, text: str, tables: dict[str, pd.DataFrame]) -> list[Path]:
    """Write ``text`` and each table as CSV; returns the files, named by kind, hardware and table."""
    facts = hardware()
    device = facts["gpus"][0] if facts["gpus"] else facts["cpu"]
    stem = f"{kind}-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}-{facts['cores']}-cores"
    contents = {folder / f"{stem}.md": text}
    contents |= {folder / f"{stem}-{name}.csv": table.to_csv(index=False) for name, table in tables.items()}
    with told(f"benchmarks folder {folder}", "measure again"):
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            with replacing(file) as stream:
                stream.write(content.encode())
    return list(contents)
