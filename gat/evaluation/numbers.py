"""Numbers about samples, each with its kind and protocol."""

from dataclasses import dataclass
from typing import Any

from gat.evaluation.intervals import CONFIDENCE, Estimate
from gat.evaluation.kinds import number_name
from gat.evaluation.protocol import Protocol


@dataclass(frozen=True)
class Number:
    """A number of a ``kind`` (of ``KINDS``), its protocol and, if it was estimated from samples, its 95% interval."""

    kind: str
    value: float
    protocol: Protocol
    estimate: Estimate | None = None
    ema_decay: float | None = None
    """Of the average of the generator that was measured; None: the one that counts."""

    @property
    def name(self) -> str:
        """Return its name (:func:`number_name`), with ``-ema0.999`` of a further average of the generator."""
        name = number_name(self.kind, self.protocol.extractor.partition("@")[0], self.protocol.samples)
        return name if self.ema_decay is None else f"{name}-ema{self.ema_decay}"

    def as_record(self) -> dict[str, Any]:
        """Return it for JSON, with kind, value, protocol and interval."""
        record: dict[str, Any] = {"kind": self.kind, "value": self.value, "protocol": self.protocol.as_record()}
        if self.estimate is not None:
            interval = {"interval": list(self.estimate.interval), "interval_by": self.estimate.interval_by}
            record |= interval | {"confidence": CONFIDENCE}
        return record

    def __str__(self) -> str:
        return f"{self.value:.4g}"
