"""Preparation by several at once: one set, the same bytes whoever makes which part, and no loss when one is killed."""

import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from gat import files
from gat.data import claims, making, parts
from gat.data import prepare as module
from gat.data.parts import PartWriter
from gat.data.plan import Plan
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from tests.preparing import (
    Case,
    assert_equal_sets,
    finished_parts,
    in_the_middle,
    make_case,
    names_in,
    parts_made,
    parts_of_four,
)

LONG = 30  # seconds; what is waited for takes one or two


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    parts_of_four(monkeypatch)
    return make_case(tmp_path)


@pytest.fixture
def alone(case: Case) -> Case:
    """The set as one process makes it."""
    other = case.elsewhere("alone")
    other.prepare()
    return other


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(case: Case, alone: Case, workers: int) -> None:
    case.prepare(workers)
    assert_equal_sets(case, alone)


def test_order_changes_nothing(case: Case, alone: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    missing_parts = claims.missing_parts
    begun = parts_made(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(making, "missing_parts", lambda *arguments: missing_parts(*arguments)[::-1])
        case.prepare()
    assert begun == [2, 1, 0]
    assert_equal_sets(case, alone)


@pytest.mark.parametrize("makers", [2, 3])
def test_parts_are_divided_among_all(case: Case, alone: Case, monkeypatch: pytest.MonkeyPatch, makers: int) -> None:
    """Each waits at its first part until all have one; then each part has been made once, and the set finished once."""
    together = threading.Barrier(makers)
    shares: dict[int, list[int]] = {}
    writing_part, finish = parts.writing_part, module.finish
    finished: list[Plan] = []

    def spied(folder: Path, number: int, shape: tuple[int, ...]) -> AbstractContextManager[PartWriter]:
        share = shares.setdefault(threading.get_ident(), [])
        share.append(number)
        if len(share) == 1:
            together.wait(LONG)
        return writing_part(folder, number, shape)

    def counted(planned: Plan) -> None:
        finished.append(planned)
        finish(planned)

    with monkeypatch.context() as patch, ThreadPoolExecutor(makers) as pool:
        patch.setattr(making, "writing_part", spied)
        patch.setattr(module, "finish", counted)
        sets = [future.result(LONG) for future in [pool.submit(case.prepare) for _ in range(makers)]]
    assert len(shares) == makers
    assert len(finished) == 1
    assert sorted(number for share in shares.values() for number in share) == [0, 1, 2]
    assert [len(prepared) for prepared in sets] == [12] * makers
    assert names_in(case.cache) == {case.folder.name, f".{case.folder.name}.lock"}
    assert_equal_sets(case, alone)


def test_one_makes_it_the_others_wait(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one makes the only part, another asks for the same set: it waits, says so, and takes what the first made."""
    monkeypatch.setattr("gat.data.claims.PART_ROWS", 4096)
    begun = parts_made(monkeypatch)
    calls: list[Future[PreparedSet]] = []
    said: list[str] = []
    waits = threading.Event()

    def tell(text: str, **_: object) -> None:
        said.append(text)
        waits.set()

    def ask() -> None:
        calls.append(pool.submit(case.prepare))
        assert waits.wait(LONG)

    monkeypatch.setattr(files, "print", tell, raising=False)
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        in_the_middle(patch, ask)
        prepared = case.prepare()
        other = calls[0].result(LONG)
    assert begun == [0]
    assert (len(prepared), other.manifest) == (12, prepared.manifest)
    assert said[0].startswith(f"waiting for another process that is preparing {case.folder} (")


def test_corrupt_image_stops_all(case: Case) -> None:
    """Whoever waits for the part tries it too, and finds the same; nobody waits for good."""
    case.corrupt("bee/3.png")
    with ThreadPoolExecutor(2) as pool:
        errors = [future.exception(LONG) for future in [pool.submit(case.prepare) for _ in range(2)]]
    assert all(isinstance(error, UserError) for error in errors)
    assert all("1 of 12 images are corrupt, first:" in str(error) for error in errors)
    assert finished_parts(case.folder) == [0, 2]


def stall(case: Case, stalled: Event) -> None:
    """A process that does not come beyond the middle of part 1."""

    def stop() -> None:
        stalled.set()
        threading.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        parts_of_four(patch)
        in_the_middle(patch, stop)
        case.prepare()


def follow(case: Case, waits: Event, done: Connection) -> None:
    """A process that tells when it waits for another, and which parts it made."""
    with pytest.MonkeyPatch.context() as patch:
        parts_of_four(patch)
        begun = parts_made(patch)
        patch.setattr(files, "print", lambda *_, **__: waits.set(), raising=False)
        case.prepare()
    done.send(begun)


def test_killed_in_the_middle_of_a_part(case: Case, alone: Case) -> None:
    """Another process makes what is free, waits for the part, and makes that too when its maker is killed."""
    context = get_context("forkserver")  # two fresh processes, but the libraries are imported once
    context.set_forkserver_preload(["gat.data.prepare"])
    stalled, waits, (result, done) = context.Event(), context.Event(), context.Pipe(duplex=False)
    killed = context.Process(target=stall, args=(case, stalled), daemon=True)
    other = context.Process(target=follow, args=(case, waits, done), daemon=True)
    killed.start()
    assert stalled.wait(LONG)
    other.start()
    assert waits.wait(LONG)
    assert {f.name for f in case.folder.glob("part-*.json")} == {"part-00000.json", "part-00002.json"}
    killed.kill()
    assert result.poll(LONG)
    assert result.recv() == [2, 1]
    for process in (killed, other):
        process.join(LONG)
    assert (killed.exitcode, other.exitcode) == (-signal.SIGKILL, 0)
    assert_equal_sets(case, alone)
