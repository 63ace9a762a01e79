"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from gat.files import replacing


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
