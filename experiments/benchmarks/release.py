"""The authors' release (github.com/hse1032/GAT): its networks and losses, imported from the user's checkout.

This repository contains none of it. Its modules and loss are called as in its train.py; the loop around them (clipping,
optimizers, averages) is reimplemented here for one process. Comparable are settings that both support: no teacher, four
stages.
"""

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from gat.config import Config
from gat.errors import UserError, first_line
from gat.models import Generator
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.objective.adversarial import discriminator_loss, generator_loss
from gat.objective.augment import AugmentRates
from gat.release import DISCRIMINATOR_RENAMES, GENERATOR_RENAMES, load_generator, release_key
from gat.training.noise import StepNoise
from gat.training.optimizer import make_optimizer
from gat.training.setup import augment_rates, make_objective
from gat.training.step import Batch, Networks

MODULES = ("models", "losses")
TOLERANCE = 1e-4
"""Relative tolerance of losses in single precision, which divide differences of logits by 0.01."""

Draws = Callable[[Tensor], Tensor]


class Call(nn.Module):
    """A network with the attribute ``module``, which the release's losses expect (from DistributedDataParallel)."""

    def __init__(self, module: nn.Module, bf16: bool) -> None:
        super().__init__()
        self.module, self.bf16 = module, bf16

    def forward(self, x: Tensor | None = None, **arguments: Any) -> Tensor:
        """Call the network under autocast; return single precision, as accelerate does."""
        inputs = () if x is None else (x,)
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            return self.module(*inputs, **arguments).float()


@dataclass
class Release:
    """The release's networks, average, optimizers and loss; ``step`` is one iteration of its train.py."""

    generator: nn.Module
    discriminator: nn.Module
    ema: nn.Module
    generator_optimizer: AdamW
    discriminator_optimizer: AdamW
    loss: Any
    config: Config
    steps: int = 0

    def step(self, real: Tensor, labels: Tensor, z: Tensor | None = None) -> dict[str, Tensor]:
        """Advance by one iteration on real latents (B, C, H, W) and labels (B,); return the losses ``d_loss`` and ``g_loss``.

        ``z`` (B, z_dim): drawn by the release if None, as all other random numbers are.
        """
        bf16 = self.config.training.precision == "bf16"
        calls = [Call(network, bf16) for network in (self.generator, self.discriminator)]
        given = {"y": labels} if z is None else {"y": labels, "z": z}
        found = {}
        for name, network, optimizer, step in (
            ("d_loss", self.discriminator, self.discriminator_optimizer, self.loss.step_disc),
            ("g_loss", self.generator, self.generator_optimizer, self.loss.step_gen),
        ):
            network.requires_grad_(True)
            loss = step(*calls, None, real, None, self.steps, given)[0].mean()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), self.config.optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            network.requires_grad_(False)
            found[name] = loss.detach()
        self._average()
        self.steps += 1
        return found

    @torch.no_grad()
    def _average(self) -> None:
        decay = self.config.optim.ema_decay
        for average, value in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
            average.mul_(decay).add_(value, alpha=1 - decay)
        for kept, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(buffer)

    def averaged(self) -> Generator:
        """Return the averaged generator as one of ours, ready for an evaluation."""
        state = {name: value.detach().clone() for name, value in self.ema.state_dict().items()}
        return load_generator(state).to(next(self.ema.parameters()).device).eval()

    def take(self, networks: Networks) -> None:
        """Take the weights of our networks. Raises :class:`UserError` for a parameter that has no counterpart."""
        for theirs, ours, renames, without in (
            (self.generator, networks.generator, GENERATOR_RENAMES, ("x_embedder.", "feat_rope.")),
            (self.ema, networks.ema, GENERATOR_RENAMES, ("x_embedder.", "feat_rope.")),
            (self.discriminator, networks.discriminator, DISCRIMINATOR_RENAMES, ("proj.", "feat_rope.")),
        ):
            state = {release_key(key, renames): value for key, value in ours.state_dict().items()}
            missing, unknown = theirs.load_state_dict(state, strict=False)
            left = [key for key in missing if not key.startswith(without)] + unknown
            if left:
                raise UserError(
                    f"benchmark.release: its networks differ from ours in {left[0]!r}: check out commit 21a2dd0"
                )


def build(folder: str, config: Config, dims: tuple[GeneratorDims, DiscriminatorDims], device: torch.device) -> Release:
    """Build the release's networks at our sizes, with its own initial weights (from torch's global random state).

    Raises :class:`UserError` if ``folder`` is not a checkout, cannot be imported, or lacks a setting of ``config``.
    """
    require_comparable(config, dims)
    g, d = dims
    shared = {
        "input_size": g.latent_side,
        "patch_size": g.patch,
        "in_channels": g.channels,
        "num_classes": g.num_classes,
        "z_dims": [0],
        "fused_attn": True,
        "qk_norm": True,
    }
    with imported(Path(folder)) as modules:
        generator = modules["models.generator"].GAT(hidden_size=g.width, depth=g.depth, num_heads=g.heads, **shared)
        discriminator = modules["models.discriminator"].GATD(
            hidden_size=d.width, depth=d.depth, num_heads=d.heads, cmap_dim=d.logit_width, **shared
        )
        losses = modules["losses.Rp_loss"]
        if config.objective.mng_schedule == "flat":
            losses.info_per_layer = lambda N, Imin: np.zeros(N)  # noqa: ARG005, N803 - its signature
        gamma = config.objective.penalty_weight
        loss = losses.RpGANLoss(encoders=None, r1_every=1, r1_gamma=gamma, r2_every=1, r2_gamma=gamma, approximate=True)
    generator, discriminator = generator.to(device).train(), discriminator.to(device).train()
    of_g, of_d = (
        as_pytorch_chooses(make_optimizer(network.parameters(), config.optim, width))
        for network, width in ((generator, g.width), (discriminator, d.width))
    )
    ema = copy.deepcopy(generator).requires_grad_(False).eval()
    return Release(generator, discriminator, ema, of_g, of_d, loss, config)


def as_pytorch_chooses(optimizer: AdamW) -> AdamW:
    """Return a new optimizer of the same settings in the implementation that PyTorch chooses by default (ours is fused)."""
    (group,) = optimizer.param_groups
    return AdamW(group["params"], **{name: group[name] for name in ("lr", "betas", "eps", "weight_decay")})


def require_comparable(config: Config, dims: tuple[GeneratorDims, DiscriminatorDims]) -> None:
    """Raise :class:`UserError` naming the first setting that the release lacks, or fixes at another value."""
    objective, training = config.objective, config.training
    if objective.mng_schedule not in ("exponential", "flat"):
        raise UserError(
            f"benchmark.release: objective.mng_schedule={objective.mng_schedule} is not one of the release's: set "
            "exponential, or flat (all stages at the last one's noise)"
        )
    for name, value, theirs in (
        ("objective.alignment_weight", objective.alignment_weight, 0.0),
        ("objective.generator_alignment_weight", objective.generator_alignment_weight, 0.0),
        ("objective.consistency_weight", objective.consistency_weight, 0.0),
        ("objective.logit_centering_weight", objective.logit_centering_weight, 0.0),
        ("objective.penalty_fraction", objective.penalty_fraction, 1.0),
        ("objective.penalty_sigma", objective.penalty_sigma, 0.01),
        ("objective.mng_nested", objective.mng_nested, True),
        ("objective.mng_form", objective.mng_form, "released"),
        ("objective.augment", augment_rates(objective), AugmentRates()),
        ("training.accumulation", training.accumulation, 1),
        ("model.num_stages", dims[0].num_stages, 4),
        ("optim.lr_width_of", config.optim.lr_width_of, None),
    ):
        if value != theirs:
            raise UserError(f"benchmark.release: {name}={value} is not supported by the release: set {name}={theirs}")


@contextmanager
def imported(folder: Path) -> Iterator[dict[str, Any]]:
    """Import the release's packages ``models`` and ``losses`` from ``folder``; forget these module names afterwards."""
    if not (folder / "losses" / "Rp_loss.py").is_file():
        raise UserError(f"benchmark.release={folder} is not a checkout of github.com/hse1032/GAT: give its folder")
    if importlib.util.find_spec("einops") is None:
        raise UserError("benchmark.release needs einops, which the release imports: pip install einops")
    sys.path.insert(0, str(folder.resolve()))
    try:
        names = ("models.generator", "models.discriminator", "losses.Rp_loss")
        yield {name: importlib.import_module(name) for name in names}
    except ImportError as error:
        raise UserError(
            f"benchmark.release={folder} cannot be imported ({first_line(error)}): install its requirements"
        ) from error
    finally:
        sys.path.remove(str(folder.resolve()))
        for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
            del sys.modules[name]


def require_agreement(release: Release, networks: Networks, batch: Batch, noise: StepNoise) -> None:
    """Raise :class:`UserError` unless both losses of a step agree, on the same weights, data and draws, not augmented.

    ``release`` has taken the weights of ``networks``. It makes its step; then our losses are computed on the same weights.
    """
    objective = make_objective(release.config.objective, has_teacher=False)
    order = [noise.discriminator.fake.flip(0), noise.discriminator.real.flip(0), noise.penalty.real[None]]
    order += [noise.penalty.fake, noise.generator.fake.flip(0), noise.generator.real.flip(0)]
    draws = iter(torch.cat(order))
    policy, release.loss.policy = release.loss.policy, ""
    # z is given, the unused x drawn first; its losses draw all other normals by randn_like, in this order
    with patch.object(torch, "randn_like", lambda like: torch.zeros_like(like) if like is batch.real else next(draws)):
        theirs = release.step(batch.real, batch.labels, noise.z)
    release.loss.policy = policy
    fakes = networks.generator(noise.z, batch.labels)
    plain = [type(pair)(pair.real, pair.fake) for pair in (noise.discriminator, noise.generator)]
    of_d = discriminator_loss(
        networks.discriminator, batch.real, fakes, batch.labels, plain[0], noise.penalty, objective
    )
    stepped = copy.deepcopy(networks.discriminator)
    state = release.discriminator.state_dict()
    stepped.load_state_dict({key: state[release_key(key, DISCRIMINATOR_RENAMES)] for key in stepped.state_dict()})
    of_g = generator_loss(stepped, batch.real, fakes, batch.labels, plain[1], objective)
    for name, loss in (("d_loss", of_d.total.mean()), ("g_loss", of_g.total.mean())):
        if not torch.isclose(loss, theirs[name], rtol=TOLERANCE):
            raise UserError(
                f"benchmark.release: its {name} is {theirs[name]:.6g}, ours {loss:.6g} on the same weights and draws: "
                "check out commit 21a2dd0"
            )
