"""DiffAugment's parts on small images, by hand. Agreement with the release is in test_agreement.py."""

import torch
from torch import Tensor

from gat.objective.augment import AugmentParams, AugmentRates, cutout_cells, draw_params
from gat.objective.augment import augment as augment_about

SIDE = 8


def params(**changed: Tensor) -> AugmentParams:
    """Parameters of one sample that do nothing, but for those given."""
    off, zero = torch.tensor([False]), torch.tensor([0])
    middle = torch.tensor([0.5])
    neutral = {
        "color": off,
        "brightness": middle,
        "saturation": middle,
        "contrast": middle,
        "shift_rows": zero,
        "shift_columns": zero,
        "cutout": off,
        "cutout_rows": zero,
        "cutout_columns": zero,
        "flip": off,
    }
    return AugmentParams(**(neutral | changed))


def augment(images: Tensor, drawn: AugmentParams, means_of: Tensor | None = None) -> Tensor:
    """About the means of the images themselves, unless others are given."""
    return augment_about(images, drawn, images if means_of is None else means_of)


def image() -> Tensor:
    return torch.arange(SIDE * SIDE, dtype=torch.float64).view(1, 1, SIDE, SIDE) + 1


def test_neutral_parameters_change_nothing() -> None:
    everything_on = params(color=torch.tensor([True]))
    assert torch.allclose(augment(image(), everything_on), image())
    assert torch.equal(augment(image(), params()), image())


def test_translation_moves_content_up_and_left_and_lets_zeros_in() -> None:
    moved = augment(image(), params(shift_rows=torch.tensor([1]), shift_columns=torch.tensor([-1])))
    assert torch.equal(moved[0, 0, :-1, 1:], image()[0, 0, 1:, :-1])
    assert not moved[0, 0, -1].any()
    assert not moved[0, 0, :, 0].any()


def test_cutout_blanks_a_square_of_half_the_side() -> None:
    center = {"cutout_rows": torch.tensor([3]), "cutout_columns": torch.tensor([5])}
    cut = augment(image(), params(cutout=torch.tensor([True]), **center))
    assert cutout_cells(SIDE) == 4
    expected = image()
    expected[..., 1:5, 3:7] = 0
    assert torch.equal(cut, expected)


def test_flip_comes_last() -> None:
    center = {"cutout_rows": torch.tensor([0]), "cutout_columns": torch.tensor([0])}
    on = torch.tensor([True])
    both = augment(image(), params(cutout=on, flip=on, **center))
    expected = image()
    expected[..., :2, :2] = 0
    assert torch.equal(both, expected.flip(-1))


def test_color_by_hand() -> None:
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)  # channel mean 2, image mean 2
    color = {"brightness": torch.tensor([1.0]), "saturation": torch.tensor([1.0]), "contrast": torch.tensor([1.0])}
    # brightness adds 0.5: 1.5, 3.5; saturation doubles the distance to 2: 1, 5; contrast takes it 1.5 times: 0.5, 6.5
    assert augment(x, params(color=torch.tensor([True]), **color)).flatten().tolist() == [0.5, 6.5]


def test_color_about_the_means_of_another_image_by_hand() -> None:
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    last = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1).requires_grad_()  # channel mean 1, image mean 1
    color = {"brightness": torch.tensor([1.0]), "saturation": torch.tensor([1.0]), "contrast": torch.tensor([1.0])}
    # brightness adds 0.5: 1.5, 3.5; saturation doubles the distance to 1: 2, 6; contrast takes it 1.5 times: 2.5, 8.5
    turned = augment(x, params(color=torch.tensor([True]), **color), last)
    assert turned.flatten().tolist() == [2.5, 8.5]
    turned[0, 0].sum().backward()
    # a mean m enters as 1.5 (2 (x + 0.5) - m) - 0.5 m = ... - 2 m, and is half of each channel
    assert last.grad is not None
    assert last.grad.flatten().tolist() == [-1, -1]


def test_stages_share_a_samples_draw() -> None:
    drawn = draw_params(5, SIDE, AugmentRates(), torch.Generator().manual_seed(0))
    stages = torch.randn(3, 5, 4, SIDE, SIDE)
    together = augment(stages, drawn, stages[-1])
    assert torch.equal(together, torch.stack([augment(stage, drawn, stages[-1]) for stage in stages]))


def test_draws_follow_their_rates_and_ranges() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_params(20_000, 32, AugmentRates(), generator)
    assert abs(drawn.color.float().mean() - 0.5) < 0.02
    assert abs(drawn.flip.float().mean() - 0.4) < 0.02
    assert drawn.cutout.all()
    assert (int(drawn.shift_rows.min()), int(drawn.shift_rows.max())) == (-4, 4)
    assert (int(drawn.cutout_rows.min()), int(drawn.cutout_rows.max())) == (0, 32)
    none = draw_params(100, 32, AugmentRates(0, 0, 0, 0), generator)
    x = torch.randn(100, 2, 32, 32)
    assert torch.equal(augment(x, none), x)


def test_gradient_passes_only_through_what_is_shown() -> None:
    x = image().requires_grad_()
    augment(x, params(shift_rows=torch.tensor([1]))).sum().backward()
    assert x.grad is not None
    assert not x.grad[0, 0, 0].any()
    assert (x.grad[0, 0, 1:] == 1).all()
