"""Arguments of the commands that read runs: ``name=value``, as for Hydra's."""

from collections.abc import Sequence
from pathlib import Path

from experiments.study.submission import Submission, read_submissions
from gat.errors import UserError

FILTERS = {"sweep": "name of a sweep", "study": "name of a study", "runs": "folder of runs (default: runs)"}


def parse(arguments: Sequence[str], known: dict[str, str]) -> dict[str, str]:
    """Values by name; :class:`UserError` for anything that is not ``name=value`` with a known name."""
    values = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in known:
            listed = ", ".join(f"{key}= ({what})" for key, what in known.items())
            raise UserError(f"{argument!r} is not understood: {listed}")
        values[name] = value
    return values


def find_submissions(values: dict[str, str]) -> tuple[list[Submission], list[Submission]]:
    """All submissions, and those that the filters choose; :class:`UserError` if there are none."""
    runs = Path(values.get("runs", "runs"))
    everything = read_submissions(runs)
    asked = {"sweep": "sweep", "study": "study", "submission": "id"}
    chosen = [s for s in everything if all(values.get(key) in (None, getattr(s, own)) for key, own in asked.items())]
    if not chosen:
        there = sorted({f"{s.study}/{s.sweep}" for s in everything})
        what = " ".join(f"{key}={values[key]}" for key in asked if key in values)
        raise UserError(
            f"no submission of {what or 'any sweep'} under {runs}"
            + (
                f": there are {', '.join(there)}"
                if there
                else ": submit one with experiments/run.py -m sweep=NAME, or set runs="
            )
        )
    return everything, chosen
