"""The paper's numbers, curves and power law (``results/paper.yaml``), and where they may stand beside ours.

Only numbers measured by the same protocol (``gat.evaluation.protocol``, by name) on the same data (the study) are comparable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from analysis.tables import Table
from gat.errors import UserError, first_line

FILE = Path(__file__).parent.parent / "results" / "paper.yaml"


@dataclass(frozen=True)
class PaperNumber:
    """A number, or (without value) a statement in words."""

    claim: str
    """Id of the claim; ``peers`` and ``evaluator`` are none of the paper's."""
    what: str
    value: float | None
    about: bool
    """Read off a figure."""
    source: str


@dataclass(frozen=True)
class PaperCurve:
    """Fréchet distance of one model over training."""

    model: str
    """Size and patch, as S/2."""
    metric: str
    """FID-50K or FID-5K."""
    study: str
    """Ours of the same data and scale."""
    protocol: str | None
    """Name of ours that measures alike; None: not stated."""
    batch_size: int
    batch_size_presumed: bool
    source: str
    precision: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def images(self) -> tuple[int, ...]:
        """Images seen at ``steps``."""
        return tuple(step * self.batch_size for step in self.steps)


@dataclass(frozen=True)
class PaperLaw:
    """distance = coefficient x C^exponent, C in GFLOPs of training in all."""

    coefficient: float
    exponent: float
    of: str
    study: str
    protocol: str | None
    source: str


@dataclass(frozen=True)
class Paper:
    """What figures take from the file; more stands there for readers."""

    numbers: tuple[PaperNumber, ...]
    curves: tuple[PaperCurve, ...]
    arms: dict[str, dict[str, str]]
    """Model by arm of a sweep, where the recipes are the same."""
    law: PaperLaw


def read_paper(file: Path = FILE) -> Paper:
    """The file's content; :class:`UserError` for one that is missing, damaged or lacks a field."""
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(file))
        return Paper(
            numbers=tuple(_number_of(one) for one in content["numbers"]),
            curves=tuple(curve for one in content["curves"] for curve in _curves_of(one)),
            arms=content["arms"],
            law=PaperLaw(**content["law"] | {key: float(content["law"][key]) for key in ("coefficient", "exponent")}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError, OmegaConfBaseException) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{file}: not the paper's numbers ({reason}): restore the repository's file") from error


def _number_of(one: Mapping[str, Any]) -> PaperNumber:
    value = one["value"]
    return PaperNumber(**{**one, "value": None if value is None else float(value)})


def _curves_of(table: Mapping[str, Any]) -> list[PaperCurve]:
    shared = {name: value for name, value in table.items() if name not in ("values", "steps")}
    curves = []
    for model, values in table["values"].items():
        if len(values) != len(table["steps"]):
            raise ValueError(f"curve {model} has {len(values)} values for {len(table['steps'])} steps")
        steps, distances = tuple(map(int, table["steps"])), tuple(map(float, values))
        curves.append(PaperCurve(model=model, steps=steps, values=distances, **shared))
    return curves


@cache
def paper() -> Paper:
    """The repository's file."""
    return read_paper()


def numbers(claim: str | None = None) -> list[PaperNumber]:
    """Of a claim, or all."""
    return [one for one in paper().numbers if claim in (None, one.claim)]


def number(claim: str, what: str) -> float:
    """The one number of ``claim`` whose words begin with ``what``; KeyError unless it is one."""
    found = [one.value for one in numbers(claim) if one.what.startswith(what) and one.value is not None]
    if len(found) != 1:
        raise KeyError(f"{claim}: {what}: {len(found)} numbers")
    return found[0]


def comparable(table: Table, study: str, protocol: str | None) -> bool:
    """Whether numbers of ``study`` measured by the protocol of that name may stand beside the table's."""
    ours = table.protocol
    return ours is not None and protocol is not None and (study, protocol) == (table.study, ours.name)


def curves(sweep: str) -> list[tuple[str, PaperCurve]]:
    """Of every metric: curves of the arms of a sweep that have the paper's recipe, at the paper's scale."""
    return [
        (arm, one) for arm, model in paper().arms.get(sweep, {}).items() for one in paper().curves if one.model == model
    ]


def curves_beside(table: Table) -> list[tuple[str, PaperCurve]]:
    """Those that may be drawn beside a table's: of the same study and protocol."""
    return [(arm, one) for arm, one in curves(table.sweep) if comparable(table, one.study, one.protocol)]
