"""Parts: whole or not there, readable by any Arrow reader, and random access to what was written."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from gat.data.codec import encode_image
from gat.data.parts import Part, PartInfo, info_file, part_file, read_info, writing_part
from gat.errors import UserError
from gat.files import sha256
from tests.data_helpers import random_images

SHAPE = (4, 2, 2)
ROWS = 600  # chunks of 256, 256 and 88
PX = 8


def moments_of(rows: int) -> NDArray[np.float16]:
    """Row i holds 0.25 i, 0.25 i + 1, ... (exact in half precision)."""
    return (np.arange(rows)[:, None] / 4 + np.arange(16)).reshape(rows, *SHAPE).astype(np.float16)


def files_of(rows: int) -> list[bytes]:
    """Bytes of different lengths, which stand for image files."""
    return [bytes([i % 251]) * (1 + i % 7) for i in range(rows)]


def write(folder: Path, pieces: tuple[int, ...], images: list[bytes] | None = None, number: int = 3) -> PartInfo:
    """A part written piece by piece: labels i % 5, sources 1000 + i."""
    rows = sum(pieces)
    moments, images = moments_of(rows), files_of(rows) if images is None else images
    start = 0
    with writing_part(folder, number, SHAPE) as writer:
        for size in pieces:
            some = range(start, start + size)
            labels, sources = [i % 5 for i in some], [1000 + i for i in some]
            writer.add(moments[start : some.stop], images[start : some.stop], labels, sources)
            start = some.stop
    return PartInfo(number, writer.rows, writer.sink.bytes, writer.sink.hash.hexdigest())


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@pytest.fixture
def part(tmp_path: Path) -> Part:
    write(tmp_path, (ROWS,))
    return Part(part_file(tmp_path, 3), ROWS, SHAPE)


# writing


def test_names(tmp_path: Path) -> None:
    assert part_file(tmp_path, 42) == tmp_path / "part-00042.arrow"
    assert info_file(tmp_path, 42) == tmp_path / "part-00042.json"


def test_counts_and_checksum_are_those_of_the_file(tmp_path: Path) -> None:
    info, file = write(tmp_path, (ROWS,)), part_file(tmp_path, 3)
    assert info.rows == ROWS
    assert info.bytes == file.stat().st_size
    assert info.sha256 == hashlib.sha256(file.read_bytes()).hexdigest() == sha256(file)


def test_pieces_do_not_show(tmp_path: Path) -> None:
    expected = write(tmp_path, (ROWS,))
    for pieces in ((1, 255, 256, 88), (300, 300), (0, 599, 1)):
        assert write(tmp_path, pieces) == expected


def test_any_arrow_reader_opens_it(tmp_path: Path) -> None:
    write(tmp_path, (ROWS,))
    reader = pa.ipc.open_stream(part_file(tmp_path, 3).read_bytes())
    names = {"moments": "fixed_size_list<item: halffloat>[16]", "image": "binary", "label": "int64", "source": "int64"}
    assert {field.name: str(field.type) for field in reader.schema} == names
    batches = list(reader)
    assert [len(batch) for batch in batches] == [256, 256, 88]
    row = batches[1].slice(3, 1).to_pylist()[0]  # 259
    assert row["moments"] == [64.75 + i for i in range(16)]
    assert (row["image"], row["label"], row["source"]) == (bytes([8]), 4, 1259)


def test_a_part_whose_images_were_all_left_out(tmp_path: Path) -> None:
    write(tmp_path, ())
    part = Part(part_file(tmp_path, 3), 0, SHAPE)
    assert part.labels().tolist() == []
    assert part.moments == []


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    write(tmp_path, (3,), number=0)
    before = part_file(tmp_path, 0).read_bytes()
    for number in (0, 1):  # the second image is none: found when a chunk is full
        with pytest.raises(TypeError, match="'int'"), writing_part(tmp_path, number, SHAPE) as writer:
            writer.add(moments_of(300), [b"", 5, *files_of(298)], range(300), range(300))  # type: ignore[list-item]
    assert names_in(tmp_path) == ["part-00000.arrow"]
    assert part_file(tmp_path, 0).read_bytes() == before


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"), writing_part(tmp_path, 0, SHAPE) as writer:
        writer.add(moments_of(3), files_of(3), [0, 1], range(3))
    assert names_in(tmp_path) == []


# what it is


def test_info_round_trip(tmp_path: Path) -> None:
    info = PartInfo(7, 11, 12345, "ab" * 32, ["Käfer/1.png: truncated"], upscaled=2, squared_error=0.1, squares=1e9)
    info.write(tmp_path)
    assert read_info(tmp_path, 7) == info


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"number": 7}', '{"number": 7, "colour": 1}', "\udcff"])
def test_damaged_info(tmp_path: Path, content: str) -> None:
    info_file(tmp_path, 7).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"part-00007\.json: cannot be read \(.+\): delete it, and prepare again"):
        read_info(tmp_path, 7)


# reading


def test_rows_across_chunks(part: Part) -> None:
    for row in (0, 255, 256, 511, 512, 599):
        assert part.moment(row).dtype == np.float16
        assert np.array_equal(part.moment(row), moments_of(ROWS)[row])
        assert bytes(part.encoded(row)) == files_of(ROWS)[row]
    assert part.labels().tolist() == [i % 5 for i in range(ROWS)]


def test_images(tmp_path: Path) -> None:
    images = random_images(5, PX)
    write(tmp_path, (5,), [encode_image(pixels, "webp", None) for pixels in images])
    part = Part(part_file(tmp_path, 3), 5, SHAPE)
    for row in (4, 0):
        assert np.array_equal(part.image(row, PX), images[row])


def test_parts_are_mapped_and_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path, (ROWS,))
    before = pa.total_allocated_bytes()
    part = Part(part_file(tmp_path, 3), ROWS, SHAPE)
    assert pa.total_allocated_bytes() <= before
    assert str(part.file) in Path("/proc/self/maps").read_text()
    assert not part.moment(0).flags.writeable


# what is no part


def refusal(file: Path, reason: str) -> str:
    return (
        rf"^{file}: not the part that its manifest lists \({reason}\): delete it, its \.json and manifest\.json, and "
        r"prepare again \(the other parts are kept\)$"
    )


def test_other_counts(part: Part) -> None:
    kind = r"fixed_size_list<item: halffloat>\[16\]"
    with pytest.raises(UserError, match=refusal(part.file, f"600 rows of {kind}, not 599 of 16 float16")):
        Part(part.file, ROWS - 1, SHAPE)
    with pytest.raises(UserError, match=refusal(part.file, f"600 rows of {kind}, not 600 of 32 float16")):
        Part(part.file, ROWS, (8, 2, 2))


def test_missing_truncated_or_something_else(part: Part) -> None:
    file, whole = part.file, part.file.read_bytes()
    for content in (b"", b"x", b"no Arrow file" * 100, whole[: len(whole) // 2], b"PK" + whole[2:]):
        file.unlink()  # `part` still maps the old one
        file.write_bytes(content)
        with pytest.raises(UserError, match=refusal(file, ".+")):
            Part(file, ROWS, SHAPE)
    file.unlink()
    with pytest.raises(UserError, match=refusal(file, ".*No such file or directory.*")):
        Part(file, ROWS, SHAPE)


@pytest.mark.parametrize("missing", ["moments", "image", "label"])
def test_arrow_file_without_a_column(tmp_path: Path, missing: str) -> None:
    columns = {"moments": pa.array([[0.0] * 16] * 2, pa.list_(pa.float16(), 16)), "image": [b"", b""], "label": [0, 1]}
    table = pa.table({name: values for name, values in columns.items() if name != missing})
    with pa.ipc.new_stream(str(tmp_path / "x.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(UserError, match=refusal(tmp_path / "x.arrow", f".*{missing}.*")):
        Part(tmp_path / "x.arrow", 2, SHAPE)


def test_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    image = encode_image(random_images(1, PX)[0], "webp", None)
    write(tmp_path, (3,), [image, image[:30], b"no image"])
    part = Part(part_file(tmp_path, 3), 3, SHAPE)
    remedy = r"delete it, its \.json and manifest\.json"
    for row, side in ((1, PX), (2, PX), (0, 2 * PX)):
        with pytest.raises(UserError, match=rf"^{part.file}: row {row} has no image \(.+\): {remedy}"):
            part.image(row, side)
