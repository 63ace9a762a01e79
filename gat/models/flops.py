"""Cost of the networks and of an iteration by formula: 2 FLOPs per multiply-add of matrix products (method, section 6).

Norms, activations, RoPE and softmax are not counted, as is usual; PyTorch's FlopCounterMode counts the same.
"""

from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.models.layers import swiglu_hidden


def block_flops(tokens: int, width: int) -> int:
    """Attention and SwiGLU of one block on one sample of ``tokens`` tokens."""
    projections = 4 * width * width + 3 * width * swiglu_hidden(width)
    return 2 * tokens * projections + 4 * tokens * tokens * width


def projector_flops(dims: GeneratorDims | DiscriminatorDims, tokens: int) -> int:
    """The alignment projector on ``tokens`` tokens; 0 if there is none."""
    hidden = dims.projector_width
    return bool(dims.teacher_width) * 2 * tokens * (dims.width * hidden + hidden * hidden + hidden * dims.teacher_width)


def mapping_flops(dims: GeneratorDims) -> int:
    """The style vector w of one sample."""
    return 2 * (2 * dims.z_dim * dims.width + dims.width**2)


def generator_flops(dims: GeneratorDims, *, project: bool = True) -> int:
    """FLOPs of one forward of one sample; ``project``: with the alignment projector, if any."""
    d = dims.width
    block = block_flops(dims.tokens, d) + 2 * d * 4 * d
    head = 2 * d * d + 2 * dims.tokens * d * dims.patch**2 * dims.channels
    projector = project * projector_flops(dims, dims.tokens)
    return mapping_flops(dims) + dims.depth * block + dims.num_stages * head + projector


def discriminator_flops(dims: DiscriminatorDims, *, project: bool = True) -> int:
    """FLOPs of one forward of one sample; ``project``: with the alignment projector on [cls] and patches, if any."""
    d, t = dims.width, dims.tokens
    embed = 2 * t * d * dims.patch**2 * dims.num_stages * dims.channels
    logit = 2 * (d * dims.logit_width + 2 * dims.logit_width**2)
    return embed + dims.depth * block_flops(t + 1, d) + logit + project * projector_flops(dims, t + 1)


def iteration_flops(
    generator: GeneratorDims,
    discriminator: DiscriminatorDims,
    batch_size: int,
    *,
    penalty_fraction: float = 1.0,
    aligned: bool = True,
) -> int:
    """FLOPs of one training iteration on ``batch_size`` samples that is not worked through in parts.

    A backward pass through a network costs twice its forward, one to its input alone (D in G's step) once. Counted are D's
    step on real, fake and their perturbed copies (``aligned``: with its projector on the real ones), G's step with D on real
    and fake, G once, with its projector if it has one, and the style vectors for the class means. Not counted: the teacher,
    the autoencoder, the optimizers, the average and the augmentation.
    """
    once = discriminator_flops(discriminator, project=False)
    shown = 2 * batch_size + 2 * round(penalty_fraction * batch_size)
    projector = projector_flops(discriminator, discriminator.tokens + 1) * aligned
    discriminator_step = 3 * (shown * once + batch_size * projector)
    generator_step = batch_size * (once + 2 * once + 3 * generator_flops(generator) + mapping_flops(generator))
    return discriminator_step + generator_step
