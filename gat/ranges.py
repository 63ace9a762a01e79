"""The numbers that a setting may take: stated beside its type, checked in one place."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from gat.errors import UserError

LARGEST = 2**63 - 1  # what 64 bits hold, in tables too


@dataclass(frozen=True)
class Range:
    """Bounds of a number, which is always finite: from ``least`` to ``most``, ``above`` and ``below`` themselves excluded."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def check(self, name: str, value: float) -> None:
        """:class:`UserError` for a ``value`` of the setting ``name`` beyond the bounds, infinite or not a number."""
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
"""Samples whose random numbers are drawn at once."""
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, below=1)]
"""Weight of the past in an average over steps."""


def check_ranges(settings: Any, prefix: str = "") -> None:
    """:class:`UserError` for the first number in a dataclass, or in those within it, that is outside its field's range.

    Names are dotted, after ``prefix``. Fields of null, and those whose type states no :class:`Range`, may be anything.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        allowed = range_of(hint)
        for place, value in _leaves(f"{prefix}{name}", getattr(settings, name)):
            if is_dataclass(value):
                check_ranges(value, f"{place}.")
            elif allowed is not None and value is not None:
                allowed.check(place, value)


def range_of(hint: Any) -> Range | None:
    """Return the range that a type states, of itself or of what it holds; None if it states none."""
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
    return next(iter(found), None) or next(filter(None, map(range_of, get_args(hint))), None)


def _leaves(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a value, or those of a list or dictionary, each after its place."""
    if isinstance(value, list | dict):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(f"{place}[{key}]", one)
    else:
        yield place, value
