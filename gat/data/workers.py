"""Processes that read ahead: PyTorch's DataLoader, one key at a time, in the order of the keys."""

import ctypes
import os
import pickle
import shutil
import signal
import traceback
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from gat.errors import UserError
from gat.platform import cores

SMALL = 10_000  # images; fewer are read without worker processes, unless they are asked for
MOST = 16
PREFETCH = 4
SCHEDULERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
TIMEOUT_S = 600
SHARED_MEMORY = Path("/dev/shm")
QUEUE_BYTES = 2**17  # of shared memory, needed by the queues of one worker
REMEDY = "give the container more shared memory (docker run --shm-size=8g)"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def workers_for(images: int, workers: int | None) -> int:
    """``loader.workers``; null stands for one per core of this process, up to 16.

    For none, however, below 10,000 images, and where there is no GPU: there the main process needs the cores itself.
    """
    if workers is not None:
        return workers
    if images < SMALL or not torch.cuda.is_available():
        return 0
    of_task, ranks = int(os.environ.get("SLURM_CPUS_PER_TASK") or 0), int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if of_task and "TORCHELASTIC_RUN_ID" not in os.environ:  # a task per rank; torchrun's ranks share one
        ranks = 1
    return min(max(1, (of_task or cores()) // ranks), MOST)


def read_ahead(
    reader: Dataset[Any], keys: Iterable[Any], workers: int, prefetch: int = PREFETCH, *, pin: bool = False
) -> Generator[Any, None, None]:
    """Yield ``reader[key]`` for every key, read by ``workers`` processes (0: this one), each ``prefetch`` keys ahead.

    ``pin``: into pinned memory. When shared memory runs out, batches are sent through pipes; with too little for the workers'
    queues, this process reads. Raises :class:`UserError` if a worker raises one, dies, or returns nothing for 10 minutes.
    """
    if workers and shared_bytes() < workers * QUEUE_BYTES:
        warnings.warn(
            f"{SHARED_MEMORY} has no room for workers: the main process reads all images; {REMEDY}", stacklevel=2
        )
        workers = 0
    loader = DataLoader(
        Sender(reader) if workers else reader,
        sampler=keys,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        timeout=TIMEOUT_S if workers else 0,
        multiprocessing_context=ReaderContext() if workers else None,
        worker_init_fn=live_with_parent,
        generator=torch.Generator(),  # its seeds are not used: leave the global one alone
    )
    with told_plainly():
        try:
            for value in loader:
                yield received(value)
        except Exception as error:
            traceback.clear_frames(
                error.__traceback__
            )  # they hold the workers, in a cycle whose collection would stall
            raise


class Packed(NamedTuple):
    """A pickled value, sent through a pipe instead of shared memory."""

    content: bytes


class Mistake(NamedTuple):
    """The message of a :class:`UserError` that a worker raised."""

    message: str


class Sender(Dataset[Any]):
    """A worker's ``reader``, which moves values to shared memory until that is full, and pickles them from then on.

    PyTorch would move them later, in a thread whose errors are lost: the main process would wait forever.
    """

    def __init__(self, reader: Dataset[Any]) -> None:
        self.reader, self.room = reader, True

    def __getitem__(self, key: Any) -> Any:
        try:
            value = default_convert(self.reader[key])
        except UserError as error:
            return Mistake(str(error))
        if self.room:
            try:
                for tensor in tensors_in(value):
                    tensor.share_memory_()
            except RuntimeError:  # PyTorch found no space left
                self.room = False
        return value if self.room else Packed(pickle.dumps(value))


def received(value: Any) -> Any:
    """Unpack a value sent by a :class:`Sender`; raise the :class:`UserError` that it sent instead."""
    if isinstance(value, Mistake):
        raise UserError(value.message)
    if isinstance(value, Packed):
        warnings.warn(f"{SHARED_MEMORY} is full: images come through pipes, which is slower; {REMEDY}", stacklevel=2)
        return pickle.loads(value.content)
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a value, which may be nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)


def shared_bytes() -> int:
    """Return the free space in shared memory, in bytes; 0 if there is none on this system."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0


class Reader(ForkProcess):
    """A worker process. Workers ignore SIGTERM, so they are ended with SIGKILL."""

    def terminate(self) -> None:
        """Send SIGKILL."""
        self.kill()


class ReaderContext(ForkContext):
    """The multiprocessing context that starts workers as :class:`Reader`."""

    Process = Reader


def live_with_parent(_worker: int) -> None:
    """Leave the signals of schedulers to the parent, which saves and ends; and have the kernel kill this process after it.

    SLURM signals every process of a job. Without the kernel a full queue would keep an orphan waiting for ever. (Parent is,
    to be exact, the thread that started this process: reading ahead belongs in threads that last.)
    """
    for number in SCHEDULERS:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Replace PyTorch's error for a worker that was killed, or is stuck, by :class:`UserError`.

    PyTorch raises it wherever the main thread happens to be, so code that runs between two batches belongs inside too.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith("DataLoader timed out"):
            raise UserError(
                f"the workers returned no images for {TIMEOUT_S} s: check that the disk with the data responds, or set "
                "loader.workers=0; the same command goes on from there"
            ) from None
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            f"a process that reads images has died ({str(error).splitlines()[0]}): if memory ran out, set fewer "
            "loader.workers; the same command goes on from there"
        ) from None
