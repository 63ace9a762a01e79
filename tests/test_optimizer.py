"""The width-aware rule at the paper's widths, AdamW's first step, and the average."""

import pytest
import torch

from gat.config import OptimConfig
from gat.training.optimizer import make_optimizer, update_ema, width_aware_lr
from tests.helpers import mini_generator


@pytest.fixture
def config() -> OptimConfig:
    return OptimConfig(
        lr_base=2e-4,
        lr_reference_width=768,
        lr_multiple=1.0,
        lr_width_of=None,
        beta1=0.0,
        beta2=0.99,
        eps=1e-8,
        clip_norm=1.0,
        ema_decay=0.999,
    )


@pytest.mark.parametrize(("width", "lr"), [(384, 4e-4), (768, 2e-4), (1024, 1.5e-4), (1152, 1.33e-4)])
def test_rule_at_the_papers_widths(config: OptimConfig, width: int, lr: float) -> None:
    assert width_aware_lr(config, width) == pytest.approx(lr, rel=3e-3)


def test_multiple_of_the_rule(config: OptimConfig) -> None:
    config.lr_multiple = 0.5
    assert width_aware_lr(config, 384) == pytest.approx(2e-4)


def test_first_step_moves_every_weight_by_the_rate_and_decays_none(config: OptimConfig) -> None:
    parameter = torch.nn.Parameter(torch.tensor([5.0, -5.0]))
    optimizer = make_optimizer([parameter], config, width=384)
    parameter.grad = torch.tensor([0.3, -40.0])
    optimizer.step()
    assert parameter.tolist() == pytest.approx([5 - 4e-4, -5 + 4e-4])


def test_average_by_hand() -> None:
    average, model = mini_generator(), mini_generator()
    with torch.no_grad():
        for a, m in zip(average.parameters(), model.parameters(), strict=True):
            a.fill_(1.0)
            m.fill_(2.0)
    model.mean_w.fill_(7.0)
    update_ema(average, model, decay=0.9)
    assert all(torch.allclose(p, torch.full_like(p, 1.1)) for p in average.parameters())
    assert (average.mean_w == 7).all()
