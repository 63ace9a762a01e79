"""Ranges of numeric settings: stated beside the type of each, checked in one place."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from gat.errors import UserError

LARGEST = 2**63 - 1  # largest int64, which tables can hold too


@dataclass(frozen=True)
class Range:
    """Bounds of a finite number: ``least`` and ``most`` are inclusive, ``above`` and ``below`` exclusive."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def check(self, name: str, value: float) -> None:
        """Raise :class:`UserError` if ``value``, of the setting ``name``, is outside the bounds, infinite or NaN."""
        if self.least <= value <= self.most and self.above < value < self.below:
            return
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        words = [
            f"{word} {bound}" for word, bound in bounds.items() if abs(bound) < LARGEST or LARGEST <= bound < value
        ]
        finite = [] if -math.inf < value < math.inf else ["finite"]
        raise UserError(f"{name}={value} must be {' and '.join(finite + words)}")


Count = Annotated[int, Range(1, LARGEST)]
Natural = Annotated[int, Range(0, LARGEST)]
"""Seeds, and counts that may be 0."""
Pixels = Annotated[int, Range(1, 2**14)]
Images = Annotated[int, Range(0, 10**7)]
"""Numbers of samples, for which all random numbers are drawn at once."""
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, below=1)]
"""Weight of the past in an average over steps."""


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Raise :class:`UserError` for the first number in a (nested) dataclass that is outside its field's range.

    Names in messages are dotted, after ``prefix``. Fields that are null, or whose type states no :class:`Range`, pass.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        allowed = range_of(hint)
        for place, value in _leaves(f"{prefix}{name}", getattr(settings, name)):
            if is_dataclass(value):
                check_ranges(value, f"{place}.")
            elif allowed is not None and value is not None:
                allowed.check(place, value)


def range_of(hint: Any) -> Range | None:
    """Return the range stated by a type or by its type arguments; None if there is none."""
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
    return next(iter(found), None) or next(filter(None, map(range_of, get_args(hint))), None)


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each leaf of nested lists and dictionaries."""
    if isinstance(value, list | dict):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(f"{place}[{key}]", one)
    else:
        yield place, value
