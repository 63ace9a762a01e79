"""Activation checkpointing and compilation change no result; what is computed again is what is said."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gat.errors import UserError
from gat.models.recompute import MODES, run_block
from gat.models.sizes import discriminator_dims, generator_dims
from gat.objective.adversarial import TeacherTokens
from gat.training.noise import draw_noise
from gat.training.setup import augment_rates, compiles, make_networks, step_settings
from gat.training.step import Batch, Networks, training_step
from tests.conftest import compose_config
from tests.helpers import mini_discriminator, mini_generator

CPU = torch.device("cpu")
SHARED: dict[str, Any] = {"patch": 4, "num_classes": 3, "latent_side": 8, "channels": 4, "num_stages": 4}


def gradients_and_flops(mode: str) -> tuple[list[Tensor], int]:
    """Of a discriminator's blocks on fixed tokens, which need a gradient too."""
    network = mini_discriminator()
    x = torch.randn(4, 5, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        h = x
        for block in network.blocks:
            h = run_block(block, mode, h, network.rope)
        h.square().sum().backward()
    assert x.grad is not None
    return [p.grad for p in network.blocks.parameters() if p.grad is not None] + [x.grad], counter.get_total_flops()


@pytest.mark.parametrize(("mode", "share"), [("selective", 1.0), ("full", 4 / 3)])
def test_equal_gradients_for_the_flops_that_are_said(mode: str, share: float) -> None:
    """A forward is a third of forward and backward; selective recomputes no matrix product."""
    torch.manual_seed(0)
    expected, once = gradients_and_flops("none")
    torch.manual_seed(0)
    found, flops = gradients_and_flops(mode)
    assert len(found) == len(expected) > 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert flops / once == pytest.approx(share, abs=0.01)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    """Then blocks are called as they are."""
    calls = []

    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(torch.is_grad_enabled())
            return x

    with torch.no_grad():
        run_block(Block(), "full", torch.ones(1))
    assert calls == [False]


def advanced(*typed: str) -> tuple[Networks, dict[str, Tensor]]:
    """Networks and metrics after two steps of a small pair with alignment."""
    config = compose_config("objective=gat", "model.patch=4", *typed)
    dims = (
        generator_dims("mini", "S", teacher_width=0, **SHARED),
        discriminator_dims("mini", "S", teacher_width=6, **SHARED),
    )
    networks, settings = make_networks(config, dims, CPU), step_settings(config, has_teacher=True)
    generator, metrics = torch.Generator().manual_seed(0), {}
    for step in range(2):
        noise = draw_noise(0, step, 6, dims[0], augment_rates(config.objective), CPU)
        tokens = TeacherTokens(torch.randn(6, 6, generator=generator), torch.randn(6, 4, 6, generator=generator))
        batch = Batch(torch.randn(6, 4, 8, 8, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2]), tokens)
        metrics = training_step(networks, batch, noise, settings)
    return networks, metrics


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_whole_step_is_equal(mode: str) -> None:
    expected, _ = advanced()
    found, _ = advanced(f"training.activation_checkpointing={mode}")
    assert found.generator.checkpointing == found.discriminator.checkpointing == mode
    for name in ("generator", "discriminator", "ema"):
        theirs = getattr(expected, name).state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in getattr(found, name).state_dict().items())


@pytest.mark.parametrize("mode", MODES)
def test_a_compiled_step_is_equal_up_to_rounding(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs that compilation traces, run without the code generator (which needs a compiler, and minutes)."""
    original, compiled = nn.Module.compile, []
    monkeypatch.setattr("shutil.which", lambda name: name)

    def compile_traced(self: nn.Module, **how: Any) -> None:
        compiled.append(how)
        original(self, backend="aot_eager", **how)

    monkeypatch.setattr(nn.Module, "compile", compile_traced)
    _, expected = advanced("training.compile=off")
    assert not compiled
    _, found = advanced("training.compile=on", f"training.activation_checkpointing={mode}")
    assert compiled == [{"dynamic": False}] * 16
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-5), name


def test_auto_compiles_on_a_gpu_alone() -> None:
    assert [compiles(choice, CPU) for choice in ("auto", "off")] == [False, False]
    assert compiles("auto", torch.device("cuda"))


def test_compiling_on_a_cpu_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UserError, match=r"training\.compile=on needs a C\+\+ compiler"):
        compiles("on", CPU)
    assert compiles("on", torch.device("cuda"))


def test_state_dicts_do_not_tell() -> None:
    """A checkpoint of a compiled run is like any other."""
    network = mini_generator()
    keys = list(network.state_dict())
    for block in network.blocks:
        block.compile(dynamic=False)
    assert list(network.state_dict()) == keys


def test_unknown_choices() -> None:
    from gat.training.check import check

    for setting in ("training.activation_checkpointing=some", "training.compile=maybe"):
        with pytest.raises(UserError, match=f"{setting.replace('=', chr(61) + chr(39))}' is unknown"):
            check(compose_config(setting))
