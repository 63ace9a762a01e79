"""How often a classifier trained on the real images gives the class asked for: an honest sign of life for small data.

A support-vector machine (scikit-learn) on grey images averaged down to 8x8 pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from torch import Tensor

from gat.data.prepared import PreparedSet
from gat.errors import UserError

INPUT_PX = 8
MAX_IMAGES = 10_000
HELD_OUT = 0.2


class ClassRecognizer:
    """Trained on real uint8 images (count, P, P, 3) with labels (count,); ``held_out_accuracy`` is on a fifth not seen.

    After the hold-out figure the classifier is trained on all of them; :func:`chosen_rows` says which of a large set to take.
    Raises :class:`UserError` for too few images to hold a fifth out, or if all images are of one class.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        inputs, targets = reduce_images(torch.from_numpy(images).permute(0, 3, 1, 2)), labels
        try:
            train_x, test_x, train_y, test_y = train_test_split(
                inputs, targets, test_size=HELD_OUT, random_state=0, stratify=targets
            )
            self.held_out_accuracy = float(SVC(C=10).fit(train_x, train_y).score(test_x, test_y))
            self.classifier = SVC(C=10).fit(inputs, targets)
        except ValueError as error:
            raise UserError(
                f"{len(targets)} images are too few to train a classifier on ({error}): set evaluation.classifier=false"
            ) from error

    def classes(self, images: Tensor) -> Tensor:
        """Predict the classes (B,), on the CPU, of uint8 images (B, 3, P, P)."""
        return torch.from_numpy(self.classifier.predict(reduce_images(images)))


def recognizer(data: PreparedSet) -> ClassRecognizer:
    """Train a classifier on a prepared set's images."""
    rows = chosen_rows(len(data))
    return ClassRecognizer(data.images(rows), data.labels[rows])


def chosen_rows(count: int) -> NDArray[np.int64]:
    """Rows to train on, of ``count``: at most 10,000, in order."""
    return np.sort(np.random.default_rng(0).permutation(count)[:MAX_IMAGES])


def reduce_images(images: Tensor) -> NDArray[np.float32]:
    """uint8 (B, 3, P, P) -> grey, area-averaged to 8x8, in [0, 1]: (B, 64)."""
    grey = images.float().mean(dim=1, keepdim=True) / 255
    return F.interpolate(grey, size=(INPUT_PX, INPUT_PX), mode="area").flatten(1).cpu().numpy()
