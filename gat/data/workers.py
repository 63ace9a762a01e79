"""Processes that read ahead: PyTorch's DataLoader, one key at a time, in the order of the keys."""

import ctypes
import os
import signal
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from gat.errors import UserError
from gat.platform import cores

SMALL = 10_000  # images; fewer are read without worker processes, unless they are asked for
MOST = 16
PREFETCH = 4
SCHEDULERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
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
    """``reader[key]`` for every key, by ``workers`` processes (0: by this one), each ``prefetch`` keys ahead.

    ``pin``: into pinned memory. :class:`UserError` if a worker raises one, or dies.
    """
    loader = DataLoader(
        reader,
        sampler=keys,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=live_with_parent,
        generator=torch.Generator(),  # its seeds are not used: leave the global one alone
    )
    with told_plainly():
        try:
            yield from loader
        except Exception as error:
            traceback.clear_frames(
                error.__traceback__
            )  # they hold the workers, in a cycle whose collection would stall
            raise


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
    """A worker's :class:`UserError` without the worker's traceback, and one in place of PyTorch's if a worker was killed.

    PyTorch raises that one wherever the main thread happens to be, so whatever runs between two batches belongs inside too.
    """
    try:
        yield
    except UserError as error:
        raise UserError(str(error).strip().splitlines()[-1].removeprefix("gat.errors.UserError: ")) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            f"a process that reads images has died ({str(error).splitlines()[0]}): if memory ran out, set fewer "
            "loader.workers; the same command goes on from there"
        ) from None
