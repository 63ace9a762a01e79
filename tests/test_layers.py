"""Layers that are computed otherwise than they are written: the same numbers."""

import pytest
import torch

from gat.models.layers import SwiGLU, swiglu_hidden
from gat.platform import full_precision, tf32


@pytest.mark.parametrize(
    ("width", "hidden", "fill"), [(384, 1024, 0), (768, 2048, 0), (1024, 2730, 22), (1152, 3072, 0)]
)
def test_hidden_widths_and_what_fills_them_up(width: int, hidden: int, fill: int) -> None:
    with torch.device("meta"):
        layer = SwiGLU(width)
    assert (swiglu_hidden(width), layer.fill) == (hidden, fill)
    assert (hidden + fill) % 64 == 0
    assert layer.w12.weight.shape == (2 * hidden, width)


def test_filled_up_is_equal_with_its_gradients() -> None:
    torch.manual_seed(0)
    layer = SwiGLU(16).double()  # 42 wide, filled up to 64
    assert layer.fill == 22
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    results = []
    for compute in (layer, layer.filled):
        layer.zero_grad()
        out = compute(x)
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)])
    assert len(results[0]) == 5
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_precision_of_products_on_a_gpu_is_put_back() -> None:
    def state() -> tuple[bool, str]:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    before = state()
    with tf32():
        assert state() == (True, "high")
        with full_precision():  # an evaluation during training
            assert state() == (False, "highest")
        assert state() == (True, "high")
    assert state() == before
