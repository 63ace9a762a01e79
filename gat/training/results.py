"""What a run leaves for others to read: its record and its metrics. Nothing heavy is imported: looking must be quick."""

import json
from pathlib import Path
from typing import Any

METRICS, RECORD, PROTOCOLS = "metrics.jsonl", "record.json", "protocols.json"


def read_record(folder: Path, identity: str) -> dict[str, Any] | None:
    """The record in ``folder``, if the run of that identity has ended there (finished or diverged)."""
    file = folder / RECORD
    if not file.exists():
        return None
    record: dict[str, Any] = json.loads(file.read_text())
    return record if record.get("identity") == identity else None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's ``metrics.jsonl``; a last line cut short by a crash is left out."""
    file = folder / METRICS
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def read_protocols(folder: Path) -> dict[str, dict[str, Any]]:
    """Protocols of a run's numbers by their ids."""
    file = folder / PROTOCOLS
    return json.loads(file.read_text()) if file.exists() else {}
