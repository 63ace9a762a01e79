"""What the docs name exists. A test that a table names and that is lost would fail here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*DOCS, ROOT / "sweeps" / "README.md", *sorted((ROOT / "results").rglob("README.md"))]
LONGEST_README, LONGEST_CELL = 200, 120


def anchors(file: Path) -> set[str]:
    """Return the anchors of a Markdown file's headings, as the forge makes them."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_test_named_is_there() -> None:
    named = {
        name for file in DOCS for name in re.findall(r"\b(test_\w+)::(test_\w+)", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 40
    for module, test in sorted(named):
        file = ROOT / "tests" / f"{module}.py"
        assert file.is_file(), module
        assert f"def {test}(" in file.read_text(encoding="utf-8"), f"{module}::{test}"


@pytest.mark.parametrize("file", LINKING, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(file: Path) -> None:
    lost = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)", file.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        there = file.parent / path if path else file
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(link)
    assert lost == []


def test_the_readme_is_short_and_links_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_README
    assert [file.name for file in DOCS[1:] if f"(docs/{file.name})" not in text] == []


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_cells_of_tables_are_short(file: Path) -> None:
    rows = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell) > LONGEST_CELL] == []
