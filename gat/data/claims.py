"""Who makes which part: a part is taken by a lock that goes with the process, so that a killed one's is free for the next."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gat.data.parts import info_file, part_file
from gat.files import is_locked, lock, remove_leftovers

PART_ROWS = 4096


class Claims:
    """Batches of rows of the parts that this process could take, in order; a part's lock is held until :meth:`release`."""

    def __init__(self, folder: Path, parts: list[int], count: int, batch_size: int) -> None:
        self.folder, self.parts, self.count, self.batch_size = folder, parts, count, batch_size
        self.locks: dict[int, IO[str]] = {}

    def __iter__(self) -> Iterator[list[int]]:
        for part in self.parts:
            if self._take(part):
                rows = list(part_rows(part, self.count))
                yield from (rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size))

    def release(self, part: int) -> None:
        """Let go of a part."""
        self.locks.pop(part).close()

    def close(self) -> None:
        """Let go of all."""
        for part in list(self.locks):
            self.release(part)

    def _take(self, part: int) -> bool:
        file = lock_file(self.folder, part)
        file.parent.mkdir(exist_ok=True)
        stream = file.open("w", encoding="utf-8")
        if not lock(stream, wait=False) or info_file(self.folder, part).exists():  # being made, or made meanwhile
            stream.close()
            return False
        remove_leftovers(part_file(self.folder, part))
        self.locks[part] = stream
        return True


def part_rows(part: int, count: int) -> range:
    """Rows of the source that a part is made of."""
    return range(part * PART_ROWS, min((part + 1) * PART_ROWS, count))


def lock_file(folder: Path, part: int) -> Path:
    """Held by the process that makes a part."""
    return folder / ".locks" / f"part-{part:05d}"


def under_way(folder: Path, parts: int) -> int:
    """Return how many of ``parts`` some process is making now."""
    return sum(is_locked(lock_file(folder, part)) for part in range(parts))


def part_of(row: int) -> int:
    """The part that a row of the source goes to."""
    return row // PART_ROWS


def part_count(count: int) -> int:
    """Parts of a source of ``count`` images."""
    return -(-count // PART_ROWS)


def missing_parts(folder: Path, count: int) -> list[int]:
    """Parts of a source of ``count`` images that are not there yet."""
    return [part for part in range(part_count(count)) if not info_file(folder, part).exists()]
