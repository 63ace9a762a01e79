"""What one optimizer step changes: weights, and the networks' outputs at fixed inputs (paper section 2.4).

The width-aware rule is about the second: with normalised inputs, one step changes a layer's output as width x lr.
Shapes: B batch, K stages.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gat.training.noise import StepNoise
from gat.training.step import Batch, Networks

PROBED_ROWS = 16


@dataclass(frozen=True)
class Snapshot:
    """Weights and outputs of both networks before a step; ``samples`` (B, C, H, H), ``logits`` (B,)."""

    weights: dict[str, list[Tensor]]
    samples: Tensor
    logits: Tensor


@torch.no_grad()
def snapshot(networks: Networks, batch: Batch, noise: StepNoise) -> Snapshot:
    """Take it on the first rows of the step's own batch: G at its z, D at its real latents without noise."""
    rows = slice(0, PROBED_ROWS)
    stages = batch.real[rows].expand(networks.generator.dims.num_stages, -1, -1, -1, -1)
    return Snapshot(
        weights={name: [p.clone() for p in model.parameters()] for name, model in _models(networks).items()},
        samples=networks.generator(noise.z[rows], batch.labels[rows])[-1],
        logits=networks.discriminator(stages, batch.labels[rows], project_rows=0).logits,
    )


@torch.no_grad()
def changes(before: Snapshot, networks: Networks, batch: Batch, noise: StepNoise) -> dict[str, Tensor]:
    """Scalars: ``{g,d}_update_ratio`` = |change of weights| / |weights|, ``{g,d}_weight_norm``, and ``{g,d}_output_change``.

    The last is the root mean square change of the samples' latents (of unit variance) and of the logits.
    """
    after = snapshot(networks, batch, noise)
    metrics = {
        "g_output_change": _rms(after.samples - before.samples),
        "d_output_change": _rms(after.logits - before.logits),
    }
    for name, old in before.weights.items():
        norm = _norm(after.weights[name])
        metrics[f"{name}_weight_norm"] = norm
        metrics[f"{name}_update_ratio"] = _norm(torch._foreach_sub(after.weights[name], old)) / norm
    return metrics


def _models(networks: Networks) -> dict[str, nn.Module]:
    return {"g": networks.generator, "d": networks.discriminator}


def _rms(values: Tensor) -> Tensor:
    return values.float().square().mean().sqrt()


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).norm()
