"""The classifier of real images: sure of digits, at chance on labels that mean nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gat.data.images import center_crop
from gat.data.sources import load_digits
from gat.errors import UserError
from gat.evaluation import classifier
from gat.evaluation.classifier import ClassRecognizer, chosen_rows, reduce_images
from gat.evaluation.classifier import recognizer as recognizer_of
from tests.prepared import write_prepared

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


def accuracy(recognizer: ClassRecognizer, images: Tensor, labels: Tensor) -> float:
    return float((recognizer.classes(images) == labels).double().mean())


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
    assert accuracy(recognizer, as_samples(images), torch.from_numpy(labels)) > 0.99


def test_accuracy_on_permuted_labels_is_chance(recognizer: ClassRecognizer, digits: Labelled) -> None:
    images, labels = digits
    found = accuracy(recognizer, as_samples(images), torch.from_numpy(permuted(labels)))
    assert found == pytest.approx(0.1, abs=0.03)  # 4 standard errors


def test_held_out_images_are_held_out(digits: Labelled) -> None:
    """Labels that mean nothing can be learnt by heart, but not foretold."""
    images, labels = digits
    meaningless = permuted(labels)[:600]
    recognizer = ClassRecognizer(images[:600], meaningless)
    assert recognizer.held_out_accuracy < 0.25
    assert accuracy(recognizer, as_samples(images[:600]), torch.from_numpy(meaningless)) > 0.6


def test_accuracy_counts_agreements(recognizer: ClassRecognizer, digits: Labelled) -> None:
    images, labels = digits
    asked = torch.from_numpy(labels[:10].copy())
    asked[:3] = (asked[:3] + 1) % 10
    assert accuracy(recognizer, as_samples(images[:10]), asked) == pytest.approx(0.7)


def test_large_data_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_rows(5).tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(classifier, "MAX_IMAGES", 300)
    rows = chosen_rows(3000)
    assert np.array_equal(rows, np.unique(rows))
    assert len(rows) == 300
    assert np.bincount(rows // 1000).tolist() == pytest.approx([100] * 3, abs=25)  # 3 standard deviations
    assert np.array_equal(rows, chosen_rows(3000))


def test_classifier_of_a_prepared_set(tmp_path: Path, digits: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes one after the other, as in a folder: the rows that are read come from all of them."""
    images, labels = digits
    order = np.argsort(labels, kind="stable")[::3]
    data = write_prepared(tmp_path, np.zeros((len(order), 2, 1, 1), np.float16), images[order], labels[order])
    monkeypatch.setattr(classifier, "MAX_IMAGES", 300)
    trained, rows = recognizer_of(data), chosen_rows(len(data))
    expected = ClassRecognizer(images[order][rows], labels[order][rows])
    assert np.array_equal(trained.classifier.support_vectors_, expected.classifier.support_vectors_)
    assert trained.classifier.shape_fit_ == (300, 64)
    assert trained.classifier.classes_.tolist() == list(range(10))
    assert trained.held_out_accuracy > 0.8


def test_one_class(digits: Labelled) -> None:
    """Of a large set only some images are used, which may all be of one class."""
    images = digits[0][:20]
    with pytest.raises(UserError, match=r"20 images are too few .*1 class.*: set evaluation\.classifier=false"):
        ClassRecognizer(images, np.zeros(20, np.int64))


def test_too_few_images(digits: Labelled) -> None:
    images, labels = digits
    for count in (10, 30):  # one of each class; three of each, of which a fifth is fewer than ten
        with pytest.raises(UserError, match=rf"{count} images are too few .*: set evaluation\.classifier=false"):
            ClassRecognizer(images[:count], labels[:count])
