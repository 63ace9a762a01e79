"""The teacher's view of the generator's samples: targets of REPA on G.

Shapes: B batch, C latent channels, H latent side.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gat.config import Config
from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.objective.adversarial import TeacherTokens
from gat.platform import full_precision
from gat.teachers import CachedTokens, Teacher, load_teacher


class SampleTeacher:
    """A teacher's tokens of what latents decode to (in fp32), in its own precision; no gradient comes back."""

    def __init__(self, teacher: Teacher, autoencoder: AutoencoderKL, scale: float) -> None:
        self.teacher, self.autoencoder, self.scale = teacher, autoencoder, scale

    def __call__(self, latents: Tensor) -> TeacherTokens:
        """Tokens of sample latents (B, C, H, H)."""
        with torch.autocast(latents.device.type, enabled=False), full_precision():
            images = to_uint8(decode(self.autoencoder, latents, self.scale))
            return self.teacher(images.permute(0, 2, 3, 1))


def live_teacher(config: Config, of_real: Teacher | CachedTokens | None, device: torch.device) -> Teacher | None:
    """The teacher of G's samples, None if G is not aligned; where the real images' teacher is no cache, the same one."""
    if not config.objective.generator_alignment_weight:
        return None
    return of_real if isinstance(of_real, Teacher) else load_teacher(config.teacher, device)
