"""Whether each claim held: ``python analysis/verdicts.py [study=mini] [results=results]``.

Reads the tables that ``experiments/collect.py`` wrote (``results/STUDY/SWEEP.csv``, and beside it the ``.json`` with claim
and rule as they stood when the runs were submitted) and applies the rule. Writes ``results/STUDY/verdicts.md``: a row per
claim with the paper's numbers, ours, and the verdict: confirmed, refuted, undecided (too few seeds or too noisy), or not run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from analysis.command import REMEDY, run_command
from analysis.evidence import NOT_RUN, Evidence, Outcome
from analysis.rules import decide, verdict
from experiments.settings import SWEEPS
from gat.errors import UserError, first_line
from gat.files import replacing, told

KNOWN = {
    "study": "whose tables (default: mini)",
    "results": "folder of tables (default: results)",
}
FILE = "verdicts.md"


@dataclass(frozen=True)
class Judged:
    """A claim with what became of it."""

    sweep: str
    claim: dict[str, Any]
    verdict: str
    outcomes: list[Outcome]
    """One per test of the rule; empty if nothing was run."""
    seeds: str
    """How many seeds ended, over arms; and how many were planned."""


def claims() -> dict[str, dict[str, Any]]:
    """The claim of every sweep as its file states it now, by the sweep's name."""
    found = {}
    for file in sorted(SWEEPS.glob("*.yaml")):
        head = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        assert isinstance(head, dict)
        if head.get("claim"):
            found[file.stem] = dict(head["claim"])
    return found


def judged(sweep: str, stated: dict[str, Any], folder: Path, study: str) -> Judged:
    """A sweep's verdict; :class:`UserError` for a table that cannot be read or mixes protocols."""
    file = folder / f"{sweep}.csv"
    if not file.is_file():
        return Judged(sweep, stated, NOT_RUN, [], f"0 of {stated['seeds']}")
    try:
        claim = json.loads(file.with_suffix(".json").read_text())["claim"]
        table = pd.read_csv(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is no whole table ({first_line(error)}): collect it again") from error
    protocols = table["protocol"].dropna().unique() if "protocol" in table else []
    if len(protocols) > 1:
        raise UserError(
            f"{file}: has distances of {len(protocols)} protocols, which are not comparable: collect it again"
        )
    evidence = Evidence(table, claim["metric"], claim["confidence"], study)
    outcomes = [decide(test, evidence) for test in claim["rule"]]
    ended = [evidence.diverged(arm)[1] for arm in sorted(set(table["arm"]))]
    seeds = str(max(ended)) if min(ended) == max(ended) else f"{min(ended)} to {max(ended)}"
    return Judged(sweep, claim, verdict(claim["rule"], outcomes), outcomes, f"{seeds} of {claim['seeds']}")


def document(study: str, verdicts: list[Judged]) -> str:
    """Markdown: a table of all claims, then every test of those that were run."""
    lines = [
        f"# Verdicts at scale `{study}`",
        "",
        "Rules and thresholds were fixed in each sweep's head before its runs. A verdict holds at this scale alone.",
        "",
        "| claim | the paper | ours | seeds | verdict |",
        "|---|---|---|---|---|",
    ]
    for one in verdicts:
        deciding = [o.told for o, test in zip(one.outcomes, one.claim["rule"], strict=False) if test["decides"]]
        cells = (f"`{one.claim['id']}`: {one.claim['sentence']}", paper_of(one.claim), "; ".join(deciding) or "-")
        lines.append(
            "| " + " | ".join(cell.replace("|", "/") for cell in (*cells, one.seeds, f"**{one.verdict}**")) + " |"
        )
    for one in (one for one in verdicts if one.outcomes):
        lines += [
            "",
            f"## {one.claim['id']}: {one.verdict}",
            "",
            f"Confirmed if: {one.claim['confirms']} Refuted if: {one.claim['refutes']}",
            "",
        ]
        for outcome, test in zip(one.outcomes, one.claim["rule"], strict=True):
            arms = f" of {', '.join(test['arms'])}" if "arms" in test else ""
            weight = "decides" if test["decides"] else "beside it"
            lines.append(f"- {test['kind']}{arms} ({weight}): **{outcome.state}**: {outcome.told}")
    return "\n".join(lines) + "\n"


def paper_of(claim: dict[str, Any]) -> str:
    """The paper's numbers in a cell."""
    told = []
    for number in claim["paper"]:
        value = "" if number["value"] is None else f": {'about ' if number['about'] else ''}{number['value']}"
        told.append(f"{number['what']}{value} ({number['source']})")
    return "; ".join(told) or "-"


def judge(values: dict[str, str]) -> list[str]:
    """Judge every claim and write; lines for the terminal."""
    study = values.get("study", "mini")
    folder = Path(values.get("results", "results")) / study
    verdicts = [judged(sweep, stated, folder, study) for sweep, stated in claims().items()]
    if not any(one.outcomes for one in verdicts):
        raise UserError(
            f"{folder}: holds no table of a sweep: run one, then python experiments/collect.py study={study}"
        )
    with told(f"verdicts in {folder}", REMEDY), replacing(folder / FILE) as stream:
        stream.write(document(study, verdicts).encode())
    rows = [{"claim": one.claim["id"], "seeds": one.seeds, "verdict": one.verdict} for one in verdicts]
    return [pd.DataFrame(rows).to_string(index=False, justify="left"), str(folder / FILE)]


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, judge)


if __name__ == "__main__":
    main()
