"""Files that a run leaves for others: its record and metrics. Imports nothing heavy, so that looking is quick.

A line of ``metrics.jsonl`` holds the training metrics of a step. After an evaluation it also has ``evaluations``: id of
the evaluation's settings -> name of a number -> its ``kind``, ``value``, ``protocol`` (an id) and
``interval`` (95%, over draws of the samples).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gat.errors import UserError
from gat.files import is_locked, json_object, reading

METRICS, RECORD, PROTOCOLS, LOCK = "metrics.jsonl", "record.json", "protocols.json", ".lock"
RESTORE = "restore it from a copy, or set another paths.run to train the run again"
SHOWN = 40  # characters of a damaged line that a message quotes
FIRST_NUMERICS = 1  # of records that do not name a version
Line = Mapping[str, Any]


def read_record(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return the record in ``folder``, if the run of that identity has ended there (finished or diverged).

    Its final metrics and protocols are those of the files beside it, to which a further evaluation adds before the record.
    Raises :class:`gat.errors.UserError` for damaged files, and for metrics that lack the run's end.
    """
    record = any_record(folder)
    if record is None or record["identity"] != identity:
        return None
    end = record["final_metrics"]["step"]
    final = next((line for line in read_metrics(folder) if line["step"] == end), None)
    if final is None:
        raise UserError(f"{folder / METRICS}: lacks step {end}, at which the run ended: {RESTORE}")
    return record | {"final_metrics": final, "protocols": record.get("protocols", {}) | read_protocols(folder)}


def any_record(folder: Path) -> dict[str, Any] | None:
    """Return the record in ``folder``, of whichever run; None if there is none.

    Raises :class:`gat.errors.UserError` for a file that is not the record of a run.
    """
    file = folder / RECORD
    if not file.exists():
        return None
    with reading(file, "the record of a run", "remove it, or set another paths.run"):
        record = json_object(file)
        record["identity"], reaches(record, 0), numerics_of(record), Path(record.get("checkpoint") or "")
        for name in ("final_metrics", "config", "protocols"):
            {} | record.get(name, {})
    return record


def under_way(folder: Path) -> bool:
    """Return whether any process is training or evaluating the run in ``folder``."""
    return is_locked(folder / LOCK)


def numerics_of(record: Mapping[str, Any]) -> int:
    """Return a record's version of the numerics (:mod:`gat.numerics`)."""
    return int(record.get("numerics", FIRST_NUMERICS))


def diverged_by(record: Mapping[str, Any], steps: int) -> bool:
    """Return whether the run of ``record`` had diverged within so many steps."""
    return record["diverged"] is not None and record["diverged"]["step"] <= steps


def reaches(record: Mapping[str, Any], steps: int) -> bool:
    """Return whether the ended run of ``record`` went so many steps, or diverged before."""
    return diverged_by(record, steps) or record["final_metrics"]["step"] >= steps


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return all lines of a run's ``metrics.jsonl``; a last line cut short by a crash is left out.

    Raises :class:`gat.errors.UserError` for a damaged line.
    """
    file = folder / METRICS
    if not file.exists():
        return []
    with reading(file, "the metrics of a run", RESTORE):
        text = file.read_text(encoding="utf-8")
        return [_line(number, one) for number, one in enumerate(text[: text.rfind("\n") + 1].split("\n")[:-1], 1)]


def _line(number: int, text: str) -> dict[str, Any]:
    try:
        line: dict[str, Any] = {} | json.loads(text)
        line["step"] + 0, numbers_of(line).keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"line {number} is {text[:SHOWN]!r}") from error
    return line


def read_protocols(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the protocols of a run's numbers by id; raise :class:`gat.errors.UserError` for a damaged file."""
    file = folder / PROTOCOLS
    if not file.exists():
        return {}
    with reading(
        file, "protocols by their ids", "restore it from a copy, or remove it: the next evaluation writes its own"
    ):
        found = json_object(file)
        return {name: {} | protocol for name, protocol in found.items()}


def numbers_of(line: Line, evaluation: str = "") -> dict[str, dict[str, Any]]:
    """Return a line's numbers by name, of the evaluation with that id; without an id, of the line's first."""
    evaluations = line.get("evaluations", {})
    found: dict[str, dict[str, Any]] = (
        evaluations.get(evaluation, {}) if evaluation else next(iter(evaluations.values()), {})
    )
    return found


def number_of_kind(line: Line, kind: str, evaluation: str = "") -> tuple[str, dict[str, Any]] | None:
    """Return name and number of the first number of this ``kind`` in a line; None if there is none."""
    return next(
        ((name, number) for name, number in numbers_of(line, evaluation).items() if number["kind"] == kind), None
    )
