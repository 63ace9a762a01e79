"""Features of a small classifier trained on the data set itself: a cheap, sharp instrument for small images.

A Fréchet distance in them is called ``FD-classifier-2K`` (of 2,000 samples). They know the data's classes and nothing else,
and are not the teacher's. The classifier is trained once, beside the prepared set, and its digest is in every protocol.
Shapes: B batch, P image side in pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.data.prepared import PreparedSet
from gat.errors import UserError, first_line
from gat.evaluation.kinds import CLASSIFIER
from gat.evaluation.reference import spread
from gat.files import one_at_a_time
from gat.platform import full_precision, one_thread
from gat.progress import Progress
from gat.rng import make_generator, seeded_init
from gat.tensors import save_tensors

FILE = "classifier-1.safetensors"  # the number goes up with what is trained
INPUT_PX, WIDTH = 32, 64
MAX_IMAGES, SEEN_IMAGES, MOST_EPOCHS = 60_000, 240_000, 50
BATCH, LR, HELD_OUT = 128, 2e-3, 10
CHUNK = 1_000


class DatasetClassifier(FeatureExtractorBase):
    """Three convolutions to 64 features, and class logits. Images are resized to 32 pixels."""

    def __init__(self, num_classes: int, features_list: list[str]) -> None:
        super().__init__(CLASSIFIER, features_list)
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, WIDTH, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(WIDTH * (INPUT_PX // 8) ** 2, WIDTH)),
        )
        self.head = nn.Linear(WIDTH, num_classes)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return ``64`` and ``logits``."""
        return (str(WIDTH), "logits")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the features asked for, (B, 64) and (B, classes), of uint8 images (B, 3, P, P)."""
        features = self.features(images)
        given = {str(WIDTH): features, "logits": self.head(F.relu(features))}
        return tuple(given[name] for name in self.features_list)

    def features(self, images: Tensor) -> Tensor:
        """Compute features (B, 64), before the last nonlinearity, of uint8 images (B, 3, P, P)."""
        return self.convolutions(_resized(images).float() / 127.5 - 1)


def dataset_classifier(data: PreparedSet, device: torch.device, *, logits: bool = False) -> DatasetClassifier:
    """Open the classifier of a prepared set on ``device``, training it first where it is missing; ``logits``: give these too.

    Raises :class:`UserError` for a set of one class, or a damaged file.
    """
    if data.num_classes < 2:
        raise UserError(
            f"{data.folder}: evaluation.extractor={CLASSIFIER} needs at least 2 classes, the data has {data.num_classes}: "
            "choose another extractor"
        )
    file = data.folder / FILE
    if not file.exists():
        with one_at_a_time(file.with_name(f".{file.name}.lock"), "training the data set's classifier"):
            if not file.exists():  # another process may have trained it meanwhile
                train(data, file)
    names = [str(WIDTH), *(["logits"] if logits else [])]
    with seeded_init(0):
        model = DatasetClassifier(data.num_classes, names)
    try:
        with safe_open(file, "pt") as stored:
            model.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{file}: is not the classifier of this set ({first_line(error)}): delete it") from error
    return model.to(device).requires_grad_(False).eval()


def held_out_accuracy(file: Path) -> float:
    """Return the classifier's accuracy on the tenth of the images that it was not trained on."""
    with safe_open(file, "pt") as stored:
        return float(stored.metadata()["held_out_accuracy"])


def train(data: PreparedSet, file: Path) -> None:
    """Train the classifier on nine tenths of the images (of at most 60,000), in one thread on the CPU, and write ``file``."""
    rows = spread(len(data), MAX_IMAGES)
    images, labels = small_images(data, rows), data.labels[rows]
    held_out = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
    with one_thread(), full_precision(), seeded_init(0):
        model = DatasetClassifier(data.num_classes, [str(WIDTH), "logits"])
        _fit(model, images[~held_out], labels[~held_out])
        accuracy = _accuracy(model, images[held_out], labels[held_out]) if held_out.any() else float("nan")
    save_tensors(file, dict(model.state_dict()), {"held_out_accuracy": f"{accuracy:.4f}"})


def small_images(data: PreparedSet, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return images (n, 32, 32, 3) of ``rows``, read and resized some at a time."""
    parts = [_resized(_tensor(data.images(rows[i : i + CHUNK]))) for i in range(0, len(rows), CHUNK)]
    return torch.cat(parts).permute(0, 2, 3, 1).numpy()


def _resized(images: Tensor) -> Tensor:
    """Resize uint8 images (B, 3, P, P) to 32 pixels."""
    if images.shape[-1] == INPUT_PX:
        return images
    size = (INPUT_PX, INPUT_PX)
    x = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8)


def _fit(model: DatasetClassifier, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Minimise the cross-entropy by Adam under a one-cycle rate, seeing 240,000 images, or each 50 times."""
    generator, count = make_generator(0, "classifier"), len(labels)
    batch = min(BATCH, count)
    steps = max(1, min(SEEN_IMAGES, MOST_EPOCHS * count) // batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    order: list[int] = []
    for _ in Progress(range(steps), desc="classifier", unit="step", leave=False):
        if len(order) < batch:
            order = torch.randperm(count, generator=generator).tolist()
        chosen, order = order[:batch], order[batch:]
        loss = F.cross_entropy(
            model.head(F.relu(model.features(_tensor(images[chosen])))), torch.from_numpy(labels[chosen])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _accuracy(model: DatasetClassifier, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    parts = range(0, len(labels), BATCH)
    found = torch.cat([model.head(F.relu(model.features(_tensor(images[i : i + BATCH])))).argmax(dim=1) for i in parts])
    return float((found == torch.from_numpy(labels)).double().mean())


def _tensor(images: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous()
