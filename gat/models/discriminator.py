"""The GAT discriminator (paper section 3; method: Discriminator).

Shapes: B batch, K stages, C latent channels, N patch tokens, L depth, d width, T teacher width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gat.models.dims import NetworkDims
from gat.models.layers import (
    EMBEDDING_STD,
    NORM_EPS,
    Attention,
    SwiGLU,
    alignment_projector,
    at_least_fp32,
    class_table,
    equal_mlp,
    linear,
)
from gat.models.positions import axial_rope, sincos_2d
from gat.models.recompute import run_block

LAYER_SCALE_INIT = 0.1


@dataclass(frozen=True, kw_only=True)
class DiscriminatorDims(NetworkDims):
    """Every dimension of a discriminator.

    ``logit_width``: width of the projection logit; ``projector_width``: hidden width of the alignment projector;
    ``teacher_width``: T, the width of the teacher's tokens; 0: no alignment projector.
    """

    logit_width: int
    projector_width: int
    teacher_width: int


@dataclass(frozen=True)
class DiscriminatorOutput:
    """``logits`` (B,); projections to the teacher's space ``cls`` (R, T) and ``patches`` (R, N, T), R = rows asked for."""

    logits: Tensor
    cls: Tensor
    patches: Tensor


class DiscriminatorBlock(nn.Module):
    """h + a1 Attn(norm(h)), then h + a2 SwiGLU(norm(h)), with LayerScale vectors a1 and a2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.ls_attn = nn.Parameter(torch.full((width,), LAYER_SCALE_INIT))
        self.norm2 = nn.RMSNorm(width, eps=NORM_EPS)
        self.mlp = SwiGLU(width)
        self.ls_mlp = nn.Parameter(torch.full((width,), LAYER_SCALE_INIT))

    def forward(self, h: Tensor, rope: Tensor) -> Tensor:
        """(B, 1+N, d) -> (B, 1+N, d)."""
        h = torch.addcmul(h, self.ls_attn, self.attn(self.norm1(h), rope))
        return torch.addcmul(h, self.ls_mlp, self.mlp(self.norm2(h)))


class Discriminator(nn.Module):
    """K perturbed stage images, stacked on channels, to one projection logit and projections for the teacher."""

    rope: Tensor

    def __init__(self, dims: DiscriminatorDims) -> None:
        super().__init__()
        self.dims = dims
        self.checkpointing = "none"  # of activations: see gat.models.recompute
        width = dims.width
        self.patch_embed = nn.Conv2d(dims.num_stages * dims.channels, width, kernel_size=dims.patch, stride=dims.patch)
        nn.init.xavier_uniform_(self.patch_embed.weight.view(width, -1))
        assert self.patch_embed.bias is not None
        nn.init.zeros_(self.patch_embed.bias)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * EMBEDDING_STD)
        self.blocks = nn.ModuleList(DiscriminatorBlock(width, dims.heads) for _ in range(dims.depth))
        self.logit_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.logit_linear = linear(width, dims.logit_width)
        self.class_embedding = class_table(dims.num_classes, dims.logit_width)
        self.class_mlp = equal_mlp(dims.logit_width, dims.logit_width)
        self.projector = (
            alignment_projector(width, dims.projector_width, dims.teacher_width) if dims.teacher_width else None
        )
        side = dims.latent_side // dims.patch
        rope = axial_rope(width // dims.heads, side)
        still = (
            torch.tensor([1.0, 0.0], dtype=rope.dtype).view(2, 1, 1).expand(-1, -1, rope.shape[2])
        )  # [cls] is not turned
        rope = torch.cat([still, rope], dim=1)
        dtype = torch.get_default_dtype()
        self.pos_embed = nn.Parameter(sincos_2d(width, side)[None].to(dtype))  # (1, N, d): trained from there
        self.register_buffer("rope", rope.to(dtype), persistent=False)

    def forward(
        self,
        stages: Tensor,
        labels: Tensor,
        *,
        project_rows: int | None = None,
        record: dict[str, Tensor] | None = None,
    ) -> DiscriminatorOutput:
        """stages (K, B, C, H, W), labels (B,) int64 -> logits (B,), cls (R, T), patches (R, N, T).

        ``project_rows``: R, how many leading rows of the batch go through the alignment projector (None: all, if there
        is a projector).
        ``record``: if given, is filled with the tokens (B, 1+N, d), [cls] first: ``embed``, ``block_0`` ... ``block_{L-1}``.
        """
        h = self.embed(stages)
        if record is not None:
            record["embed"] = h
        for i, block in enumerate(self.blocks):
            h = run_block(block, self.checkpointing, h, self.rope)
            if record is not None:
                record[f"block_{i}"] = h
        features = self.logit_linear(self.logit_norm(h[:, 0]))
        classes = self.class_mlp(self.class_embedding(labels))
        logits = (at_least_fp32(features) * at_least_fp32(classes)).sum(dim=1)
        if self.projector is None or project_rows == 0:
            projected = h.new_empty(0, h.shape[1], self.dims.teacher_width)
        else:
            projected = self.projector(h[:project_rows])
        return DiscriminatorOutput(logits, projected[:, 0], projected[:, 1:])

    def embed(self, stages: Tensor) -> Tensor:
        """stages (K, B, C, H, W) -> tokens (B, 1+N, d), [cls] first."""
        x = stages.transpose(0, 1).flatten(1, 2)
        patches = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed
        return torch.cat([self.cls_token.expand(len(x), -1, -1).to(patches.dtype), patches], dim=1)
