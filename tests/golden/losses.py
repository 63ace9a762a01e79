"""The golden loss curve: 16 steps of mini S in float64 on made-up data on the CPU, by ``python -m tests.golden.losses``.

A change that moves it must say why in its commit, and raises :data:`gat.numerics.NUMERICS`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gat.models.sizes import discriminator_dims, generator_dims
from gat.numerics import NUMERICS
from gat.objective.adversarial import TeacherTokens
from gat.training.noise import draw_noise
from gat.training.setup import augment_rates, make_networks, step_settings
from gat.training.step import Batch, training_step
from tests.conftest import compose_config

FILE = Path(__file__).parent / "losses.json"
STEPS, BATCH, CLASSES, SIDE, TEACHER_WIDTH = 16, 16, 4, 8, 12
LOGGED = ("d_loss", "g_loss", "ar1", "ar2", "alignment", "sample_rms", "g_grad_norm", "d_grad_norm")
CPU = torch.device("cpu")


def batch_of(step: int) -> Batch:
    """Each class is a wave of its own with noise; the teacher's tokens are a fixed projection of the patches."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    place = torch.arange(SIDE) / SIDE
    wave = torch.sin(2 * torch.pi * (labels[:, None, None] + 1) * (place[:, None] + 0.5 * place))
    real = wave[:, None] + 0.3 * torch.randn(BATCH, 4, SIDE, SIDE, generator=generator)
    patches = real.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(BATCH, 16, 16)
    patches = patches @ torch.randn(16, TEACHER_WIDTH, generator=torch.Generator().manual_seed(0))
    return Batch(real, labels, TeacherTokens(patches.mean(dim=1), patches))


@contextmanager
def float64() -> Iterator[None]:
    """Make float64 the dtype of weights, data and draws within the block."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@float64()
def curve() -> dict[str, list[float]]:
    """Return the metrics by name, step by step."""
    shared = {"patch": 2, "num_classes": CLASSES, "latent_side": SIDE, "channels": 4, "num_stages": 4}
    generator = generator_dims("mini", "S", teacher_width=0, **shared)
    dims = (generator, discriminator_dims("mini", "S", teacher_width=TEACHER_WIDTH, **shared))
    config = compose_config("objective=gat", "training.compile=off")
    networks, settings = make_networks(config, dims, CPU), step_settings(config, has_teacher=True)
    found: dict[str, list[float]] = {name: [] for name in LOGGED}
    for step in range(STEPS):
        noise = draw_noise(0, step, BATCH, generator, augment_rates(config.objective), CPU)
        metrics = training_step(networks, batch_of(step), noise, settings)
        for name in LOGGED:
            found[name].append(metrics[name].item())
    return found


if __name__ == "__main__":
    golden = {"numerics": NUMERICS, "curve": curve()}
    FILE.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
