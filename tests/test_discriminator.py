"""The discriminator beyond its numbers (test_reference.py): names of tokens, projected rows, [cls] and positions."""

import pytest
import torch

from gat.models.discriminator import Discriminator
from tests.helpers import TEACHER_WIDTH, mini_discriminator


@pytest.fixture
def discriminator() -> Discriminator:
    return mini_discriminator()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 3, 4, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2])


def test_outputs_have_the_documented_shapes(
    discriminator: Discriminator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    output = discriminator(*inputs)
    assert output.logits.shape == (3,)
    assert output.cls.shape == (3, TEACHER_WIDTH)
    assert output.patches.shape == (3, 4, TEACHER_WIDTH)


def test_projecting_some_rows_changes_no_number(
    discriminator: Discriminator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    whole, some, none = (discriminator(*inputs, project_rows=rows) for rows in (None, 2, 0))
    assert torch.equal(some.logits, whole.logits)
    assert torch.allclose(some.cls, whole.cls[:2])
    assert torch.allclose(some.patches, whole.patches[:2])
    assert none.cls.shape == (0, TEACHER_WIDTH)


def test_without_a_teacher_there_is_no_projector(inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    discriminator = mini_discriminator(teacher_width=0)
    assert not [name for name, _ in discriminator.named_parameters() if name.startswith("projector")]
    assert discriminator(*inputs).logits.shape == (3,)


def test_tokens_by_name(discriminator: Discriminator, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    tokens: dict[str, torch.Tensor] = {}
    discriminator(*inputs, record=tokens)
    assert list(tokens) == ["embed"] + [f"block_{i}" for i in range(8)]
    assert {t.shape for t in tokens.values()} == {(3, 5, 64)}
    assert torch.equal(tokens["embed"][:, 0], discriminator.cls_token[0].expand(3, -1))


def test_cls_is_not_turned_and_patches_are(discriminator: Discriminator) -> None:
    cos, sin = discriminator.rope
    assert (cos[0] == 1).all()
    assert not sin[0].any()
    assert torch.equal(cos[1], torch.ones_like(cos[1]))  # row 0, column 0
    assert sin[2].any()
    assert sin[3].any()


def test_stages_stack_on_channels_in_order(
    discriminator: Discriminator, inputs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Zeroing the weights of the second stage's channels makes the second stage, and it alone, invisible."""
    stages, labels = inputs
    with torch.no_grad():
        discriminator.patch_embed.weight[:, 4:8] = 0
    base = discriminator(stages, labels).logits
    for k in range(4):
        changed = stages.clone()
        changed[k] += 1
        assert torch.allclose(discriminator(changed, labels).logits, base) == (k == 1)


def test_logit_depends_on_the_class(discriminator: Discriminator, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    stages, labels = inputs
    assert not torch.allclose(discriminator(stages, labels).logits, discriminator(stages, labels.flip(0)).logits)
