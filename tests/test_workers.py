"""Processes that read ahead: how many, in which order, and what is told when one fails."""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gat.data import workers
from gat.data.workers import read_ahead, workers_for
from gat.errors import UserError

BOTH = pytest.mark.parametrize("count", [0, 2])


class Squares(Dataset[tuple[int, int]]):
    """The square of a key, and the process that computed it. Keys below zero are mistakes."""

    def __getitem__(self, key: int) -> tuple[int, int]:
        if key == -1:
            raise UserError("image 7: mend it\n") from KeyError("the reason")
        if key == -2:
            os.kill(os.getpid(), signal.SIGKILL)
        if key == -3:
            raise UserError("/data/a\nb.png: cannot be opened\x1b[2J")
        if key == -4:
            raise ZeroDivisionError("an error of ours")
        return key * key, os.getpid()


class Large(Dataset[tuple[int, bytes]]):
    """The process, and more than a pipe holds."""

    def __getitem__(self, key: int) -> tuple[int, bytes]:
        return os.getpid(), bytes(2**20)


def squares(keys: list[int], count: int) -> list[int]:
    return [square for square, _ in read_ahead(Squares(), keys, count)]


def error_of(read: Callable[[], object]) -> Exception:
    """What ``read`` raises."""
    try:
        read()
    except Exception as error:
        return error
    pytest.fail("no error")


def is_running(process: int) -> bool:
    """Neither gone nor dead and not yet waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# how many


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process of a machine with a GPU and eight cores that nothing has launched."""
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("images", "asked", "expected"), [(9_999, None, 0), (10_000, None, 8), (5, 3, 3), (10**6, 0, 0)]
)
def test_workers_by_size_unless_asked_for(
    eight_cores: pytest.MonkeyPatch, images: int, asked: int | None, expected: int
) -> None:
    assert workers_for(images, asked) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LOCAL_WORLD_SIZE": "4"}, 2),  # four processes share the machine
        ({"LOCAL_WORLD_SIZE": "16"}, 1),  # at least one
        ({"SLURM_CPUS_PER_TASK": "5"}, 5),
        ({"SLURM_CPUS_PER_TASK": "5", "LOCAL_WORLD_SIZE": "4"}, 5),  # SLURM's are of this process alone
        ({"SLURM_CPUS_PER_TASK": "64"}, 16),  # at most
        (
            {"SLURM_CPUS_PER_TASK": "6", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"},
            3,
        ),  # torchrun's ranks share
        ({"SLURM_CPUS_PER_TASK": ""}, 8),
    ],
)
def test_workers_by_the_cores_of_the_process(
    eight_cores: pytest.MonkeyPatch, environment: dict[str, str], expected: int
) -> None:
    for name, value in environment.items():
        eight_cores.setenv(name, value)
    assert workers_for(10_000, None) == expected


def test_without_a_gpu_the_main_process_has_the_cores(eight_cores: pytest.MonkeyPatch) -> None:
    eight_cores.setattr(torch.cuda, "is_available", lambda: False)
    assert (workers_for(10_000, None), workers_for(10_000, 3)) == (0, 3)


# what they read


@BOTH
def test_keys_in_order(count: int) -> None:
    assert squares([5, 3, 3, 8, 0, 1, 9], count) == [25, 9, 9, 64, 0, 1, 81]
    assert squares([], count) == []


@BOTH
def test_who_reads(count: int) -> None:
    readers = {process for _, process in read_ahead(Squares(), range(6), count)}
    assert len(readers) == max(count, 1)
    assert (os.getpid() in readers) == (count == 0)


@pytest.mark.parametrize(("count", "taken"), [(0, 1), (2, 7)])
def test_reads_ahead_no_further_than_asked_for(count: int, taken: int) -> None:
    """Three keys for each of two workers, and one in place of the key that was given."""
    asked: list[int] = []

    def keys() -> Iterator[int]:
        for key in range(100):
            asked.append(key)
            yield key

    batches = read_ahead(Squares(), keys(), count, prefetch=3)
    assert next(batches)[0] == 0
    assert len(asked) == taken


@BOTH
def test_global_random_numbers_are_left_alone(count: int) -> None:
    before = torch.get_rng_state()
    assert squares([1, 2, 3], count) == [1, 4, 9]
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_end_with_the_reading() -> None:
    before = set(multiprocessing.active_children())
    squares([1, 2, 3], 2)
    broken_off = read_ahead(Squares(), range(100), 2)
    next(broken_off)
    assert len(set(multiprocessing.active_children()) - before) == 2
    del broken_off
    assert set(multiprocessing.active_children()) <= before


# failures


@BOTH
def test_mistake_in_one_line(count: int) -> None:
    error = error_of(lambda: squares([1, -1, 2], count))
    assert type(error) is UserError
    assert str(error) == "image 7: mend it"


@BOTH
def test_mistake_in_a_file_whose_name_has_two_lines(count: int) -> None:
    error = error_of(lambda: squares([1, -3, 2], count))
    assert str(error) == "/data/a\\nb.png: cannot be opened\\x1b[2J"


def test_workers_end_after_a_mistake() -> None:
    """Although the error is still held: no collection of garbage has to wait for them."""
    before = set(multiprocessing.active_children())
    error = error_of(lambda: squares([1, -1, 2], 2))
    assert set(multiprocessing.active_children()) <= before
    assert error.__traceback__ is not None


@BOTH
def test_errors_of_ours_are_not_dressed_up(count: int) -> None:
    error = error_of(lambda: squares([1, -4, 2], count))
    assert type(error) is ZeroDivisionError
    assert "an error of ours" in str(error)


def test_worker_that_is_killed() -> None:
    error = error_of(lambda: squares([1, -2, 2], 2))
    assert type(error) is UserError
    assert str(error).startswith("a process that reads images has died (DataLoader worker (pid")
    assert str(error).endswith("): if memory ran out, set fewer loader.workers; the same command goes on from there")
    assert "\n" not in str(error)


class WithoutRoom(Dataset[tuple[int, Tensor, list[bytes]]]):
    """A small value, then values larger than the process's limit on files, in which PyTorch keeps shared memory."""

    def __getitem__(self, key: int) -> tuple[int, Tensor, list[bytes]]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
        return os.getpid(), torch.full((2**17 if key else 2**10,), key, dtype=torch.uint8), [b"a", bytes([key])]


def time_is_up(*_: object) -> NoReturn:
    raise TimeoutError


@pytest.fixture
def within_seconds() -> Iterator[None]:
    """Fail the test if the main process waits forever."""
    before = signal.signal(signal.SIGALRM, time_is_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("within_seconds")
def test_shared_memory_runs_full() -> None:
    with pytest.warns(UserWarning, match=r"/dev/shm is full: images come through pipes.*--shm-size"):
        values = list(read_ahead(WithoutRoom(), range(6), 2))
    assert [value[1].unique().tolist() for value in values] == [[key] for key in range(6)]
    assert [len(value[1]) for value in values] == [2**10] + 5 * [2**17]
    assert [value[2] for value in values] == [[b"a", bytes([key])] for key in range(6)]
    assert os.getpid() not in {value[0] for value in values}


def test_no_shared_memory_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "shared_bytes", lambda: 2 * workers.QUEUE_BYTES - 1)
    with pytest.warns(UserWarning, match="/dev/shm has no room for workers: the main process reads all images"):
        assert {process for _, process in read_ahead(Squares(), range(3), 2)} == {os.getpid()}
    assert os.getpid() not in {process for _, process in read_ahead(Squares(), range(3), 1)}


class Stuck(Dataset[int]):
    """A reader on a disk that does not respond."""

    def __getitem__(self, key: int) -> int:
        time.sleep(60)
        return key


@pytest.mark.usefixtures("within_seconds")
def test_workers_that_are_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TIMEOUT_S", 1)
    before = set(multiprocessing.active_children())
    error = error_of(lambda: list(read_ahead(Stuck(), range(4), 1)))
    assert type(error) is UserError
    assert str(error).startswith("the workers returned no images for 1 s: ")
    for reader in set(multiprocessing.active_children()) - before:
        reader.join(5)  # otherwise this process would wait for them at exit
    assert set(multiprocessing.active_children()) <= before


def test_workers_die_with_their_parent() -> None:
    """Although what they have read is not taken from them."""

    def read_and_stop(told: Connection) -> None:
        batches = read_ahead(Large(), range(100), 2)
        told.send([next(batches)[0] for _ in range(2)])
        time.sleep(60)

    ours, theirs = multiprocessing.Pipe()
    parent = multiprocessing.get_context("fork").Process(target=read_and_stop, args=(theirs,))
    parent.start()
    readers = ours.recv()
    assert [is_running(reader) for reader in readers] == [True, True]
    parent.kill()
    parent.join()
    until = time.monotonic() + 2  # PyTorch's own check takes five
    while any(is_running(reader) for reader in readers) and time.monotonic() < until:
        time.sleep(0.01)
    assert [is_running(reader) for reader in readers] == [False, False]
