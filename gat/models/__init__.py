"""The two networks of GAT, their sizes and their cost."""

from gat.models.discriminator import Discriminator, DiscriminatorDims, DiscriminatorOutput
from gat.models.generator import Generator, GeneratorDims

__all__ = ["Discriminator", "DiscriminatorDims", "DiscriminatorOutput", "Generator", "GeneratorDims"]
