"""Dimensions that generator and discriminator share."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NetworkDims:
    """Width d, depth L, attention heads, patch size and side of the latents (in cells), C channels, K stages, classes."""

    width: int
    depth: int
    heads: int
    patch: int
    num_classes: int
    latent_side: int
    channels: int = 4
    num_stages: int = 4

    @property
    def tokens(self) -> int:
        """N, the number of patch tokens (without [cls])."""
        return (self.latent_side // self.patch) ** 2
