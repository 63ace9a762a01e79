"""Whether each claim held: ``python analysis/verdicts.py [study=mini] [results=results]``.

Reads the tables that ``experiments/collect.py`` and ``analysis/diagnose.py`` wrote (``results/STUDY/*.csv``, and beside
each the ``.json`` with claim and rule as they stood when the runs were submitted) and applies the rules: confirmed,
refuted, equivalent (where a rule asks for it), undecided (too few seeds or too noisy), no verdict (the rule says nothing at
this scale), partly run or not run. Writes

    results/STUDY/verdicts.md    a row per claim: the paper's numbers, ours, the noise floor; then every test of its rule
    results/report.html          one self-contained page: verdicts, figures, samples, runs and their cost, of all studies
    README.md                    the table of those that were run, between the markers, beside ``results`` and in it
"""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.command import REMEDY, run_command
from analysis.evidence import NOT_RUN, SILENT
from analysis.figures import CAPTIONS
from analysis.judging import NOT_JUDGED, Judged, all_judged, studies_of
from analysis.report import write_report
from gat.errors import UserError
from gat.files import replacing, told

KNOWN = {
    "study": "whose tables (default: mini)",
    "results": "folder of tables (default: results)",
}
FILE, README = "verdicts.md", "README.md"


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


def included(text: str, study: str, verdicts: list[Judged]) -> str:
    """``text`` with the table of that study between its markers, if it has them; claims that were not run in one line."""
    start, end = f"<!-- verdicts {study} -->\n", f"<!-- end of verdicts {study} -->"
    if start not in text or end not in text:
        return text
    ran = [one for one in verdicts if one.verdict != NOT_RUN or one.outcomes]
    rest = ", ".join(f"`{one.claim['id']}`" for one in verdicts if one not in ran)
    block = [*(table_of(ran, study) if ran else []), *(["", f"Not run at this scale: {rest}."] if rest else [])]
    head, tail = text.split(start, 1)[0], text.split(end, 1)[1]
    return head + start + "\n" + "\n".join(block).strip() + "\n\n" + end + tail


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
        raise UserError(f"{results / study}: holds no table of a sweep: run one, then {again}")
    others = {other: all_judged(results, other) for other in studies_of(results) if other != study}
    files = [
        results / study / FILE,
        *(readme for readme in (results / README, results.parent / README) if readme.is_file()),
    ]
    with told(f"verdicts in {results / study}", REMEDY):
        texts = [
            document(study, verdicts),
            *(included(file.read_text(encoding="utf-8"), study, verdicts) for file in files[1:]),
        ]
        for file, text in zip(files, texts, strict=True):
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                with replacing(file) as stream:
                    stream.write(text.encode())
    if broken := [note for one in verdicts if one.verdict == NOT_JUDGED for note in one.notes]:
        raise UserError(f"{files[0]} is written, but claims could not be judged: " + "; ".join(broken))
    page = write_report(results, dict(sorted((others | {study: verdicts}).items())), CAPTIONS)
    rows = [{"claim": one.claim["id"], "seeds": one.seeds, "verdict": one.verdict} for one in verdicts]
    return [pd.DataFrame(rows).to_string(index=False, justify="left"), str(files[0]), str(page)]


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, judge)


if __name__ == "__main__":
    main()
