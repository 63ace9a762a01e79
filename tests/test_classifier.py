"""The classifier of real images: sure of digits, at chance on labels that mean nothing."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gat.data.images import center_crop
from gat.data.sources import load_digits
from gat.errors import UserError
from gat.evaluation import classifier
from gat.evaluation.classifier import ClassRecognizer, reduce_images

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module")
def digits() -> Labelled:
    """All digits, enlarged to 32 pixels."""
    source = load_digits()
    return np.stack([center_crop(source.image(i), 32) for i in range(len(source))]), source.labels


@pytest.fixture(scope="module")
def recognizer(digits: Labelled) -> ClassRecognizer:
    return ClassRecognizer(*digits)


def as_samples(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def permuted(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(labels)


def test_reduction_by_hand() -> None:
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    images[0, 0, 0, 0] = 255  # red alone, one of the cell's four pixels: a twelfth
    images[0, :, 2:4, 14:16] = 51
    cells = reduce_images(images).reshape(8, 8)
    assert cells[0, 0] == pytest.approx(1 / 12)
    assert cells[1, 7] == pytest.approx(0.2)
    assert np.count_nonzero(cells) == 2


def test_digits_are_recognised_unseen(recognizer: ClassRecognizer) -> None:
    assert recognizer.held_out_accuracy > 0.95


def test_accuracy_on_real_labels(recognizer: ClassRecognizer, digits: Labelled) -> None:
    images, labels = digits
    assert recognizer.accuracy(as_samples(images), torch.from_numpy(labels)) > 0.99


def test_accuracy_on_permuted_labels_is_chance(recognizer: ClassRecognizer, digits: Labelled) -> None:
    images, labels = digits
    accuracy = recognizer.accuracy(as_samples(images), torch.from_numpy(permuted(labels)))
    assert accuracy == pytest.approx(0.1, abs=0.03)  # 4 standard errors


def test_held_out_images_are_held_out(digits: Labelled) -> None:
    """Labels that mean nothing can be learnt by heart, but not foretold."""
    images, labels = digits
    meaningless = permuted(labels)[:600]
    recognizer = ClassRecognizer(images[:600], meaningless)
    assert recognizer.held_out_accuracy < 0.25
    assert recognizer.accuracy(as_samples(images[:600]), torch.from_numpy(meaningless)) > 0.6


def test_accuracy_counts_agreements(recognizer: ClassRecognizer, digits: Labelled) -> None:
    images, labels = digits
    asked = torch.from_numpy(labels[:10].copy())
    asked[:3] = (asked[:3] + 1) % 10
    assert recognizer.accuracy(as_samples(images[:10]), asked) == pytest.approx(0.7)


def test_large_data_are_thinned_out(digits: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = digits
    monkeypatch.setattr(classifier, "MAX_IMAGES", 300)
    order = np.argsort(labels, kind="stable")  # as in a folder: the classes one after the other
    recognizer = ClassRecognizer(images[order], labels[order])
    assert recognizer.classifier.shape_fit_ == (300, 64)
    assert recognizer.classifier.classes_.tolist() == list(range(10))
    assert recognizer.held_out_accuracy > 0.8


def test_too_few_images(digits: Labelled) -> None:
    images, labels = digits
    for count in (10, 30):  # one of each class; three of each, of which a fifth is fewer than ten
        with pytest.raises(UserError, match=rf"{count} images are too few .*: set evaluation\.classifier=false"):
            ClassRecognizer(images[:count], labels[:count])
