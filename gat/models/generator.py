"""The GAT generator (paper section 3; method: Generator).

Shapes: B batch, K stages, C latent channels, H = W latent side, p patch, N = (H/p)^2 tokens, L depth, d width,
T teacher width.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gat.models.dims import NetworkDims
from gat.models.layers import (
    Attention,
    SwiGLU,
    alignment_projector,
    at_least_fp32,
    class_table,
    equal_mlp,
    linear,
    rms_norm,
    unpatchify,
)
from gat.models.positions import axial_rope, sincos_2d
from gat.models.recompute import run_block

MODULATION_GAIN = 0.1
MEAN_W_DECAY = 0.995
SECOND_MOMENT_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class GeneratorDims(NetworkDims):
    """Every dimension of a generator.

    ``z_dim``: width of z and of the class embedding. ``teacher_width``: T, the width of the teacher's tokens; 0: no
    alignment projector. ``projector_width``: the projector's hidden width. ``aligned_block``: the block, from 0, whose tokens
    it takes; None: the last.
    """

    z_dim: int = 64
    teacher_width: int = 0
    projector_width: int = 0
    aligned_block: int | None = None


def second_moment_norm(x: Tensor) -> Tensor:
    """x * rsqrt(mean(x^2) + 1e-8) over the last axis."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + SECOND_MOMENT_EPS)


class GeneratorBlock(nn.Module):
    """h + g1(w) Attn(norm(h) (1 + s1(w))), then h + g2(w) SwiGLU(norm(h) (1 + s2(w)))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = linear(width, 4 * width, gain=MODULATION_GAIN)
        self.attn = Attention(width, heads)
        self.mlp = SwiGLU(width)

    def forward(self, h: Tensor, style: Tensor, rope: Tensor) -> Tensor:
        """h (B, N, d), style SiLU(w) (B, d) -> (B, N, d)."""
        s1, g1, s2, g2 = self.modulation(style).unsqueeze(1).chunk(4, dim=-1)
        h = torch.addcmul(h, g1, self.attn(rms_norm(h) * (1 + s1), rope))
        return torch.addcmul(h, g2, self.mlp(rms_norm(h) * (1 + s2)))


class StageHead(nn.Module):
    """Tokens to an image that is added to the stages before: norm(h) (1 + s(w)) -> Linear -> unpatchify."""

    def __init__(self, width: int, patch: int, channels: int) -> None:
        super().__init__()
        self.patch = patch
        self.modulation = linear(width, width, gain=MODULATION_GAIN)
        self.linear = linear(width, patch * patch * channels)

    def forward(self, h: Tensor, style: Tensor) -> Tensor:
        """h (B, N, d), style SiLU(w) (B, d) -> (B, C, H, W)."""
        scale = self.modulation(style).unsqueeze(1)
        return unpatchify(self.linear(rms_norm(h) * (1 + scale)), self.patch)


class Generator(nn.Module):
    """z and class label to K accumulated stage images; the last one is the sample."""

    rope: Tensor
    mean_w: Tensor

    def __init__(self, dims: GeneratorDims) -> None:
        super().__init__()
        self.dims = dims
        self.checkpointing = "none"  # of activations: see gat.models.recompute
        self.class_embedding = class_table(dims.num_classes, dims.z_dim)
        self.mapping = equal_mlp(2 * dims.z_dim, dims.width)
        self.blocks = nn.ModuleList(GeneratorBlock(dims.width, dims.heads) for _ in range(dims.depth))
        self.heads = nn.ModuleList(StageHead(dims.width, dims.patch, dims.channels) for _ in range(dims.num_stages))
        side = dims.latent_side // dims.patch
        rope = axial_rope(dims.width // dims.heads, side)
        dtype = torch.get_default_dtype()
        self.pos_embed = nn.Parameter(sincos_2d(dims.width, side)[None].to(dtype))  # (1, N, d): trained from there
        self.register_buffer("rope", rope.to(dtype), persistent=False)
        self.register_buffer("mean_w", torch.zeros(dims.num_classes, dims.width))
        self.projector = (  # made last: the other weights are those of a generator without it
            alignment_projector(dims.width, dims.projector_width, dims.teacher_width) if dims.teacher_width else None
        )
        self.aligned_block = dims.depth - 1 if dims.aligned_block is None else dims.aligned_block

    def style(self, z: Tensor, labels: Tensor, truncation: float = 0.0) -> Tensor:
        """Return w (B, d) of z (B, z_dim) and labels (B,), pulled to the class means by ``truncation`` (psi; 0 is off)."""
        embedded = second_moment_norm(self.class_embedding(labels))
        w = self.mapping(torch.cat([embedded, second_moment_norm(z)], dim=1))
        if truncation:
            w = torch.lerp(w, self.mean_w[labels].to(w.dtype), truncation)
        return w

    def synthesize(
        self, w: Tensor, *, skip_blocks: Collection[int] = (), record: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Stages (K, B, C, H, W) of style vectors w (B, d).

        ``skip_blocks``: blocks (from 0) whose residual branches are taken out, so that their output is their input.
        ``record``: if given, is filled with the tokens (B, N, d) by name: ``embed``, ``block_0`` ... ``block_{L-1}``; and,
        if there is an alignment projector, its projections (B, N, T): ``aligned``.
        """
        style = nn.functional.silu(w)
        h = self.pos_embed.repeat(len(w), 1, 1)  # a plain view would report requires_grad even under no_grad
        if record is not None:
            record["embed"] = h
        blocks_per_stage = self.dims.depth // self.dims.num_stages
        image, stages = None, []
        for i, block in enumerate(self.blocks):
            if i not in skip_blocks:
                h = run_block(block, self.checkpointing, h, style, self.rope)
            if record is not None:
                record[f"block_{i}"] = h
                if self.projector is not None and i == self.aligned_block:
                    record["aligned"] = self.projector(h)
            if (i + 1) % blocks_per_stage == 0:
                rewrite = at_least_fp32(self.heads[i // blocks_per_stage](h, style))
                image = rewrite if image is None else image + rewrite
                stages.append(image)
        return torch.stack(stages)

    def forward(
        self,
        z: Tensor,
        labels: Tensor,
        *,
        truncation: float = 0.0,
        skip_blocks: Collection[int] = (),
        record: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Generate stages (K, B, C, H, W), earliest first, from z (B, z_dim) and labels (B,) int64."""
        return self.synthesize(self.style(z, labels, truncation), skip_blocks=skip_blocks, record=record)

    @torch.no_grad()
    def update_mean_w(self, w: Tensor, labels: Tensor) -> None:
        """Move the class means towards this batch: mean_w <- 0.995 mean_w + 0.005 (batch mean of w), classes present only.

        w (B, d), labels (B,). No host synchronisation, no loop over labels.
        """
        self.move_mean_w(self.class_sums(w, labels))

    @torch.no_grad()
    def class_sums(self, w: Tensor, labels: Tensor) -> Tensor:
        """Sum of w (B, d) and number of samples per class of labels (B,): (classes, d + 1), the count last.

        Sums of the parts of a batch add up to the batch's.
        """
        counted = torch.cat([w.to(self.mean_w.dtype), torch.ones_like(self.mean_w[:1, :1]).expand(len(w), 1)], dim=1)
        return self.mean_w.new_zeros(len(self.mean_w), counted.shape[1]).index_add_(0, labels, counted)

    @torch.no_grad()
    def move_mean_w(self, class_sums: Tensor) -> None:
        """Move the class means of the classes present in a batch, given its :meth:`class_sums`."""
        sums, counts = class_sums[:, :-1], class_sums[:, -1:]
        moved = torch.lerp(sums / counts.clamp(min=1), self.mean_w, MEAN_W_DECAY)
        self.mean_w.copy_(torch.where(counts > 0, moved, self.mean_w))
