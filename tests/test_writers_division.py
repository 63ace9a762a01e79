"""Samples written by several processes, killed ones among them: the bytes do not depend on who made what."""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gat.division import divide
from gat.errors import UserError
from gat.processes import joined
from gat.samples import writers
from gat.samples.writers import write_samples
from tests.conftest import compose_config
from tests.test_writers import (
    COUNT,
    FACTS,
    LABELS,
    LONG,
    SHARD,
    all_alone,
    alone,
    images_of,
    kind,
    nobody,
    stamps,
    tree,
    write,
)

__all__ = ["all_alone", "alone", "kind"]  # fixtures


# division


def started(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that imports the libraries at most once for all."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.test_writers"])
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def exits(*processes: BaseProcess) -> list[int | None]:
    """How processes end."""
    for process in processes:
        process.join(LONG)
    return [process.exitcode for process in processes]


def noted(rows: range, log: Path, together: Barrier) -> Iterator[NDArray[np.uint8]]:
    """Notes who makes what. Each process waits at its first shard until all have one."""
    if not list(log.glob(f"{os.getpid()}-*")):
        together.wait(LONG)
    (log / f"{os.getpid()}-{rows.start}").touch(exist_ok=False)
    yield from images_of(rows)


def one_of_four(out: Path, kind: str, log: Path, together: Barrier) -> None:
    write(out, kind, partial(noted, log=log, together=together))


def test_four_processes_write_what_one_writes(tmp_path: Path, kind: str, alone: dict[str, bytes]) -> None:
    (log := tmp_path / "log").mkdir()
    arguments = (tmp_path / "four/set", kind, log, get_context("forkserver").Barrier(4))
    assert exits(*[started(one_of_four, *arguments) for _ in range(4)]) == [0] * 4
    made = [file.name.split("-") for file in log.iterdir()]
    assert len({pid for pid, _ in made}) == 4
    assert sorted(int(first) for _, first in made) == [0, 4, 8, 12, 16, 20]
    assert tree(tmp_path / "four") == alone


def one_of_two(out: Path, kind: str, rank: int, port: int) -> None:
    """A rank of torchrun's."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {key: str(value) for key, value in places.items()}
    with joined(compose_config("training.device=cpu")) as processes, pytest.MonkeyPatch.context() as patch:
        assert processes.count == 2
        if rank:  # the main process alone finishes
            patch.delattr(writers.Writer, "close")
        files = write_samples(out, kind, COUNT, LABELS, images_of, FACTS, SHARD, processes)
        assert all(file.exists() for file in files)


def test_two_ranks(tmp_path: Path, all_alone: dict[str, dict[str, bytes]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert exits(*[started(one_of_two, tmp_path / "two/set", "npz", rank, port) for rank in range(2)]) == [0, 0]
    assert tree(tmp_path / "two") == all_alone["npz"]


def test_shards_that_another_has_already_put_together(
    tmp_path: Path, kind: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finishes when this one has just begun: it takes what is there, and makes nothing again."""

    def too_late(units: Sequence[Path], make: Callable[[int], None]) -> None:
        monkeypatch.setattr("gat.samples.writers.divide", divide)
        write(tmp_path / "late/set", kind)
        divide(units, make)

    monkeypatch.setattr("gat.samples.writers.divide", too_late)
    assert all(file.exists() for file in write(tmp_path / "late/set", kind, nobody))
    assert tree(tmp_path / "late") == alone


# interruptions


def stalled(rows: range, stop: Event) -> Iterator[NDArray[np.uint8]]:
    """Comes as far as the first batch of shard 2."""
    first, *others = images_of(rows)
    yield first
    if rows.start == 2 * SHARD:
        stop.set()
        time.sleep(LONG)
    yield from others


def to_be_killed(out: Path, kind: str, stop: Event) -> None:
    write(out, kind, partial(stalled, stop=stop))


def test_killed_in_the_middle_of_a_shard(tmp_path: Path, kind: str, alone: dict[str, bytes]) -> None:
    out, stop = tmp_path / "killed/set", get_context("forkserver").Event()
    process = started(to_be_killed, out, kind, stop)
    assert stop.wait(LONG)
    process.kill()
    assert exits(process) == [-signal.SIGKILL]
    finished = sorted(out.glob("samples-*.tar" if kind == "webdataset" else ".shards/00*"))
    assert len(finished) == 2
    half = list(out.rglob(".0*.????????" if kind == "npz" else ".samples-*.????????"))
    assert len(half) == (kind != "png")
    for name in (".000011.png.0a1b2c3d", "../.set.npz.0a1b2c3d"):  # as if killed a moment later
        (out / name).write_bytes(b"half")
    kept = sorted(out.glob("00000[0-7].png")) if kind == "png" else finished if kind == "webdataset" else []
    before, made = stamps(kept), []

    def resumed(rows: range) -> Iterator[NDArray[np.uint8]]:
        made.append(rows.start)
        return images_of(rows)

    write(out, kind, resumed)
    assert made == [8, 12, 16, 20]
    assert stamps(kept) == before
    if kind != "npz":
        (out / "../.set.npz.0a1b2c3d").unlink()  # not of this kind
    if kind != "png":
        (out / ".000011.png.0a1b2c3d").unlink()
    assert tree(tmp_path / "killed") == alone


def test_killed_between_the_last_shard_and_the_end(
    tmp_path: Path, kind: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed/set"

    def killed(_: writers.Writer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writers.Writer, "close", killed)
        with pytest.raises(KeyboardInterrupt):
            write(out, kind)
    write(out, kind, nobody)
    assert tree(tmp_path / "killed") == alone


def test_hidden_files_of_the_user_are_left_alone(tmp_path: Path, kind: str, alone: dict[str, bytes]) -> None:
    """Files and folders with names like half-written ones stay, beside the samples and in their folder, finished or not."""
    out = tmp_path / "mine/set"
    own = {".backup.20250101": "folder", ".notes.markdown": "file", "../.set.npz.20250101": "folder"}
    for name, what in own.items():
        (out / name).mkdir(parents=True) if what == "folder" else (out / name).write_text("mine")
    for _ in range(2):
        write(out, kind)
        assert {name: "folder" if (out / name).is_dir() else "file" for name in own if (out / name).exists()} == own
    (out / ".notes.markdown").unlink()
    assert tree(tmp_path / "mine") == alone


def test_finished_samples_are_left_alone(tmp_path: Path, kind: str) -> None:
    files = write(tmp_path / "set", kind)
    before = stamps([*files, tmp_path / "set", tmp_path / "set/samples.json"])
    assert write(tmp_path / "set", kind, nobody) == files
    assert stamps([*files, tmp_path / "set", tmp_path / "set/samples.json"]) == before


def test_a_lost_file_is_made_again(tmp_path: Path, kind: str, alone: dict[str, bytes]) -> None:
    write(out := tmp_path / "set", kind)
    (tmp_path / "set.npz" if kind == "npz" else sorted(out.iterdir())[1]).unlink()
    assert tree(tmp_path) != alone
    write(out, kind)
    assert tree(tmp_path) == alone


@pytest.mark.parametrize("good", [0, 1, 3, "all but one"])
def test_disk_full(
    tmp_path: Path, kind: str, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, good: int | str
) -> None:
    """After ``good`` files: one line, only whole files, and the same command goes on."""
    files = {"png": 1 + COUNT + 6 + 1, "webdataset": 1 + 6, "npz": 1 + 6 + 1}[kind]
    flushed: list[int] = []

    def flush(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) > (good if isinstance(good, int) else files - 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "full/set"
    reason = r"cannot be written \(No space left on device\): make room or mend its permissions; then the same command"
    with monkeypatch.context() as patch:
        patch.setattr("gat.files.os.fsync", flush)
        with pytest.raises(UserError, match=f"^{out}: {reason} goes on where it was$"):
            write(out, kind)
    left = {name: held for name, held in tree(tmp_path / "full").items() if "/." not in name}
    assert left.items() <= alone.items()
    assert not list((tmp_path / "full").rglob(".*.????????"))
    write(out, kind)
    assert tree(tmp_path / "full") == alone


def test_images_of_the_wrong_number(tmp_path: Path, kind: str) -> None:
    for size in (SHARD - 1, SHARD + 1):
        with pytest.raises(ValueError, match="shorter|longer|images for range"):
            write(tmp_path / "set", kind, lambda _, size=size: images_of(range(size)))  # type: ignore[misc]
        assert not list(tmp_path.rglob("set/*.tar"))
        assert not list(tmp_path.rglob("set/.shards/0*"))
