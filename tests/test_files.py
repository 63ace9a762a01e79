"""Files that appear whole or not at all."""

import ast
from pathlib import Path

import pytest

from gat.files import remove_leftovers, replacing


def test_file_appears_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    file.write_bytes(b"old")
    with replacing(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_error_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    file.write_bytes(b"old")

    def fail_half_way() -> None:
        with replacing(file) as stream:
            stream.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_at_once(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    with replacing(file) as first:
        first.write(b"a long first text")
        with replacing(file) as second:
            second.write(b"short")
        assert file.read_bytes() == b"short"
    assert file.read_bytes() == b"a long first text"


def test_leftovers_are_half_written_files_of_that_name_alone(tmp_path: Path) -> None:
    """A folder, a longer name, a suffix that is not hexadecimal and a name with wildcards are left alone."""
    kept = [".b[1].json.notes123", ".b[1].json.0123abcde", ".b1.json.0123abcd", ".c.json.0123abcd"]
    for name in (*kept, ".b[1].json.0123abcd"):
        (tmp_path / name).touch()
    (tmp_path / ".b[1].json.20250101").mkdir()
    (tmp_path / ".b[1].json.0123abcd.saving").mkdir()
    (tmp_path / ".b[1].json.0123abcd.saving" / ".tmpAbC123").touch()
    remove_leftovers(tmp_path / "b[1].json")
    assert {file.name for file in tmp_path.iterdir()} == {*kept, ".b[1].json.20250101"}


def text_calls_without_encoding(source: str) -> list[int]:
    """Return the lines of calls that use the locale's encoding for text (modes are literals everywhere)."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        owner, _, name = ast.unparse(node.func).rpartition(".")
        modes = {argument.value for argument in [*node.args, given.get("mode")] if isinstance(argument, ast.Constant)}
        by_mode = name == "open" and owner not in {"Image", "gzip", "tarfile", "av", "archive"}
        if "encoding" not in given and (
            name in {"read_text", "write_text"}
            or "text" in given
            or (by_mode and not any("b" in str(mode) for mode in modes))
        ):
            lines.append(node.lineno)
    return lines


def test_text_is_utf_8_whatever_the_locale() -> None:
    assert text_calls_without_encoding(
        'a.read_text()\na.open()\na.open("r+")\na.open("rb")\nopen("w")\na.open(mode="rb")\nrun(text=True)\n'
    ) == [1, 2, 3, 5, 7]
    root = Path(__file__).parents[1]
    found = [
        f"{file}:{line}"
        for package in ("gat", "experiments", "analysis", "hydra_plugins")
        for file in (root / package).rglob("*.py")
        for line in text_calls_without_encoding(file.read_text(encoding="utf-8"))
    ]
    assert not found
