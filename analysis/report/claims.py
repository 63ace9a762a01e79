"""A claim as the page tells it: its tests in words, the paper's numbers, and what became of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from string import Formatter
from typing import Any

from analysis.evidence import NO_VERDICT, NOT_RUN, PARTLY_RUN
from analysis.judging import Judged
from analysis.report.runs import number_text
from analysis.tables import Table

VERDICTS = ("confirmed", "refuted", "equivalent", "undecided", NO_VERDICT, PARTLY_RUN, NOT_RUN)
"""In the order in which they sort."""
WORDS = {
    "ordered": "in order, lowest first{equivalent}: {arms}",
    "monotone": "in order at every evaluation, lowest first: {arms}",
    "difference": "the first below the second{equivalent}: {arms}",
    "at_most_ratio": "the first's mean at most {within} times the second's: {arms}",
    "below": "mean{of} below {value}{studies}{one_sided}: {arms}",
    "above": "mean{of} above {value}{studies}{one_sided}: {arms}",
    "rises": "mean{of} rises from the first evaluation to the last{studies}: {arms}",
    "diverges": "share of seeds that diverge at least {share}: {arms}",
    "trains": "share of seeds that train at least {share}: {arms}",
    "slope": "log-log slope against {x} is {predicted} within {within}: {arms}",
    "boundary_slope": "log-log slope against {x} of the largest {over} that trains is {predicted} within {within}",
    "best_slope": "log-log slope against {x} of the best {over} is {predicted} within {within}",
    "correlation": "correlation of the logarithms with {x} below {below}",
    "power_law": "exponent as a power of {x} is {predicted} within {within}",
    "floor": "in the order of the autoencoders' reconstruction distances where these differ by {margin}: {arms}",
}
PHRASES = {
    "of": " of {}",
    "studies": " (counts at scale {} alone)",
    "one_sided": " (the other side does not refute)",
    "equivalent": " (equivalent within a ratio of {})",
}
"""Of arguments that some kinds can do without: nothing where they are not given."""


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
    floor: str
    """What seeds alone do to the metric; empty if it is not known."""
    notes: list[str]
    """Remarks on the rule that was applied, or why there is no verdict."""
    submissions: list[Mapping[str, Any]]
    """Oldest first; none if it was not run."""

    @property
    def rank(self) -> int:
        """Of its verdict."""
        return VERDICTS.index(self.verdict) if self.verdict in VERDICTS else len(VERDICTS)

    @property
    def ours(self) -> list[str]:
        """What was found by the tests that decide, and the noise floor."""
        return [*(test.told for test in self.tests if test.decides and test.told), *filter(None, [self.floor])]

    @property
    def rule(self) -> list[str]:
        """The tests that decide."""
        return [test.words for test in self.tests if test.decides]


def tell(anchor: str, judged: Judged, table: Table | None) -> Told:
    """A claim in words. ``table``: its sweep's."""
    rule = judged.claim.get("rule", [])
    tests = [
        Tested(words_of(test), bool(test.get("decides")), getattr(end, "state", ""), getattr(end, "told", ""))
        for test, end in zip_longest(rule, judged.outcomes[: len(rule)])
    ]
    return Told(
        anchor=anchor,
        sweep=judged.sweep,
        claim=judged.claim,
        verdict=judged.verdict,
        seeds=judged.seeds,
        tests=tests,
        floor=judged.floor,
        notes=list(getattr(judged, "notes", [])),
        submissions=list(table.head.get("submissions", [])) if table else [],
    )


def words_of(test: Mapping[str, Any]) -> str:
    """A test in a sentence; one of a kind that is not known here by its arguments."""
    kind = str(test.get("kind"))
    values = {key: value_text(value) for key, value in test.items() if key not in ("kind", "decides")}
    template = WORDS.get(kind, "")
    named = {name for _, name, _, _ in Formatter().parse(template) if name}
    if values.keys() <= named and named - values.keys() <= PHRASES.keys():
        phrases = {key: phrase.format(values[key]) if test.get(key) else "" for key, phrase in PHRASES.items()}
        return template.format(**values | phrases)
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
