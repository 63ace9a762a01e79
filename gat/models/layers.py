"""Layers shared by generator and discriminator.

Shapes: B batch, N tokens, d width, A attention heads, h head dimension, H hidden width of the SwiGLU.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gat.models.positions import swap_pairs

NORM_EPS = 1e-6
EQUAL_LR_MULTIPLIER = 0.01
EMBEDDING_STD = 0.02
GPU_MULTIPLE = 64


def rms_norm(x: Tensor) -> Tensor:
    """RMSNorm over the last axis without weights, eps 1e-6."""
    return F.rms_norm(x, x.shape[-1:], eps=NORM_EPS)


def at_least_fp32(x: Tensor) -> Tensor:
    """Half-precision values as fp32 (the penalties take small differences of images and logits); others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def linear(in_features: int, out_features: int, gain: float = 1.0) -> nn.Linear:
    """A Linear layer as the release initialises it: Xavier-uniform with ``gain``, bias 0."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: weight and bias are multiplied by 0.01 at run time.

    The weight is initialised Xavier-uniform with gain 1/0.01, so that the output at the start is a plain layer's.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight, gain=1 / EQUAL_LR_MULTIPLIER)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(x, self.weight * EQUAL_LR_MULTIPLIER, self.bias * EQUAL_LR_MULTIPLIER)


def equal_mlp(in_features: int, out_features: int) -> nn.Sequential:
    """EqualLinear -> SiLU -> EqualLinear: the mapping network and the discriminator's class embedder."""
    return nn.Sequential(EqualLinear(in_features, out_features), nn.SiLU(), EqualLinear(out_features, out_features))


def alignment_projector(width: int, hidden: int, teacher_width: int) -> nn.Sequential:
    """Linear-SiLU-Linear-SiLU-Linear from a network's tokens to the teacher's width."""
    return nn.Sequential(
        linear(width, hidden),
        nn.SiLU(),
        linear(hidden, hidden),
        nn.SiLU(),
        linear(hidden, teacher_width),
    )


def class_table(num_classes: int, width: int) -> nn.Embedding:
    """Class embedding (classes, width), initialised N(0, 0.02^2)."""
    table = nn.Embedding(num_classes, width)
    nn.init.normal_(table.weight, std=EMBEDDING_STD)
    return table


class Attention(nn.Module):
    """Self-attention with RMSNorm on queries and keys per head, turned by axial RoPE.

    The norms' eps is PyTorch's default (the dtype's machine epsilon), as in the release. Queries and keys go through norm and
    rotation together, with the norms' weights folded into the rotation's tables: the same numbers, half the memory traffic.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        head_dim = width // heads
        self.qkv = linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(head_dim)
        self.k_norm = nn.RMSNorm(head_dim)
        self.proj = linear(width, width)

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d). ``rope``: the table (2, N, h) of :func:`gat.models.positions.axial_rope`."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        norms = torch.stack([self.q_norm.weight, self.k_norm.weight])[:, None, None, None]
        cos, sin = rope
        qk = F.rms_norm(qkv[:2], qkv.shape[-1:])
        q, k = torch.addcmul(qk * (norms * cos), swap_pairs(qk), swap_pairs(norms) * sin).to(x.dtype)
        out = F.scaled_dot_product_attention(q, k, qkv[2])
        return self.proj(out.transpose(1, 2).flatten(2))


def swiglu_hidden(width: int) -> int:
    """Hidden width of the SwiGLU: int(2/3 * 4 * d)."""
    return int(2 / 3 * 4 * width)


class SwiGLU(nn.Module):
    """silu(first half of W12 x) * second half, then W3.

    On a GPU the hidden width is filled up with zeros to a multiple of 64 (L's is 2730), which its matrix products want:
    silu(0) x 0 = 0 adds nothing. The weights themselves keep their shapes.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = swiglu_hidden(width)
        self.fill = -hidden % GPU_MULTIPLE
        self.w12 = linear(width, 2 * hidden)
        self.w3 = linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        if self.fill and x.is_cuda:
            return self.filled(x)
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)

    def filled(self, x: Tensor) -> Tensor:
        """The same with the hidden width filled up."""
        weight = F.pad(self.w12.weight.unflatten(0, (2, -1)), (0, 0, 0, self.fill)).flatten(0, 1)
        bias = F.pad(self.w12.bias.unflatten(0, (2, -1)), (0, self.fill)).flatten()
        gate, value = F.linear(x, weight, bias).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * value, F.pad(self.w3.weight, (0, self.fill)), self.w3.bias)


def square_side(tokens: int) -> int:
    """Side of a square grid of ``tokens`` tokens; ValueError if it is not square."""
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ValueError(f"{tokens} tokens do not form a square grid")
    return side


def unpatchify(tokens: Tensor, patch: int) -> Tensor:
    """(B, N, p*p*C) with features ordered (row, column, channel) -> images (B, C, H, W)."""
    batch, count, _ = tokens.shape
    side = square_side(count)
    grid = tokens.reshape(batch, side, side, patch, patch, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, side * patch, side * patch)
