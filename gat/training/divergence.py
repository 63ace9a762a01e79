"""When a run has diverged: for the claims about learning rates a result, not an error.

Two kinds: a number that is not finite, at once; and a logit gap, or a scale of logits or samples, beyond stated bounds for a
stated number of steps on end. The run then ends with status ``diverged`` and the step at which it began.
"""

import math
from dataclasses import dataclass

from gat.config import DivergenceConfig


@dataclass(frozen=True)
class Divergence:
    """The ``step`` (from 1) at which it began, and the ``reason`` in words."""

    step: int
    reason: str


class DivergenceWatch:
    """Sees the metrics of every step in order."""

    def __init__(self, config: DivergenceConfig) -> None:
        self.bounds = {
            "logit_gap": config.max_logit_gap,
            "logit_rms": config.max_logit_rms,
            "sample_rms": config.max_sample_rms,
        }
        self.patience_steps = config.patience_steps
        self.since: dict[str, int] = {}

    @property
    def suspicious(self) -> bool:
        """Whether a bound is being exceeded now, though not yet for long enough."""
        return bool(self.since)

    def see(self, step: int, metrics: dict[str, float]) -> Divergence | None:
        """Take note of one step's metrics; the divergence if this step makes one."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                return Divergence(step, f"{name} is {value}")
        for name, bound in self.bounds.items():
            if abs(metrics[name]) <= bound:
                self.since.pop(name, None)
                continue
            began = self.since.setdefault(name, step)
            if step - began + 1 >= self.patience_steps:
                return Divergence(began, f"{name} beyond {bound:g} for {self.patience_steps} steps")
        return None
