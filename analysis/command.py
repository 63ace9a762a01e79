"""What the commands of this folder share: their arguments, what they write down of weights and machine, and how they end."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from experiments.exits import exits
from experiments.study.arguments import parse
from gat.errors import UserError

if TYPE_CHECKING:  # seconds of imports that figures and verdicts do without
    import torch

    from analysis.opening import Opened

REMEDY = "start the same command again, or set another out"


def run_command(text: str | None, known: dict[str, str], work: Callable[[dict[str, str]], list[str]]) -> None:
    """Do ``work`` with the arguments (name=value) and print its lines; a mistake is one line and exit code 2.

    ``text`` is shown by --help; ``known``: the arguments with what they mean.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("values", nargs="*", metavar="name=value")
    arguments = parser.parse_args()
    with exits():
        for line in work(parse(arguments.values, known)):
            print(line)


def number(name: str, value: str) -> int:
    """A whole number that is not negative; :class:`UserError` for anything else."""
    if not value.strip().isdecimal():
        raise UserError(f"{name}={value!r} is no whole number: give one")
    return int(value)


def positive(name: str, values: dict[str, str], default: int) -> int:
    """An argument; :class:`UserError` unless it is a whole number of at least 1."""
    found = number(name, values.get(name, str(default)))
    if found < 1:
        raise UserError(f"{name}={found} must be at least 1")
    return found


def sample_of(values: dict[str, str], default: int) -> tuple[int, list[int] | None, int]:
    """Arguments ``samples``, ``classes`` and ``seed``; :class:`UserError` for one that is no number."""
    classes = [number("classes", part) for part in values["classes"].split(",")] if "classes" in values else None
    return number("samples", values.get("samples", str(default))), classes, number("seed", values.get("seed", "0"))


def name_of(it: "Opened") -> str:
    """Of what is looked at: the run's folder, or else the file."""
    return (it.pretrained.home or it.pretrained.source).resolve().name


def generator_facts(it: "Opened") -> dict[str, Any]:
    """Of the weights that are looked at, and how their samples are made."""
    rules = it.config.evaluation
    return it.pretrained.facts | {
        "mng_schedule": it.mng_schedule,
        "truncation": rules.truncation,
        "decoder": it.subject.decoder_name,
        "to_uint8": rules.to_uint8,
        "image_px": it.subject.image_px,
    }


def circumstances(device: "torch.device", seconds: float) -> dict[str, Any]:
    """When, by which code and on what something was measured."""
    from gat.platform import git_state, hardware, versions  # it imports torch

    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "git": git_state(),
        "hardware": hardware() | {"device": str(device)},
        "versions": versions(),
    }


def facts_of(it: "Opened", seconds: float) -> dict[str, Any]:
    """What looked at which weights, and when."""
    return {"generator": generator_facts(it)} | circumstances(it.device, seconds)
