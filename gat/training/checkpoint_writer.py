"""Writing of checkpoints, from a copy on the host, while training continues."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class CheckpointWriter:
    """A thread that writes one checkpoint at a time, in order; leaving the block waits for the last one.

    Files are replaced whole: a process that dies while writing leaves the earlier checkpoints intact.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self.finish()

    def start(self, write: Callable[[], None]) -> None:
        """Call :meth:`finish`, then have the thread call ``write``."""
        self.finish()
        self._under_way = self._thread.submit(write)

    def check(self) -> None:
        """Raise the error of a failed write, if there is one; do not wait for a write under way."""
        if self._under_way is not None and self._under_way.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the write under way, and raise its error."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()
