"""Work in shards: each made once, by whoever comes, and again where its maker was killed."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from gat.division import divide, missing
from gat.files import replacing


def files_in(folder: Path, count: int = 6) -> list[Path]:
    return [folder / f"shard-{i}" for i in range(count)]


def write(folder: Path, i: int, pause_s: float = 0.0) -> None:
    """A shard whose content says who made it; a line in the log for each beginning."""
    with (folder / "log").open("a") as log:
        log.write(f"{i}\n")
    with replacing(files_in(folder)[i]) as stream:
        stream.write(f"{i} by {os.getpid()}".encode())
        time.sleep(pause_s)


def work(folder: Path, pause_s: float) -> None:
    divide(files_in(folder), lambda i: write(folder, i, pause_s))


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files[2].write_text("there")
    work(tmp_path, 0)
    assert (tmp_path / "log").read_text().split() == ["0", "1", "3", "4", "5"]
    assert files[2].read_text() == "there"
    assert missing(files) == []
    work(tmp_path, 0)
    assert len((tmp_path / "log").read_text().split()) == 5


def test_processes_share_the_work(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(tmp_path, 0.1)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert sorted((tmp_path / "log").read_text().split()) == list("012345")
    makers = {file.read_text().split(" by ")[1] for file in files_in(tmp_path)}
    assert len(makers) > 1


def test_a_killed_process_leaves_its_shard_to_the_next(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    slow = context.Process(target=work, args=(tmp_path, 60))
    slow.start()
    while not list(tmp_path.glob(".shard-0.*")):
        time.sleep(0.01)
    waiting = context.Process(target=work, args=(tmp_path, 0))
    waiting.start()
    while missing(files_in(tmp_path)) != [0]:  # the other five are made meanwhile
        time.sleep(0.01)
    assert slow.pid is not None
    os.kill(slow.pid, signal.SIGKILL)
    waiting.join(30)
    assert waiting.exitcode == 0
    assert missing(files_in(tmp_path)) == []
    assert not list(tmp_path.glob(".shard-*"))


def test_a_folder_that_looks_like_a_leftover_is_left_alone(tmp_path: Path) -> None:
    backup, left = tmp_path / ".shard-0.20250101", tmp_path / ".shard-0.0123abcd"
    backup.mkdir()
    left.touch()
    work(tmp_path, 0)
    assert (backup.is_dir(), left.exists()) == (True, False)


def test_an_error_leaves_the_shard_missing(tmp_path: Path) -> None:
    def fail(i: int) -> None:
        if i == 3:
            raise ZeroDivisionError
        write(tmp_path, i)

    with pytest.raises(ZeroDivisionError):
        divide(files_in(tmp_path), fail)
    assert missing(files_in(tmp_path)) == [3, 4, 5]
    work(tmp_path, 0)
    assert missing(files_in(tmp_path)) == []
