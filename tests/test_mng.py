"""MNG's levels, the law of its noises, and its variants, against values worked out by hand."""

import pytest
import torch

from gat.errors import UserError
from gat.mng import coefficients, multi_scale, nest, noise_levels, perturb


def test_exponential_levels() -> None:
    assert noise_levels(4).tolist() == pytest.approx([0.885, 0.76, 0.51, 0.01])


def test_linear_levels_share_the_ends() -> None:
    assert noise_levels(4, "linear").tolist() == pytest.approx([0.885, 0.01 + 0.875 * 2 / 3, 0.01 + 0.875 / 3, 0.01])


def test_single_stage_has_the_last_level() -> None:
    assert noise_levels(1).tolist() == pytest.approx([0.01])


@pytest.mark.parametrize("nested", [True, False])
def test_flat_shows_every_stage_at_the_last_level(nested: bool) -> None:
    """Nested noises of equal levels are one noise, that of the last stage."""
    assert noise_levels(3, "flat").tolist() == pytest.approx([0.01] * 3)
    stages = torch.arange(3.0).double().view(3, 1, 1, 1, 1)
    noise = torch.tensor([5.0, 7.0, 11.0]).double().view(3, 1, 1, 1, 1)
    shown = perturb(stages, noise, schedule="flat", nested=nested).flatten().tolist()
    expected = [0.11, 0.11, 0.11] if nested else [0.05, 0.07, 0.11]
    assert shown == pytest.approx([0.99 * k + n for k, n in enumerate(expected)])


def test_variance_preserving_coefficients() -> None:
    signal, std = coefficients(4, "exponential", "variance_preserving")
    assert signal.tolist() == pytest.approx([0.125, 0.25, 0.5, 1.0])
    assert (signal.square() + std.square()).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("form", ["released", "variance_preserving"])
@pytest.mark.parametrize("schedule", ["exponential", "linear"])
def test_nested_noise_has_its_stages_variance_and_is_a_forward_diffusion(schedule: str, form: str) -> None:
    signal, std = coefficients(4, schedule, form)
    # The linear map from the four unit normals to the four noises: columns are the responses to one of them.
    responses = torch.stack([nest(torch.eye(4, dtype=torch.float64)[i].view(4, 1), signal, std) for i in range(4)])
    mixing = responses.squeeze(-1).T
    covariance = mixing @ mixing.T
    assert torch.allclose(covariance.diagonal().sqrt(), std)
    for k in range(3):  # noise k = ratio * noise k+1 + something independent of it
        ratio = signal[k] / signal[k + 1]
        assert covariance[k, k + 1] == pytest.approx(float(ratio * std[k + 1] ** 2))


def test_independent_noise() -> None:
    stages, noise = torch.ones(2, 1, 1, 2, 2), torch.full((2, 1, 1, 2, 2), 3.0)
    shown = perturb(stages, noise, nested=False)
    assert shown[0].flatten().tolist() == pytest.approx([0.115 + 0.885 * 3] * 4)
    assert shown[1].flatten().tolist() == pytest.approx([0.99 + 0.03] * 4)


def test_none_shows_the_final_image_at_the_last_level() -> None:
    image, noise = torch.ones(1, 1, 1, 2, 2), torch.full((1, 1, 1, 2, 2), 3.0)
    assert perturb(image, noise, schedule="none").flatten().tolist() == pytest.approx([0.99 + 0.03] * 4)
    with pytest.raises(UserError, match="4 stages given, use 1"):
        perturb(torch.ones(4, 1, 1, 2, 2), torch.ones(4, 1, 1, 2, 2), schedule="none")


def test_msg_averages_and_repeats() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(1, 1, 2, 2)
    coarse, fine = multi_scale(torch.stack([image, image]))
    assert coarse.flatten().tolist() == [3.0] * 4
    assert torch.equal(fine, image)


def test_msg_reads_no_noise_and_needs_divisible_latents() -> None:
    stages = torch.randn(4, 2, 3, 8, 8)
    assert torch.equal(perturb(stages, torch.randn_like(stages), schedule="msg"), multi_scale(stages))
    with pytest.raises(UserError, match="divisible by 8, not 4"):
        multi_scale(torch.zeros(4, 1, 1, 4, 4))


def test_wrong_arguments_are_named() -> None:
    stages = torch.zeros(4, 1, 1, 2, 2)
    with pytest.raises(UserError, match="schedule='cosine'"):
        perturb(stages, stages, schedule="cosine")
    with pytest.raises(UserError, match="form='paper'"):
        perturb(stages, stages, form="paper")
    with pytest.raises(ValueError, match=r"noise of shape \(4, 2, 1, 2, 2\)"):
        perturb(stages, torch.zeros(4, 2, 1, 2, 2))
