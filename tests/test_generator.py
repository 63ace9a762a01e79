"""The generator beyond its numbers (test_reference.py): names of tokens, blocks taken out, truncation, class means."""

import pytest
import torch

from gat.models.generator import Generator
from tests.helpers import CLASSES, mini_generator


@pytest.fixture
def generator() -> Generator:
    return mini_generator()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 64, dtype=torch.float64), torch.tensor([0, 2])


def test_stages_have_the_documented_shape(generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert generator(*inputs).shape == (4, 2, 4, 8, 8)
    assert mini_generator(num_stages=1)(*inputs).shape == (1, 2, 4, 8, 8)


def test_tokens_by_name(generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    tokens: dict[str, torch.Tensor] = {}
    generator(*inputs, record=tokens)
    assert list(tokens) == ["embed"] + [f"block_{i}" for i in range(8)]
    assert {t.shape for t in tokens.values()} == {(2, 4, 64)}
    assert torch.equal(tokens["embed"], generator.pos_embed.expand(2, -1, -1))


def test_heads_stand_after_every_quarter_of_the_blocks(
    generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """L = 8, K = 4: after blocks 1, 3, 5 and 7."""
    tokens: dict[str, torch.Tensor] = {}
    stages = generator(*inputs, record=tokens)
    style = torch.nn.functional.silu(generator.style(*inputs))
    image = torch.zeros_like(stages[0])
    for k, head in enumerate(generator.heads):
        image = image + head(tokens[f"block_{2 * k + 1}"], style)
        assert torch.allclose(stages[k], image, atol=1e-12)


@pytest.mark.parametrize(("aligned_block", "source"), [(None, "block_7"), (2, "block_2")])
def test_projections_of_the_aligned_block(
    inputs: tuple[torch.Tensor, torch.Tensor], aligned_block: int | None, source: str
) -> None:
    generator = mini_generator(teacher_width=5, aligned_block=aligned_block)
    tokens: dict[str, torch.Tensor] = {}
    stages = generator(*inputs, record=tokens)
    assert generator.projector is not None
    assert tokens["aligned"].shape == (2, 4, 5)
    assert torch.equal(tokens["aligned"], generator.projector(tokens[source]))
    assert torch.equal(stages, mini_generator()(*inputs))  # its other weights are the same


def test_taken_out_block_is_one_with_zero_gates(
    generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    without = generator(*inputs, skip_blocks=[3])
    tokens: dict[str, torch.Tensor] = {}
    generator(*inputs, skip_blocks=[3], record=tokens)
    assert torch.equal(tokens["block_3"], tokens["block_2"])
    with torch.no_grad():  # zero gates: the modulation is the same linear layer's second and fourth quarters
        for quarter in (1, 3):
            for kind in ("weight", "bias"):
                generator.get_parameter(f"blocks.3.modulation.{kind}")[quarter * 64 : (quarter + 1) * 64] = 0
    assert torch.allclose(generator(*inputs), without, atol=1e-14)


def test_taking_out_a_block_leaves_earlier_stages(
    generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    whole, without = generator(*inputs), generator(*inputs, skip_blocks=[4])  # the first block of the third stage
    assert torch.equal(whole[:2], without[:2])
    assert not torch.allclose(whole[2], without[2])


def test_stages_accumulate_the_heads(generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    with torch.no_grad():
        for k in range(1, 4):
            generator.get_parameter(f"heads.{k}.linear.weight").zero_()
            generator.get_parameter(f"heads.{k}.linear.bias").fill_(0.25)
    stages = generator(*inputs)
    for k in range(3):
        assert torch.allclose(stages[k + 1] - stages[k], torch.full_like(stages[k], 0.25))


def test_truncation_pulls_to_the_class_mean(generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    generator.mean_w.normal_()
    free = generator.style(*inputs)
    assert torch.equal(generator.style(*inputs, truncation=1.0), generator.mean_w[inputs[1]])
    pulled = generator.style(*inputs, truncation=0.3)
    assert torch.allclose(pulled, 0.7 * free + 0.3 * generator.mean_w[inputs[1]])


def test_class_means_by_hand(generator: Generator) -> None:
    generator.mean_w.fill_(1.0)
    w = torch.stack([torch.full((64,), value, dtype=torch.float64) for value in (3.0, 5.0, 11.0)])
    generator.update_mean_w(w, torch.tensor([0, 0, 2]))
    expected = [0.995 * 1 + 0.005 * 4, 1.0, 0.995 * 1 + 0.005 * 11]
    assert generator.mean_w[:, 0].tolist() == pytest.approx(expected)
    assert len(generator.mean_w) == CLASSES


def test_initial_residual_branches_are_small_but_not_zero(
    generator: Generator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    tokens: dict[str, torch.Tensor] = {}
    generator(*inputs, record=tokens)
    change = (tokens["block_0"] - tokens["embed"]).norm() / tokens["embed"].norm()
    assert 0 < change < 0.1
