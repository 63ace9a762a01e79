"""What a step changes, against weights and outputs changed by hand."""

import pytest
import torch

from gat.objective.augment import AugmentRates
from gat.training.change import changes, snapshot
from gat.training.noise import draw_noise
from gat.training.step import Batch
from tests.test_step import make_networks


def test_known_changes() -> None:
    networks = make_networks()
    noise = draw_noise(0, 0, 6, networks.generator.dims, AugmentRates(), torch.device("cpu"))
    batch = Batch(noise.posterior, torch.arange(6) % 3, None)
    before = snapshot(networks, batch, noise)
    assert all(float(v) == 0 for k, v in changes(before, networks, batch, noise).items() if not k.endswith("norm"))
    norm = torch.cat([p.flatten() for p in networks.generator.parameters()]).norm().item()
    with torch.no_grad():
        networks.generator.get_parameter("heads.3.linear.bias").add_(0.5)  # moves every value of the sample by 0.5
    moved = changes(before, networks, batch, noise)
    assert float(moved["g_output_change"]) == pytest.approx(0.5, rel=1e-4)
    assert float(moved["d_output_change"]) == 0
    values = networks.generator.get_parameter("heads.3.linear.bias").numel()
    assert float(moved["g_update_ratio"] * moved["g_weight_norm"]) == pytest.approx(0.5 * values**0.5, rel=1e-4)
    assert float(moved["g_weight_norm"]) == pytest.approx(norm, rel=1e-2)
    with torch.no_grad():
        networks.discriminator.logit_linear.weight.mul_(3)  # bias 0: the logits grow to three times theirs
    grown = changes(before, networks, batch, noise)
    expected = 2 * before.logits.square().mean().sqrt()
    assert float(grown["d_output_change"]) == pytest.approx(float(expected), rel=1e-4)
