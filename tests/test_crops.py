"""Crops in batches and for training: what they hold, and what becomes of images that cannot be read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gat.data.crops import RowsToBatch, TrainingImages
from gat.data.folder import CorruptImageError, open_image_folder
from gat.errors import UserError
from tests.preparing import COUNT, IMAGES, Case, decoded, make_case, parts_of_four


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Three parts of four images."""
    parts_of_four(monkeypatch)
    return make_case(tmp_path)


# batches


def test_batch_holds_crops_and_their_files(case: Case) -> None:
    (case.root / "bee" / "2.png").unlink()
    Image.fromarray(IMAGES[6]).crop((0, 0, 31, 32)).save(case.root / "bee" / "2.png")  # one pixel too narrow
    batch = RowsToBatch(open_image_folder(case.root), case.data)[[4, 5, 6, 7]]
    assert (batch.part, batch.rows, batch.errors, batch.upscaled) == (1, [4, 5, 6, 7], [], 1)
    assert batch.pixels.dtype == torch.uint8
    assert np.array_equal(batch.pixels.numpy()[[0, 1, 3]], IMAGES[[4, 5, 7]])
    assert not np.array_equal(batch.pixels.numpy()[2], IMAGES[6])
    assert np.array_equal(decoded(batch.encoded), batch.pixels.numpy())


def test_batch_names_what_it_lacks(case: Case) -> None:
    case.corrupt("cat/0.png", "cat/2.png")
    batch = RowsToBatch(open_image_folder(case.root), case.data)[[8, 9, 10]]
    assert (batch.part, batch.rows) == (2, [9])
    assert [error.split(":")[0] for error in batch.errors] == [f"{case.root}/cat/{i}.png" for i in (0, 2)]
    assert np.array_equal(batch.pixels.numpy(), IMAGES[9:10])
    assert len(batch.encoded) == 1


def test_batch_of_nothing_readable(case: Case) -> None:
    case.corrupt("cat/3.png")
    batch = RowsToBatch(open_image_folder(case.root), case.data)[[11]]
    assert (batch.part, batch.rows, batch.encoded, len(batch.errors)) == (2, [], [], 1)


def test_too_narrow_to_be_enlarged(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 x 40 pixels would become 32 x 1,280: too many where the limit is 40,000; a corrupt image, and the others are kept."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    Image.new("RGB", (40, 1)).save(case.root / "ant" / "0.png")
    batch = RowsToBatch(open_image_folder(case.root), case.data)[[0, 1]]
    assert batch.rows == [1]
    assert batch.errors == [f"image 0 of image_folder:{case.root}: 40 x 1 pixels, too narrow to be enlarged"]


def test_one_pixel_is_scaled_up(case: Case) -> None:
    Image.new("RGB", (1, 1), (9, 80, 200)).save(case.root / "ant" / "0.png")
    batch = RowsToBatch(open_image_folder(case.root), case.data)[[0]]
    assert batch.upscaled == 1
    assert batch.pixels.shape == (1, 32, 32, 3)
    assert (batch.pixels == torch.tensor([9, 80, 200], dtype=torch.uint8)).all()


# images for the tiny autoencoder


def test_training_skips_what_cannot_be_read(case: Case) -> None:
    """The next image stands in, the first for the last."""
    case.corrupt("ant/1.png", "ant/2.png", "cat/3.png")
    images = TrainingImages(open_image_folder(case.root), replace(case.data, on_corrupt="skip"))
    assert len(images) == COUNT
    assert np.array_equal(images[np.array([11, 0, 1, 2, 3])], IMAGES[[0, 0, 3, 3, 3]])


def test_nothing_to_train_on(case: Case) -> None:
    case.corrupt(*(f"{name}/{i}.png" for name in ("ant", "bee", "cat") for i in range(4)))
    with pytest.raises(UserError, match=r"image_folder:.*photos: no image can be read: is this the right folder") as no:
        TrainingImages(open_image_folder(case.root), replace(case.data, on_corrupt="skip"))[np.array([5])]
    assert not isinstance(no.value, CorruptImageError)
