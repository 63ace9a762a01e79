"""What the docs name exists. A test that a table names and that is lost would fail here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_test_named_is_there() -> None:
    named = {
        name for file in DOCS for name in re.findall(r"\b(test_\w+)::(test_\w+)", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 40
    for module, test in sorted(named):
        file = ROOT / "tests" / f"{module}.py"
        assert file.is_file(), module
        assert f"def {test}(" in file.read_text(encoding="utf-8"), f"{module}::{test}"


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_file_linked_is_there(file: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (file.parent / link).exists()] == []
