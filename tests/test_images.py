"""Pixels: values worked out by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gat.data.images import center_crop, to_signed, to_uint8


def grey(rows: list[list[int]]) -> Image.Image:
    return Image.fromarray(np.array(rows, np.uint8)).convert("RGB")


def cropped(rows: list[list[int]], side_px: int) -> list[list[int]]:
    """One channel of the crop; the three are equal."""
    pixels = center_crop(grey(rows), side_px)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].tolist()


def test_all_grey_levels_survive_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    assert np.array_equal(to_uint8(to_signed(levels)).permute(0, 2, 3, 1).numpy(), levels)


def test_to_signed() -> None:
    images = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    expected = torch.tensor([-1.0, -0.6, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(to_signed(images), expected)
    torch.testing.assert_close(to_signed(torch.from_numpy(images)), expected)


def test_to_signed_keeps_rows_and_columns() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[1, 2, 3, 0] = 255
    signed = to_signed(images[:, ::-1])  # a view with negative strides
    assert signed.shape == (2, 3, 4, 5)
    assert (signed == 1).nonzero().tolist() == [[1, 0, 1, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_to_uint8_truncates_and_clamps(dtype: torch.dtype) -> None:
    # 127.5 x + 128: -32, 0.5, 64.25, 128, 191.75, 255.5, 383
    values = torch.tensor([-1.25, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], dtype=dtype).view(1, 1, 1, 7).expand(1, 3, 1, 7)
    result = to_uint8(values)
    assert result.dtype == torch.uint8
    assert result[0, 1, 0].tolist() == [0, 0, 64, 128, 191, 255, 255]


def test_image_of_the_right_size_is_untouched() -> None:
    rows = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert cropped(rows, 3) == rows


def test_wide_and_tall_images_lose_their_ends() -> None:
    assert cropped([[1, 2, 3, 4], [5, 6, 7, 8]], 2) == [[2, 3], [6, 7]]
    assert cropped([[1, 5], [2, 6], [3, 7], [4, 8]], 2) == [[2, 6], [3, 7]]


def test_odd_remainder_leaves_one_more_at_the_end() -> None:
    assert cropped([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], 2) == [[2, 3], [7, 8]]


def test_halving_is_the_mean_of_four() -> None:
    rows = [[0, 2, 10, 10], [4, 6, 30, 30], [8, 8, 100, 100], [8, 8, 100, 200]]
    assert cropped(rows, 2) == [[3, 20], [8, 125]]


def test_halving_is_repeated() -> None:
    quarters = np.kron([[8, 16], [24, 32]], np.ones((4, 4)))
    quarters[0, 0] += 16  # moves the mean of its 16 pixels by one
    assert cropped(quarters.astype(int).tolist(), 2) == [[9, 16], [24, 32]]


def test_wide_image_is_scaled_by_its_short_side() -> None:
    rows = [[10, 10, 20, 20, 30, 30, 40, 40]] * 4
    assert cropped(rows, 2) == [[20, 30], [20, 30]]


def test_enlarging_is_bicubic() -> None:
    # cubic kernel (a = -1/2) over the two pixels there are, at -1/4, 1/4, 3/4 and 5/4 between them:
    # shares of the second are -0.0882, 0.2071, 0.7929 and 1.0882
    assert cropped([[0, 240], [0, 240]], 4) == [[0, 50, 190, 255]] * 4


@pytest.mark.parametrize(
    "size", [(32, 32), (33, 50), (63, 64), (64, 63), (500, 333), (28, 28), (8, 8), (7, 31), (1, 3)]
)
def test_every_size_gives_a_square(size: tuple[int, int]) -> None:
    crop: NDArray[np.uint8] = center_crop(Image.new("RGB", size, (9, 8, 7)), 32)
    assert crop.shape == (32, 32, 3)
    assert (crop == (9, 8, 7)).all()


def test_the_samplers_conversion_is_darker() -> None:
    """127.5 x + 127.5 against 127.5 x + 128, both truncated: half a grey level on average over all values."""
    values = torch.linspace(-1, 1, 100_001).view(1, 1, 1, -1)
    rounded, truncated = (to_uint8(values, conversion).double() for conversion in ("rounded", "truncated"))
    assert (rounded - truncated).mean().item() == pytest.approx(0.5, abs=0.01)
    by_hand = torch.tensor([-1.5, -1.0, 0.0, 0.999, 1.0, 1.5]).view(1, 1, 1, -1)
    assert to_uint8(by_hand, "truncated").flatten().tolist() == [0, 0, 127, 254, 255, 255]
    assert to_uint8(by_hand).flatten().tolist() == [0, 0, 128, 255, 255, 255]
