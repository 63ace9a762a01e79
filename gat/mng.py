"""MNG: multi-level noise-perturbed image guidance (paper section 3; method: MNG).

Stage k = 1..K is shown to the discriminator as  E(x_k) = a_k x_k + n_k,  n_k ~ N(0, s_k^2), with

    released form              a_k = 1 - t_k,          s_k = t_k
    variance-preserving form   a_k = 1 - t_k + 0.01,   s_k = sqrt(1 - a_k^2)   (the paper's alpha, alpha_K = 1)

and noises nested from clean to noisy, so that stage k-1 is stage k's image noised further, as in a forward diffusion:

    n_K = s_K e_K,   n_(k-1) = r n_k + sqrt(s_(k-1)^2 - r^2 s_k^2) e_(k-1),   r = a_(k-1) / a_k

Shapes: K stages (earliest, noisiest first), B batch, C channels, H = W latent side.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gat.errors import UserError, require_choice

SCHEDULES = ("exponential", "linear", "flat", "none", "msg")
FORMS = ("released", "variance_preserving")
NOISE_START = 0.125  # I: the first stage keeps this share of the signal
NOISE_FLOOR = 0.01


def noise_levels(num_stages: int, schedule: str = "exponential") -> Tensor:
    """Return t_k of each stage, (K,) float64: 1 - I^(1-l) + 0.01 with l = (k-1)/(K-1), I = 0.125.

    ``linear`` is a straight line between the same ends; ``flat`` is the last stage's 0.01 everywhere, as is K = 1.
    """
    require_choice("schedule", schedule, ("exponential", "linear", "flat"))
    if schedule == "flat":
        return torch.full((num_stages,), NOISE_FLOOR, dtype=torch.float64)
    position = torch.linspace(0, 1, num_stages, dtype=torch.float64) if num_stages > 1 else torch.ones(1).double()
    if schedule == "exponential":
        return 1 - NOISE_START ** (1 - position) + NOISE_FLOOR
    return (1 - NOISE_START) * (1 - position) + NOISE_FLOOR


def coefficients(num_stages: int, schedule: str, form: str) -> tuple[Tensor, Tensor]:
    """Share of signal a_k and standard deviation of noise s_k per stage: two (K,) float64 tensors."""
    require_choice("form", form, FORMS)
    levels = noise_levels(num_stages, schedule)
    if form == "released":
        return 1 - levels, levels
    signal = 1 - levels + NOISE_FLOOR
    return signal, (1 - signal.square()).sqrt()


def nest(noise: Tensor, signal: Tensor, std: Tensor) -> Tensor:
    """Nested noises n_k (K, B, C, H, W) of unit normals by stage; ``signal`` and ``std`` are a_k and s_k."""
    current = std[-1].item() * noise[-1]
    nested = [current]
    for k in range(len(noise) - 2, -1, -1):
        ratio = (signal[k] / signal[k + 1]).item()
        fresh = (std[k] ** 2 - ratio**2 * std[k + 1] ** 2).sqrt().item()
        current = ratio * current + fresh * noise[k]
        nested.append(current)
    return torch.stack(nested[::-1])


def perturb(
    stages: Tensor,
    noise: Tensor,
    *,
    schedule: str = "exponential",
    nested: bool = True,
    form: str = "released",
) -> Tensor:
    """E(x_k) of each stage: stages (K, B, C, H, W) and unit normals of that shape, earliest first -> (K, B, C, H, W).

    ``schedule``: ``exponential``, ``linear``; ``flat`` (all stages, each at the last level's noise); ``none`` (K = 1:
    only the final image, at that noise); ``msg``
    (no noise: stage k at resolution H / 2^(K-k), see :func:`multi_scale`; ``noise`` is not read). ``nested=False``: each
    stage's noise is independent. Raises ValueError for shapes that differ or an unknown schedule or form.
    """
    require_choice("schedule", schedule, SCHEDULES)
    if schedule == "msg":
        return multi_scale(stages)
    if noise.shape != stages.shape:
        raise ValueError(f"noise of shape {tuple(noise.shape)} for stages of shape {tuple(stages.shape)}")
    if schedule == "none":
        if len(stages) != 1:
            raise UserError(f"schedule 'none' supervises only the final image: {len(stages)} stages given, use 1")
        schedule = "exponential"
    signal, std = factors(len(stages), schedule, form, stages.device, stages.dtype)
    added = nest(noise, *coefficients(len(stages), schedule, form)) if nested else std * noise
    return signal * stages + added


@lru_cache
def factors(
    num_stages: int, schedule: str, form: str, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """:func:`coefficients` as factors of stages, (K, 1, 1, 1, 1) each; copied to the device once, as it waits for that."""
    signal, std = (factor.to(device, dtype) for factor in coefficients(num_stages, schedule, form))
    return signal.view(-1, 1, 1, 1, 1), std.view(-1, 1, 1, 1, 1)


def multi_scale(stages: Tensor) -> Tensor:
    """MSG: stage k averaged down to side H / 2^(K-k), then repeated up to H so that the stages stack on channels.

    (K, B, C, H, W) -> (K, B, C, H, W). Raises :class:`UserError` unless H is divisible by 2^(K-1).
    """
    num_stages, side = len(stages), stages.shape[-1]
    if side % 2 ** (num_stages - 1):
        raise UserError(f"MSG with {num_stages} stages needs latents divisible by {2 ** (num_stages - 1)}, not {side}")
    scaled = []
    for k, stage in enumerate(stages):
        factor = 2 ** (num_stages - 1 - k)
        small = F.avg_pool2d(stage, factor) if factor > 1 else stage
        scaled.append(F.interpolate(small, scale_factor=factor, mode="nearest") if factor > 1 else small)
    return torch.stack(scaled)
