"""Forward cost of the networks, counted analytically: 2 FLOPs per multiply-add of matrix products (method, section 6).

Norms, activations, RoPE and softmax are not counted, as is usual; PyTorch's FlopCounterMode counts the same.
"""

from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import Z_DIM, GeneratorDims
from gat.models.layers import swiglu_hidden


def block_flops(tokens: int, width: int) -> int:
    """Attention and SwiGLU of one block on one sample of ``tokens`` tokens."""
    projections = 4 * width * width + 3 * width * swiglu_hidden(width)
    return 2 * tokens * projections + 4 * tokens * tokens * width


def generator_flops(dims: GeneratorDims) -> int:
    """FLOPs of one forward of one sample."""
    d = dims.width
    mapping = 2 * (2 * Z_DIM * d + d * d)
    block = block_flops(dims.tokens, d) + 2 * d * 4 * d
    head = 2 * d * d + 2 * dims.tokens * d * dims.patch**2 * dims.channels
    return mapping + dims.depth * block + dims.num_stages * head


def discriminator_flops(dims: DiscriminatorDims, *, project: bool = True) -> int:
    """FLOPs of one forward of one sample; ``project``: with the alignment projector on [cls] and patches."""
    d, t = dims.width, dims.tokens
    embed = 2 * t * d * dims.patch**2 * dims.num_stages * dims.channels
    logit = 2 * (d * dims.logit_width + 2 * dims.logit_width**2)
    hidden = dims.projector_width
    projector = 2 * (t + 1) * (d * hidden + hidden * hidden + hidden * dims.teacher_width)
    return embed + dims.depth * block_flops(t + 1, d) + logit + project * projector
