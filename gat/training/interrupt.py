"""SIGTERM and SIGUSR2 ask a run to finish its step, save and end: what schedulers send before they take a machine away."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class InterruptRequest:
    """While entered, the signals are noted in ``received`` instead of ending the process."""

    def __init__(self) -> None:
        self.received: frozenset[int] = frozenset()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether any signal came."""
        return bool(self.received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received |= {number}
