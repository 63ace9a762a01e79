"""A claim as the page tells it: its tests in words, the paper's numbers, and what became of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from string import Formatter
from typing import TYPE_CHECKING, Any

from analysis.evidence import NOT_RUN
from analysis.report.runs import number_text
from analysis.tables import Table

if TYPE_CHECKING:
    from analysis.verdicts import Judged

VERDICTS = ("confirmed", "refuted", "undecided", NOT_RUN)
"""In the order in which they sort."""
WORDS = {
    "ordered": "in order, best first: {arms}",
    "monotone": "in order at every evaluation, best first: {arms}",
    "difference": "the first below the second: {arms}",
    "ratio_within": "means within a factor of {within}: {arms}",
    "below": "mean below {value} (says something at scale {studies} alone): {arms}",
    "diverges": "share of seeds that diverge at least {share}: {arms}",
    "trains": "share of seeds that train at least {share}: {arms}",
    "slope": "log-log slope against {x} is {predicted} within {within}: {arms}",
    "boundary_slope": "log-log slope against {x} of the largest {over} that trains is {predicted} within {within}",
    "best_slope": "log-log slope against {x} of the best {over} is {predicted} within {within}",
    "correlation": "correlation of the logarithms with {x} below {below}",
    "power_law": "exponent as a power of {x} is {predicted} within {within}",
    "floor": "in the order of the autoencoders' reconstruction distances: {arms}",
}


@dataclass(frozen=True)
class Tested:
    """A test of the rule. ``state`` and ``told``: how it ended; empty if nothing was run."""

    words: str
    decides: bool
    state: str
    told: str


@dataclass(frozen=True)
class Told:
    """A claim with its verdict."""

    anchor: str
    sweep: str
    claim: Mapping[str, Any]
    verdict: str
    seeds: str
    tests: list[Tested]
    table: Table | None
    """None if there is none: it was not run."""

    @property
    def rank(self) -> int:
        """Of its verdict."""
        return VERDICTS.index(self.verdict) if self.verdict in VERDICTS else len(VERDICTS)

    @property
    def ours(self) -> list[str]:
        """What was found by the tests that decide."""
        return [test.told for test in self.tests if test.decides and test.told]

    @property
    def changed(self) -> bool:
        """Whether claim or rule changed between submissions."""
        return bool(self.table and self.table.head.get("claim_changed"))

    @property
    def submissions(self) -> list[Mapping[str, Any]]:
        """Oldest first."""
        return list(self.table.head.get("submissions", [])) if self.table else []


def tell(anchor: str, judged: "Judged", table: Table | None) -> Told:
    """A claim in words."""
    rule = judged.claim.get("rule", [])
    tests = [
        Tested(words_of(test), bool(test.get("decides")), getattr(end, "state", ""), getattr(end, "told", ""))
        for test, end in zip_longest(rule, judged.outcomes[: len(rule)])
    ]
    return Told(anchor, judged.sweep, judged.claim, judged.verdict, judged.seeds, tests, table)


def words_of(test: Mapping[str, Any]) -> str:
    """A test in a sentence; one of a kind that is not known here by its arguments."""
    kind = str(test.get("kind"))
    values = {key: value_text(value) for key, value in test.items() if key not in ("kind", "decides")}
    template = WORDS.get(kind, "")
    if {name for _, name, _, _ in Formatter().parse(template)} - {None} == values.keys():
        return template.format(**values)
    return f"{kind} ({', '.join(f'{key} {value}' for key, value in values.items())})"


def value_text(value: Any) -> str:
    """Of a test's argument."""
    if isinstance(value, (list, tuple)):
        return "; ".join(str(one) for one in value)
    return number_text(value)


def paper_numbers(claim: Mapping[str, Any]) -> list[str]:
    """The paper's, each with its source."""
    told = []
    for number in claim.get("paper", []):
        value = number.get("value")
        told_value = "" if value is None else f": {'about ' if number.get('about') else ''}{number_text(value)}"
        told.append(f"{number['what']}{told_value} ({number['source']})")
    return told


def counts(claims: Sequence[Told]) -> list[tuple[str, int]]:
    """How many claims have each verdict, in the order of verdicts."""
    found = Counter(claim.verdict for claim in sorted(claims, key=lambda claim: claim.rank))
    return list(found.items())
