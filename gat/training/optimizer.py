"""AdamW under the width-aware rule (paper section 2.4; method, section 5)."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import AdamW

from gat.config import OptimConfig


def width_aware_lr(config: OptimConfig, width: int) -> float:
    """lr_base * lr_reference_width / width: with normalised inputs, a step changes a layer's output as width * lr.

    All times ``lr_multiple``.
    """
    return config.lr_multiple * config.lr_base * config.lr_reference_width / width


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig, width: int) -> AdamW:
    """AdamW (no weight decay) at the learning rate of ``width``, fused."""
    return AdamW(
        parameters,
        lr=width_aware_lr(config, width),
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=0.0,
        fused=True,
    )


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * model for parameters; buffers (class means of w) are copied."""
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
    for average, value in zip(ema.buffers(), model.buffers(), strict=True):
        average.copy_(value)
