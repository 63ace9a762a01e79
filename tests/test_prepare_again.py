"""Preparation that did not come to its end: what stays, and what the next call makes of it."""

import errno
import os
import re
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from gat.data.prepared import SKIPPED
from gat.errors import UserError
from gat.files import told
from tests.preparing import (
    IMAGES,
    Case,
    assert_equal_sets,
    assert_nothing_left,
    files_of_parts,
    finished_parts,
    in_the_middle,
    make_case,
    parts_made,
    parts_of_four,
)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    parts_of_four(monkeypatch)
    return make_case(tmp_path)


@pytest.fixture
def whole(case: Case) -> Case:
    """The set as it is when nothing comes between."""
    other = case.elsewhere("whole")
    other.prepare()
    return other


# interruptions


@pytest.mark.parametrize("workers", [0, 2])
def test_interruption_keeps_the_finished_parts(
    case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        in_the_middle(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            case.prepare(workers)
    assert finished_parts(case.folder) == [0]
    file = case.folder / "part-00000.arrow"
    first = file.stat()
    begun = parts_made(monkeypatch)
    case.prepare(workers)
    assert begun == [1, 2]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert_equal_sets(case, whole)


def refuse_room(patch: pytest.MonkeyPatch, name: str) -> None:
    """The disk is full when the file of that ``name`` is to reach it."""
    fsync = os.fsync

    def full(number: int) -> None:
        if f".{name}." in os.readlink(f"/proc/self/fd/{number}"):  # noqa: PTH115
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    patch.setattr(os, "fsync", full)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("plan.json", None),
        ("files.feather", None),
        ("part-00001.arrow", [0]),
        ("part-00001.json", [0]),
        ("labels.npy", [0, 1, 2]),
        ("manifest.json", [0, 1, 2]),
    ],
)
def test_no_space_left(
    case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch, name: str, kept: list[int] | None
) -> None:
    with monkeypatch.context() as patch:
        refuse_room(patch, name)
        message = r"^[^\n]*: cannot be written \(No space left on device\): make room [^\n]*; then run it again$"
        with pytest.raises(UserError, match=message), told(str(case.cache), "run it again"):
            case.prepare()
    if kept is None:
        assert_nothing_left(case.cache)
    else:
        assert sorted(int(f.stem[5:]) for f in case.folder.glob("part-*.json")) == kept
        assert not [f for f in case.folder.glob(".*") if f.name != ".locks"]
    begun = parts_made(monkeypatch)
    case.prepare()
    assert begun == sorted({0, 1, 2} - set(kept or []))
    assert_equal_sets(case, whole)


def test_no_space_while_a_part_is_written(case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes through Arrow's writer, as it is."""

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("gat.data.parts._Hashed.write", full)
        with pytest.raises(UserError, match=r"No space left on device"), told("prepared", "run it again"):
            case.prepare()
    assert finished_parts(case.folder) == []
    case.prepare()
    assert_equal_sets(case, whole)


# damage


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damaged_part_is_made_again(case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As the message says: delete it, its .json and manifest.json, and prepare again."""
    file = case.prepare().folder / f"part-{number:05d}.arrow"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=rf"part-0000{number}\.arrow: its checksum is not .*delete it, its \.json and"):
        case.prepare()
    for name in (file.name, f"{file.stem}.json", "manifest.json"):
        (case.folder / name).unlink()
    begun = parts_made(monkeypatch)
    case.prepare()
    assert begun == [number]
    assert_equal_sets(case, whole)


def test_photos_added_since_are_not_prepared(case: Case, whole: Case) -> None:
    """A part is made again of the list as it was."""
    case.prepare()
    (case.root / "ant" / "00.png").write_bytes((case.root / "cat" / "0.png").read_bytes())
    for name in ("part-00001.arrow", "part-00001.json", "manifest.json"):
        (case.folder / name).unlink()
    case.prepare()
    assert_equal_sets(case, whole)


def test_damaged_manifest_and_labels_are_written_again(
    case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.prepare()
    (case.folder / "manifest.json").unlink()
    (case.folder / "labels.npy").unlink()
    begun = parts_made(monkeypatch)
    case.prepare()
    assert begun == []
    assert_equal_sets(case, whole)


# corrupt images


def test_corrupt_images_are_counted_and_the_first_named(case: Case) -> None:
    """The parts without any are kept."""
    case.corrupt("ant/1.png", "cat/3.png")
    message = (
        r"^2 of 12 images are corrupt, first: .*/ant/1\.png: not a readable image .*\. Mend them where they are, or set "
        r"data\.on_corrupt=skip \(what is prepared is kept: 1 of 3 parts;"
    )
    with pytest.raises(UserError, match=message):
        case.prepare()
    assert finished_parts(case.folder) == [1]


@pytest.mark.parametrize("workers", [0, 2])
def test_name_of_two_lines_is_shown_escaped_and_whole(case: Case, workers: int) -> None:
    """The image is corrupt, is skipped, or has disappeared since the files were listed."""
    file = case.root / "ant" / "a\nb.png"
    shown = f"{case.root}/ant/a\\nb.png: "
    file.write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"first: {re.escape(shown)}not a readable image [^\n]*$"):
        case.prepare(workers)
    file.unlink()
    with pytest.raises(UserError, match=rf"^{re.escape(shown)}cannot be opened \(No such file"):
        case.prepare(workers)
    file.write_bytes(b"no image")
    case.prepare(workers, on_corrupt="skip")
    (line,) = (case.folder / SKIPPED).read_text().splitlines()
    assert line.startswith(shown)


def test_mended_images_are_all_that_is_made_again(case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.corrupt("bee/1.png")
    with pytest.raises(UserError, match=r"1 of 12 images are corrupt, first: .*bee/1\.png"):
        case.prepare()
    begun = parts_made(monkeypatch)
    with pytest.raises(UserError, match=r"1 of 12 images are corrupt, first: .*bee/1\.png.*kept: 2 of 3 parts"):
        case.prepare()
    case.mend()
    case.prepare()
    assert begun == [1, 1]
    assert_equal_sets(case, whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_left_out_and_listed(case: Case, workers: int) -> None:
    case.corrupt("ant/1.png", "cat/3.png", "cat/0.png")
    prepared = case.prepare(workers, on_corrupt="skip")
    assert (prepared.manifest.count, prepared.manifest.skipped) == (9, 3)
    assert [part.rows for part in prepared.manifest.parts] == [3, 4, 2]
    assert prepared.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 2
    assert np.array_equal(prepared.images(range(9)), np.delete(IMAGES, (1, 8, 11), axis=0))
    lines = (case.folder / SKIPPED).read_text().splitlines()
    names = ("ant/1.png", "cat/0.png", "cat/3.png")
    assert [line.split(": not a readable image (")[0] for line in lines] == [f"{case.root / name}" for name in names]


def test_skipping_goes_on_with_what_was_kept(case: Case, whole: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.corrupt("bee/1.png")
    with pytest.raises(UserError, match=r"on_corrupt=skip"):
        case.prepare()
    begun = parts_made(monkeypatch)
    assert len(case.prepare(on_corrupt="skip")) == 11
    assert begun == [1]
    ours, theirs = files_of_parts(case.folder), files_of_parts(whole.folder)
    assert {name for name in ours if ours[name] != theirs[name]} == {"part-00001.arrow", "part-00001.json"}


def test_set_that_lacks_images_is_refused_without_skipping(case: Case) -> None:
    case.corrupt("bee/1.png")
    case.prepare(on_corrupt="skip")
    message = r"was prepared with data\.on_corrupt=skip and lacks 1 images \(listed in its skipped\.txt\): set data"
    with pytest.raises(UserError, match=message):
        case.prepare()
    assert len(case.prepare(on_corrupt="skip")) == 11


def test_skipping_nothing_changes_nothing(case: Case, whole: Case) -> None:
    assert case.prepare(on_corrupt="skip").manifest.skipped == 0
    assert_equal_sets(case, whole)
    assert not (case.folder / SKIPPED).exists()


def test_part_without_a_readable_image(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is empty; the rows after it are found all the same."""
    monkeypatch.setattr("gat.data.claims.PART_ROWS", 2)
    case.corrupt("bee/0.png", "bee/1.png")
    prepared = case.prepare(on_corrupt="skip")
    assert [part.rows for part in prepared.manifest.parts] == [2, 2, 0, 2, 2, 2]
    assert np.array_equal(prepared.images([3, 4, 9]), IMAGES[[3, 6, 11]])
    assert prepared.all_moments().shape == (10, 8, 8, 8)


@pytest.mark.parametrize(("spoiled", "first"), [(("bee",), "bee"), (("ant", "bee", "cat"), "ant")])
def test_class_without_a_readable_image(case: Case, spoiled: tuple[str, ...], first: str) -> None:
    case.corrupt(*(f"{name}/{i}.png" for name in spoiled for i in range(4)))
    message = rf"class '{first}' has no readable image left: fill or remove its folder, and delete {case.folder}"
    with pytest.raises(UserError, match=message):
        case.prepare(on_corrupt="skip")
    assert not (case.folder / "manifest.json").exists()
