"""Work cut into shards, each a file: any number of processes take the missing ones, and a killed one's is taken again.

Whoever calls :func:`divide` on the same files shares the work: torchrun's ranks, SLURM jobs, a second terminal.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from gat.files import lock, one_at_a_time, remove_leftovers


def divide(files: Sequence[Path], make: Callable[[int], None]) -> None:
    """Return when every one of ``files`` is there; ``make(i)`` writes the i-th, whole or not at all.

    Shards that other processes are making are left to them, and made here if they give up.
    """
    while missing(files):
        for i in missing(files):
            place = lock_file(files[i])
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("w", encoding="utf-8") as stream:
                if lock(stream, wait=False) and not files[i].exists():  # neither under way nor made meanwhile
                    remove_leftovers(files[i])
                    make(i)
        for i in missing(files)[:1]:
            with one_at_a_time(lock_file(files[i]), f"making {files[i]}"):
                pass


def missing(files: Sequence[Path]) -> list[int]:
    """Positions of the files that are not there yet."""
    return [i for i, file in enumerate(files) if not file.exists()]


def lock_file(file: Path) -> Path:
    """Held by the process that makes ``file``."""
    return file.parent / ".locks" / file.name
