"""Numbers about samples: what they are called, and that none goes without its protocol."""

from dataclasses import dataclass
from typing import Any

from gat.evaluation.intervals import CONFIDENCE, Estimate
from gat.evaluation.protocol import INCEPTION, Protocol

LABELS = {  # how the Fréchet distance in these features is called in the literature, and the suffix of other numbers
    INCEPTION: ("FID", ""),
    "clip-vit-b-32": ("CLIP-FID", "-CLIP"),
    "dinov2-vit-l-14": ("FD-DINOv2", "-DINOv2"),
    "efficientnet-lite0": ("FD-EfficientNetLite0", "-EfficientNetLite0"),
}
KINDS = {"kid": "KID", "inception_score": "IS", "precision": "precision", "recall": "recall"}
PREFIXES = ("FID", "CLIP-FID", "FD-", "KID", "IS-", "precision", "recall", "class_accuracy")


def number_name(kind: str, extractor: str, samples: int) -> str:
    """Kind, features unless they are Inception's, samples: ``FID-50K``, ``KID-EfficientNetLite0-1K``."""
    count = f"{samples // 1000}K" if samples % 1000 == 0 else str(samples)
    distance, suffix = LABELS.get(extractor, (f"FD-{extractor}", f"-{extractor}"))
    return f"{distance if kind == 'frechet' else KINDS[kind] + suffix}-{count}"


def needs_protocol(name: str) -> bool:
    """Whether a metric of this name is a number about samples."""
    return name.startswith(PREFIXES)


@dataclass(frozen=True)
class Number:
    """A number with the protocol it was measured by and, if it was estimated, its 95% interval."""

    name: str
    value: float
    protocol: Protocol
    estimate: Estimate | None = None

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        record: dict[str, Any] = {"value": self.value, "protocol": self.protocol.as_record()}
        if self.estimate is not None:
            interval = {"interval": list(self.estimate.interval), "interval_by": self.estimate.interval_by}
            record |= interval | {"confidence": CONFIDENCE}
        return record

    def __str__(self) -> str:
        return f"{self.value:.4g}"
