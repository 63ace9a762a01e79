"""The alignment loss by hand, and the teacher's image following the latents."""

import pytest
import torch

from gat.objective.alignment import alignment_loss, move_images, patch_alignment_loss, resize_tokens, teacher_shift
from gat.objective.augment import AugmentParams, AugmentRates, augment, draw_params


def test_loss_is_zero_when_aligned_and_four_when_opposed() -> None:
    cls, patches = torch.randn(2, 6), torch.randn(2, 9, 6)
    assert alignment_loss(3 * cls, 0.1 * patches, cls, patches).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert alignment_loss(-cls, -patches, cls, patches).tolist() == pytest.approx([4, 4])


def test_patches_are_averaged_and_cls_counts_once() -> None:
    teacher = torch.tensor([1.0, 0.0])
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]])  # cosines 1, 0, -1, 0
    loss = alignment_loss(torch.tensor([[0.0, 5.0]]), patches, teacher[None], teacher.expand(1, 4, 2))
    assert loss.tolist() == pytest.approx([1 + 1])


def test_patches_alone_against_a_teacher_of_another_grid() -> None:
    teacher = torch.tensor([1.0, 0.0]).expand(1, 16, 2)  # constant: resizing to 2x2 keeps it
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [3.0, 0.0]]])  # cosines 1, 0, -1, 1
    assert patch_alignment_loss(patches, teacher).tolist() == pytest.approx([0.75])


def test_resize_keeps_constants_and_equal_grids() -> None:
    tokens = torch.randn(2, 16, 3)
    assert resize_tokens(tokens, 16) is tokens
    constant = torch.ones(1, 256, 3) * torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(resize_tokens(constant, 16), constant[:, :16])


def test_teacher_shift_exact_and_as_released() -> None:
    cells = torch.tensor([-4, -1, 0, 1, 4])
    assert teacher_shift(cells, 224, 32, "exact").tolist() == [-28, -7, 0, 7, 28]
    assert teacher_shift(cells, 224, 32, "as_released").tolist() == [-1, -1, 0, 0, 0]


def test_images_move_as_latents_do() -> None:
    """At a ratio of one pixel per cell, moving an image is augmenting it with translation and flip alone."""
    drawn = draw_params(16, 8, AugmentRates(color=0, cutout=0), torch.Generator().manual_seed(1))
    assert isinstance(drawn, AugmentParams)
    images = torch.randn(16, 3, 8, 8)
    moved = move_images(images, drawn.shift_rows, drawn.shift_columns, drawn.flip)
    assert torch.equal(moved, augment(images, drawn, images))
