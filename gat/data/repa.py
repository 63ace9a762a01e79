"""What REPA's preprocessing and the authors' release have on disk: images and moments that are already encoded.

    ROOT/images/00000/img00000000.png                 crops
    ROOT/vae-sd/00000/img-mean-std-00000000.npy       (2C, H, H) float32: posterior mean and standard deviation
    ROOT/vae-sd/dataset.json                          {"labels": [["00000/img-mean-std-00000000.npy", 0], ...]}

Images and moments belong together in sorted order, as in the release. Classes have numbers, no names.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gat.data.folder import CorruptImageError, FolderSource, list_images, read_frozen
from gat.errors import UserError

IMAGES, FEATURES, LABELS = "images", "vae-sd", "dataset.json"


@dataclass
class RepaSource(FolderSource):
    """Image files with their moments. ``features``, as ``files``, are relative to ``root``."""

    features: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Kind and place."""
        return f"repa:{self.root.resolve()}"

    def columns(self) -> dict[str, Any]:
        """What is frozen."""
        return super().columns() | {"features": self.features}

    def moments(self, index: int) -> NDArray[np.float32]:
        """Posterior mean and log-variance (2C, H, H); :class:`CorruptImageError` if the file cannot be read."""
        file = self.root / self.features[index]
        try:
            mean, std = np.split(np.load(file).astype(np.float32), 2)
        except (OSError, ValueError, EOFError) as error:
            raise CorruptImageError(f"{file}: not an array of means and standard deviations ({error})") from error
        if mean.ndim != 3 or not (std > 0).all():
            raise CorruptImageError(f"{file}: {mean.shape}, not (2C, H, H) of means and positive standard deviations")
        return np.concatenate([mean, 2 * np.log(std)])


def open_repa(root: Path) -> RepaSource:
    """The source in ``root``; :class:`UserError` for missing folders, files without partner or label, odd labels."""
    for name in (IMAGES, FEATURES):
        if not (root / name).is_dir():
            raise UserError(f"data.root={root}: has no folder {name!r}: data.source=repa reads images/ and vae-sd/")
    files, ignored = list_images(root / IMAGES)
    features = list_features(root / FEATURES)
    if len(files) != len(features):
        raise UserError(f"data.root={root}: {len(files)} images but {len(features)} moments: complete them")
    for file, feature in zip(files, features, strict=True):
        if last_number(file) != last_number(feature):
            raise UserError(
                f"data.root={root}: {file} and {feature} stand at the same place of the sorted lists: no pair"
            )
    labels = read_labels(root, features)
    absent = sorted(set(range(labels.max() + 1)) - set(labels.tolist()))
    if absent:
        raise UserError(
            f"data.root={root}: no image has label {absent[0]}, but some have {labels.max()}: labels must have no gaps"
        )
    names = [str(label) for label in range(labels.max() + 1)]
    files, features = [f"{IMAGES}/{file}" for file in files], [f"{FEATURES}/{file}" for file in features]
    return RepaSource(root, names, labels, files, ignored, features)


def frozen_repa(file: Path, root: Path) -> RepaSource:
    """The source of a frozen list; :class:`UserError` if that is damaged."""
    values = read_frozen(file, ("file", "label", "features"))
    return RepaSource(root, values["classes"], values["label"], values["file"], values["ignored"], values["features"])


def list_features(folder: Path) -> list[str]:
    """Arrays at any depth, relative to ``folder`` and sorted."""
    found = []
    for base, _, names in os.walk(folder):
        below = os.path.relpath(base, folder)
        found += [name if below == "." else f"{below}/{name}" for name in names if name.endswith(".npy")]
    return sorted(found)


def last_number(name: str) -> int | None:
    """The number at the end of a file's name."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return int(numbers[-1]) if numbers else None


def labels_in(root: Path) -> dict[str, Any]:
    """Return the labels in ``dataset.json`` by file name; raise :class:`UserError` if it has none, or lists a file twice."""
    file = root / FEATURES / LABELS
    try:
        pairs = json.loads(file.read_text(encoding="utf-8"))["labels"]
        labels = {str(name).replace("\\", "/"): label for name, label in pairs}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: no list of labels ({error}): run REPA's dataset_tools.py with labels") from error
    if len(labels) < len(pairs):
        raise UserError(
            f"{file}: lists {len(pairs) - len(labels)} files twice: write it again with REPA's dataset_tools.py"
        )
    return labels


def read_labels(root: Path, features: Sequence[str]) -> NDArray[np.int64]:
    """Return the classes (n,) of ``features``; raise :class:`UserError` unless ``dataset.json`` has an integer for each."""
    file, labels = root / FEATURES / LABELS, labels_in(root)
    for feature in features:
        label = labels.get(feature)
        if not isinstance(label, int) or label < 0:
            raise UserError(f"{file}: gives {feature} the label {label!r}: each needs a whole number from 0")
    return np.array([labels[feature] for feature in features], np.int64)
