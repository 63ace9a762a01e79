"""Whether each claim held: ``python analysis/verdicts.py [study=mini] [results=results]``.

Reads the tables that ``experiments/collect.py`` and ``analysis/diagnose.py`` wrote (``results/STUDY/*.csv``, and beside
each the ``.json`` with claim and rule as they stood when the runs were submitted) and applies the rules: confirmed,
refuted, equivalent (where a rule asks for it), undecided (too few seeds or too noisy), no verdict (the rule says nothing at
this scale), partly run or not run. Writes

    results/STUDY/verdicts.md    a row per claim: the paper's numbers, ours, the noise floor; then every test of its rule
    results/report.html          one self-contained page: verdicts, figures, samples, runs and their cost, of all studies
    README.md                    beside ``results``, between the markers: a line per claim with its verdicts at all scales
"""

import shlex
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.command import REMEDY, run_command
from analysis.evidence import NOT_RUN, SILENT
from analysis.figures import CAPTIONS
from analysis.judging import DECIDED, NOT_JUDGED, Judged, all_judged, studies_of
from analysis.report import write_report
from analysis.rules import UNDECIDED
from gat.errors import UserError
from gat.files import replacing, told
from gat.numerics import WHAT_CHANGED

KNOWN = {
    "study": "whose tables (default: mini)",
    "results": "folder of tables (default: results)",
}
FILE, README = "verdicts.md", "README.md"
START, END = "<!-- verdicts -->\n", "<!-- end of verdicts -->"
LONGEST_SENTENCE = 118
"""Characters of a claim in the README's table, whose cells have at most 120."""


def table_of(verdicts: list[Judged], study: str) -> list[str]:
    """Markdown: a row per claim."""
    lines = [f"| claim | the paper | confirmed if | ours | seeds | at scale {study} |", "|---|---|---|---|---|---|"]
    for one in verdicts:
        deciding = [o for o, test in zip(one.outcomes, one.claim["rule"], strict=False) if test["decides"]]
        speaking = [o for o in deciding if o.state != SILENT] or deciding
        ours = "; ".join([*(o.told for o in speaking), *filter(None, [one.floor]), *one.notes]) or "-"
        cells = (f"`{one.claim['id']}`: {one.claim['sentence']}", paper_of(one.claim), one.claim["confirms"], ours)
        row = (*cells, one.seeds, f"**{one.verdict}**")
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in row) + " |")
    return lines


def document(study: str, verdicts: list[Judged]) -> str:
    """Markdown: a table of all claims, then every test of those that were run."""
    lines = [
        f"# Verdicts at scale `{study}`",
        "",
        "Rules and thresholds were fixed in each sweep's head before its runs, and stand here as they were submitted. "
        "A verdict holds at this scale alone. The noise floor is the standard deviation of the logarithm of the distance "
        "over training seeds, pooled over the arms, with the smallest ratio that the planned seeds find with a power of 80%.",
        "",
        *table_of(verdicts, study),
    ]
    for one in (one for one in verdicts if one.outcomes):
        lines += [
            "",
            f"## {one.claim['id']}: {one.verdict}",
            "",
            f"Confirmed if: {one.claim['confirms']} Refuted if: {one.claim['refutes']}"
            + (
                " Both after Holm's correction over the claims that share its control."
                if one.claim.get("family")
                else ""
            ),
            "",
        ]
        for outcome, test in zip(one.outcomes, one.claim["rule"], strict=True):
            arms = f" of {', '.join(test['arms'])}" if "arms" in test else ""
            weight = "decides" if test["decides"] else "beside it"
            lines.append(f"- {test['kind']}{arms} ({weight}): **{outcome.state}**: {outcome.told}")
        lines += [f"- {one.floor}"] if one.floor else []
    return "\n".join(lines) + "\n"


def summary(by_study: Mapping[str, list[Judged]], results: str = "results") -> list[str]:
    """Markdown for the README: how many verdicts of each kind there are, and a row per claim with those at every scale.

    ``results``: the folder, as seen from the README.
    """
    ran = {study: [one for one in verdicts if one.outcomes] for study, verdicts in by_study.items()}
    ran = {study: verdicts for study, verdicts in ran.items() if verdicts}
    first = next(iter(by_study.values()), [])
    found = [one for verdicts in ran.values() for one in verdicts if one.verdict in (*DECIDED, UNDECIDED)]
    counts = Counter(one.verdict for one in found)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in (*DECIDED, UNDECIDED) if counts[kind]) or "none"
    judged_ids = {one.claim["id"] for one in found}
    lines = [
        f"{len(judged_ids)} of {len(first)} claims and questions have a verdict, some at several scales: {kinds}.",
        "",
        "| claim | as stated | verdict (study) |",
        "|---|---|---|",
    ]
    marks: set[str] = set()
    for stated in first:
        studies: dict[str, list[str]] = {}
        for study, verdicts in ran.items():
            for one in (one for one in verdicts if one.claim["id"] == stated.claim["id"]):
                old = set(one.notes) & set(WHAT_CHANGED.values())
                marks |= old
                studies.setdefault(one.verdict + ("\\*" if old else ""), []).append(study)
        sentence = " ".join(stated.claim["sentence"].replace("|", "/").split())
        if len(sentence) > LONGEST_SENTENCE:
            sentence = textwrap.shorten(sentence.split(": ")[0], LONGEST_SENTENCE, placeholder=" ...")
        verdict = "; ".join(f"{kind} ({', '.join(at)})" for kind, at in studies.items()) or NOT_RUN
        lines.append(f"| [{stated.claim['id']}](sweeps/{stated.sweep}.yaml) | {sentence} | {verdict} |")
    files = ", ".join(f"[{study}]({results}/{study}/{FILE})" for study in ran)
    lines += ["", *textwrap.wrap(f"Every test with its numbers: {files}.", 140, break_long_words=False)]
    return [*lines, *(["", f"\\* Trained {', or '.join(sorted(marks))}: not of GAT as released."] if marks else [])]


def included(text: str, block: list[str]) -> str:
    """``text`` with the lines of ``block`` between its markers, if it has them."""
    if START not in text or END not in text:
        return text
    return text.split(START, 1)[0] + START + "\n" + "\n".join(block) + "\n\n" + END + text.split(END, 1)[1]


def paper_of(claim: dict[str, Any]) -> str:
    """The paper's numbers in a cell."""
    told = []
    for number in claim["paper"]:
        value = "" if number["value"] is None else f": {'about ' if number['about'] else ''}{number['value']}"
        told.append(f"{number['what']}{value} ({number['source']})")
    return "; ".join(told) or "-"


def judge(values: dict[str, str]) -> list[str]:
    """Judge every claim and write; lines for the terminal."""
    study, results = values.get("study", "mini"), Path(values.get("results", "results"))
    verdicts = all_judged(results, study)
    if not any(one.outcomes for one in verdicts):
        again = shlex.join(["python", "experiments/collect.py", f"study={study}"])
        raise UserError(f"{results / study}: holds no table of a sweep: run a sweep, then {again}")
    others = {other: all_judged(results, other) for other in studies_of(results) if other != study}
    every = dict(sorted((others | {study: verdicts}).items()))
    texts = {results / study / FILE: document(study, verdicts)}
    readme = results.parent / README
    with told(f"verdicts in {results / study}", REMEDY):
        if readme.is_file():
            texts[readme] = included(readme.read_text(encoding="utf-8"), summary(every, results.name))
        for file, text in texts.items():
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                with replacing(file) as stream:
                    stream.write(text.encode())
    if broken := [note for one in verdicts if one.verdict == NOT_JUDGED for note in one.notes]:
        raise UserError(f"{results / study / FILE} is written, but claims could not be judged: " + "; ".join(broken))
    page = write_report(results, every, CAPTIONS)
    rows = [{"claim": one.claim["id"], "seeds": one.seeds, "verdict": one.verdict} for one in verdicts]
    return [pd.DataFrame(rows).to_string(index=False, justify="left"), str(results / study / FILE), str(page)]


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, judge)


if __name__ == "__main__":
    main()
