"""Random draws as a function of (seed, purpose, step): no global random state, nothing to store for resuming."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def make_generator(seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of its arguments alone."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), step])
    state = int(entropy.generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(state)


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Initial weights drawn inside (PyTorch takes them from its global generator) are a function of ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
