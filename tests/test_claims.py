"""Who makes which part: rows of parts, what is missing, and locks."""

from pathlib import Path

import pytest

from gat.data.claims import Claims, missing_parts, part_count, part_rows, under_way
from gat.data.parts import PartInfo, part_file
from tests.preparing import Case, make_case, parts_of_four


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Three parts of four images."""
    parts_of_four(monkeypatch)
    return make_case(tmp_path)


def finish(folder: Path, part: int) -> None:
    PartInfo(part, rows=4, bytes=0, sha256="").write(folder)


# parts


def test_rows_of_parts() -> None:
    assert [part_count(count) for count in (1, 4096, 4097, 1_281_167)] == [1, 1, 2, 313]
    assert part_rows(0, 12) == range(12)
    assert part_rows(0, 4097) == range(4096)
    assert part_rows(1, 4097) == range(4096, 4097)
    assert part_rows(312, 1_281_167) == range(1_277_952, 1_281_167)


def test_missing_parts_lack_their_info(tmp_path: Path) -> None:
    finish(tmp_path, 1)
    part_file(tmp_path, 2).touch()  # samples without the .json are not there
    assert missing_parts(tmp_path, 3 * 4096 + 1) == [0, 2, 3]


# claims


def claims(folder: Path, *parts: int, count: int = 10, batch_size: int = 3) -> Claims:
    return Claims(folder, list(parts), count, batch_size)


def test_batches_end_with_their_part(case: Case) -> None:
    """Ten images in parts of four: the last has two."""
    batches = list(claims(case.place, 0, 1, 2))
    assert batches == [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9]]
    assert list(claims(case.place / "vae", 2, 0, batch_size=4)) == [[8, 9], [0, 1, 2, 3]]


def test_parts_are_taken_one_by_one(case: Case) -> None:
    first, second = claims(case.place, 0, 1, 2), claims(case.place, 0, 1, 2)
    ours, theirs = iter(first), iter(second)
    assert under_way(case.place, 3) == 0
    assert next(ours) == [0, 1, 2]
    assert next(theirs) == [4, 5, 6]
    assert under_way(case.place, 3) == 2
    assert list(ours) == [[3], [8, 9]]
    assert list(theirs) == [[7]]
    assert list(claims(case.place, 0, 1, 2)) == []
    assert under_way(case.place, 3) == 3


def test_released_part_is_free_unless_it_is_made(case: Case) -> None:
    holder = claims(case.place, 0, 1)
    assert len(list(holder)) == 4
    for part in (0, 1):
        holder.release(part)
    finish(case.place, 1)
    assert under_way(case.place, 3) == 0
    assert list(claims(case.place, 0, 1)) == [[0, 1, 2], [3]]


def test_made_part_is_not_kept_locked(case: Case) -> None:
    finish(case.place, 0)
    mine = claims(case.place, 0)
    assert list(mine) == []
    assert mine.locks == {}
    assert under_way(case.place, 3) == 0
