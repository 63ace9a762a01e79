"""Samples on disk: what the files hold, the same bytes whoever made them, and what interruptions leave."""

import io
import json
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gat.errors import UserError
from gat.samples import writers
from gat.samples.writers import KINDS, ImagesOf, write_samples

COUNT, SHARD, PX = 23, 4, 8  # shards of 4, 4, 4, 4, 4 and 3
LABELS = np.arange(COUNT, dtype=np.int64) * 7 % 5
FACTS = {"seed": 3, "truncation": 0.5, "checkpoint": "ä.safetensors"}
LONG = 30  # seconds; what is waited for takes one or two


def image(row: int) -> NDArray[np.uint8]:
    return np.random.default_rng(row).integers(0, 256, (PX, PX, 3), np.uint8)


def images_of(rows: range, batch: int = 3) -> Iterator[NDArray[np.uint8]]:
    """Batches of 3: a shard is one of 3 and one of 1."""
    for start in range(0, len(rows), batch):
        yield np.stack([image(row) for row in rows[start : start + batch]])


def nobody(rows: range) -> Iterator[NDArray[np.uint8]]:
    raise AssertionError(f"{rows} were made again")


def write(out: Path, kind: str, source: ImagesOf = images_of) -> list[Path]:
    return write_samples(out, kind, COUNT, LABELS, source, FACTS, SHARD)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stamps(files: list[Path]) -> list[tuple[int, int]]:
    """What changes when a file is written again."""
    return [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def all_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Every kind as one process writes it, never interrupted."""
    folder = tmp_path_factory.mktemp("alone")
    for kind in KINDS:
        write(folder / kind / "set", kind)
    return {kind: tree(folder / kind) for kind in KINDS}


@pytest.fixture
def alone(all_alone: dict[str, dict[str, bytes]], kind: str) -> dict[str, bytes]:
    return all_alone[kind]


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cuts are not tested here, and waiting for the disk takes most of the time."""
    monkeypatch.setattr("gat.files.os.fsync", lambda _: None)


# what the files hold


def test_png(tmp_path: Path) -> None:
    files = write(tmp_path / "set", "png")
    names = [f"{row:06d}.png" for row in range(COUNT)]
    assert files == [*(tmp_path / "set" / name for name in names), tmp_path / "set/labels.csv"]
    assert sorted(tree(tmp_path)) == sorted(f"set/{name}" for name in [*names, "labels.csv", "samples.json"])
    for row, file in enumerate(files[:-1]):
        with Image.open(file) as opened:
            assert (opened.format, opened.mode) == ("PNG", "RGB")
            assert np.array_equal(np.asarray(opened), image(row))
    table = files[-1].read_bytes().decode().split("\n")
    assert table[:3] == ["file,class", "000000.png,0", "000001.png,2"]
    assert table[1:] == [f"{name},{label}" for name, label in zip(names, LABELS, strict=True)] + [""]


def test_webdataset(tmp_path: Path) -> None:
    files = write(tmp_path / "set", "webdataset")
    assert files == [tmp_path / f"set/samples-{number:06d}.tar" for number in range(6)]
    assert sorted(tree(tmp_path)) == sorted(["set/samples.json", *(f"set/{file.name}" for file in files)])
    for number, file in enumerate(files):
        rows = range(COUNT)[number * SHARD : (number + 1) * SHARD]
        with tarfile.open(file, "r:") as archive:
            assert archive.getnames() == [f"{row:06d}.{suffix}" for row in rows for suffix in ("png", "cls", "json")]
            contents = [archive.extractfile(member) for member in archive.getmembers()]
            held = [content.read() for content in contents if content]
            times = {(member.mtime, member.uid, member.gid, member.uname) for member in archive.getmembers()}
        assert times == {(0, 0, 0, "")}
        for row, png, label, facts in zip(rows, held[::3], held[1::3], held[2::3], strict=True):
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), image(row))
            assert label == str(LABELS[row]).encode()
            assert json.loads(facts) == FACTS | {"index": row, "class": int(LABELS[row])}


def test_npz_is_that_of_numpy(tmp_path: Path) -> None:
    assert write(tmp_path / "set", "npz") == [tmp_path / "set.npz"]
    expected = np.concatenate(list(images_of(range(COUNT))))
    with np.load(tmp_path / "set.npz") as arrays:
        assert arrays.files == ["arr_0", "arr_1"]
        assert np.array_equal(arrays["arr_0"], expected)
        assert np.array_equal(arrays["arr_1"], LABELS)
        assert [arrays[name].dtype for name in arrays.files] == [np.uint8, np.int64]
    np.savez(tmp_path / "numpy.npz", expected, LABELS)
    assert (tmp_path / "set.npz").read_bytes() == (tmp_path / "numpy.npz").read_bytes()
    assert sorted(tree(tmp_path)) == ["numpy.npz", "set.npz", "set/samples.json"]
    assert write(tmp_path / "set.npz", "npz", nobody) == [tmp_path / "set.npz"]  # its name is as good as the folder's


def test_npz_is_never_in_memory(tmp_path: Path) -> None:
    """12 MB of images in 40 shards: less than three shards at any time."""
    count, shard, px = 1000, 25, 64

    def batches(rows: range) -> Iterator[NDArray[np.uint8]]:
        return (np.full((5, px, px, 3), start % 256, np.uint8) for start in rows[::5])

    tracemalloc.start()
    try:
        (file,) = write_samples(tmp_path / "set", "npz", count, np.zeros(count, np.int64), batches, {}, shard)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.stat().st_size > count * px * px * 3
    assert peak < 3 * shard * px * px * 3
    with np.load(file) as arrays:
        assert (arrays["arr_0"][:, 5, 6, 2] == np.arange(count) // 5 * 5 % 256).all()


def test_what_stands_in_samples_json(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "set", kind)
    held = json.loads((tmp_path / "set/samples.json").read_text())
    digest = held.pop("labels_sha256")
    assert held == {"kind": kind, "count": COUNT, "shard": SHARD} | FACTS
    assert len(digest) == 64


def test_more_than_a_million_have_more_digits(tmp_path: Path) -> None:
    labels = np.zeros(10**7 + 1, np.int64)
    writer = writers.WebDatasetWriter(tmp_path, labels, images_of, {}, 10**6)
    assert (writer.name(0), writer.name(10**7)) == ("00000000", "10000000")
    assert writer.units[-1].name == "samples-00000010.tar"


# refusals


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"facts": FACTS | {"truncation": 0.0}}, "truncation: 0.5, not 0.0"),
        ({"facts": {"seed": 3, "truncation": 0.5}}, 'checkpoint: ".*", not nothing'),
        ({"facts": FACTS | {"decoder": "ema"}}, 'decoder: nothing, not "ema"'),
        ({"shard": 5}, "shard: 4, not 5"),
        ({"labels": LABELS[::-1]}, 'labels_sha256: "[0-9a-f]+, not "[0-9a-f]+'),
        ({"count": 22, "labels": LABELS[:22]}, "count: 23, not 22; labels_sha256: .*"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, kind: str, changes: dict[str, object], told: str) -> None:
    out = tmp_path / "set"
    write(out, kind)
    before = tree(tmp_path)
    asked = {"count": COUNT, "labels": LABELS, "images_of": nobody, "facts": FACTS, "shard": SHARD} | changes
    message = rf"^{out}: holds samples of other settings \({told}\): name another folder, or delete it$"
    with pytest.raises(UserError, match=message):
        write_samples(out, kind, **asked)  # type: ignore[arg-type]
    assert tree(tmp_path) == before


def test_unfinished_samples_of_other_settings_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(AssertionError, match=r"range\(0, 4\) were made again"):
        write(tmp_path / "set", kind, nobody)
    with pytest.raises(UserError, match="seed: 3, not 4"):
        write_samples(tmp_path / "set", kind, COUNT, LABELS, images_of, FACTS | {"seed": 4}, SHARD)
    other = KINDS[KINDS.index(kind) - 1]
    with pytest.raises(UserError, match=rf'of other settings \(kind: "{kind}", not "{other}"\)'):
        write(tmp_path / "set", other)


def test_equal_facts_in_other_words(tmp_path: Path, kind: str) -> None:
    """Tuples are lists in JSON, NaN is NaN, and the order of names says nothing."""
    one, other = {"a": (1, 2), "b": float("nan")}, {"b": float("nan"), "a": [1, 2]}
    files = write_samples(tmp_path / "one/set", kind, COUNT, LABELS, images_of, one, SHARD)
    assert write_samples(tmp_path / "one/set", kind, COUNT, LABELS, nobody, other, SHARD) == files
    others = write_samples(tmp_path / "other/set", kind, COUNT, LABELS, images_of, other, SHARD)
    assert [file.read_bytes() for file in others] == [file.read_bytes() for file in files]


@pytest.mark.parametrize("name", ["set/thesis.tex", "set/labels.csv", "set.npz"])
def test_something_else_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / name).write_text("years of work")
    with pytest.raises(
        UserError, match=rf"^{tmp_path / name}: is in the way, and no samples\.json says what it is: name"
    ):
        write(tmp_path / "set", "npz")
    assert tree(tmp_path) == {"set/.lock": b"", name: b"years of work"}


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"null", b"[1]", b"\xff"])
def test_damaged_samples_json(tmp_path: Path, kind: str, content: bytes) -> None:
    write(tmp_path / "set", kind)
    (file := tmp_path / "set/samples.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"^{file}: cannot be read \(.+\): delete its folder, or name another one$"):
        write(tmp_path / "set", kind)


def test_a_file_where_the_folder_should_be(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/set: cannot be written \(Not a directory\)"):
        write(tmp_path / "file/set", kind)


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    labels = np.zeros(0, np.int64)
    with pytest.raises(UserError, match=r"^kind='zip' is unknown: choose one of png, webdataset, npz$"):
        write(tmp_path / "set", "zip")
    with pytest.raises(UserError, match=r"^count=0 must be at least 1$"):
        write_samples(tmp_path / "set", "png", 0, labels, images_of, {})
    with pytest.raises(UserError, match=r"^shard=-1 must be at least 1$"):
        write_samples(tmp_path / "set", "png", COUNT, LABELS, images_of, {}, -1)
    assert not tree(tmp_path)
