"""The classifier trained on the data set: sure of digits, the same every time, and an extractor like any other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gat.data.images import center_crop
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from gat.data.sources import load_digits
from gat.errors import UserError
from gat.evaluation import dataset_classifier as module
from gat.evaluation.dataset_classifier import FILE, dataset_classifier, held_out_accuracy
from gat.evaluation.extractors import extractor_tag
from gat.training import trainer
from gat.training.check import check
from gat.training.evaluation import RunEvaluation
from gat.training.results import numbers_of
from gat.training.run import run
from tests.conftest import compose_config
from tests.data_helpers import CPU, write_image_folder
from tests.prepared import write_prepared
from tests.small_run import SMALL, write_images


def digits(folder: Path, count: int = 600, side: int = 32) -> PreparedSet:
    source = load_digits()
    images = np.stack([center_crop(source.image(i), side) for i in range(count)])
    return write_prepared(folder, np.zeros((count, 2, 1, 1), np.float16), images, source.labels[:count])


def test_digits_are_recognised_unseen_and_features_are_64(tmp_path: Path) -> None:
    data = digits(tmp_path)
    model = dataset_classifier(data, CPU, logits=True)
    assert held_out_accuracy(tmp_path / FILE) > 0.9
    images = torch.from_numpy(data.images(np.arange(50))).permute(0, 3, 1, 2)
    features, logits = model(images)
    assert features.shape == (50, 64)
    assert logits.shape == (50, 10)
    assert float((logits.argmax(dim=1).numpy() == data.labels[:50]).mean()) > 0.95
    assert dataset_classifier(data, CPU)(images)[0].equal(features)


def test_trained_once_and_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEEN_IMAGES", 2000)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    first = extractor_tag(dataset_classifier(digits(tmp_path / "a", 100), CPU))
    torch.set_num_threads(threads)
    assert extractor_tag(dataset_classifier(digits(tmp_path / "b", 100), CPU)) == first
    assert first.startswith("classifier@")
    assert extractor_tag(dataset_classifier(digits(tmp_path / "c", 90), CPU)) != first
    monkeypatch.setattr(module, "train", None)
    assert extractor_tag(dataset_classifier(PreparedSet(tmp_path / "a"), CPU)) == first


def test_images_of_another_size_are_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEEN_IMAGES", 500)
    data = digits(tmp_path, 40, side=64)
    (features,) = dataset_classifier(data, CPU)(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert features.shape == (2, 64)


def test_what_it_cannot_be_trained_on(tmp_path: Path) -> None:
    images = np.zeros((8, 32, 32, 3), np.uint8)
    one = write_prepared(tmp_path / "one", np.zeros((8, 2, 1, 1), np.float16), images, np.zeros(8, np.int64))
    with pytest.raises(UserError, match=r"extractor=classifier needs at least 2 classes, the data has 1"):
        dataset_classifier(one, CPU)
    data = digits(tmp_path / "damaged", 20)
    (tmp_path / "damaged" / FILE).write_bytes(b"no weights")
    with pytest.raises(UserError, match=rf"{FILE}: is not the classifier of this set .*: delete it"):
        dataset_classifier(data, CPU)


def one_class(folder: Path) -> tuple[str, ...]:
    """Return the overrides of a small run on eight images of one class."""
    write_image_folder(folder / "images", ("faces",), 8)
    paths = (f"data.root={folder}/images", f"paths.prepared={folder}/prepared", f"paths.run={folder}/run")
    return (*SMALL, *paths, "teacher=none", "objective.alignment_weight=0")


@pytest.mark.parametrize("setting", ["extractor=classifier", "also_extractors=[classifier]"])
def test_one_class_is_told_before_its_images_are_prepared(tmp_path: Path, setting: str) -> None:
    config = compose_config(*one_class(tmp_path), f"evaluation.{setting}")
    with pytest.raises(UserError, match="the features of 'classifier' need at least 2 classes, and the data has 1"):
        run(config)
    assert not (tmp_path / "prepared").exists()
    check(replace(config, evaluation=replace(config.evaluation, samples=0)))  # nothing is measured


def test_one_class_has_no_class_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning comes before the images are prepared; the run ends with its other numbers."""
    config = compose_config(*one_class(tmp_path), "evaluation.classifier=true")
    line = pytest.warns(UserWarning, match="one class: class accuracy .* is left out")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "prepare", lambda *_: 1 / 0)
        with line, pytest.raises(ZeroDivisionError):
            run(config)
    with pytest.warns(UserWarning, match="one class"):
        record = run(config)
    assert record is not None
    assert list(numbers_of(record["final_metrics"])) == ["FD-EfficientNetLite0-8"]
    data = prepare(config.data, config.autoencoder, tmp_path / "prepared", CPU)
    assert RunEvaluation(config, data, CPU).evaluator.names() == ["FD-EfficientNetLite0-8"]


def test_a_run_is_measured_in_several_features(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images")
    features = ("evaluation.extractor=classifier", "evaluation.also_extractors=[efficientnet-lite0]")
    paths = (f"data.root={tmp_path}/images", f"paths.prepared={tmp_path}/prepared", f"paths.run={tmp_path}/run")
    record = run(compose_config(*SMALL, *features, *paths, "teacher=none", "objective.alignment_weight=0"))
    assert record is not None
    numbers = numbers_of(record["final_metrics"])
    assert list(numbers) == ["FD-classifier-8", "FD-EfficientNetLite0-8"]
    assert {number["kind"] for number in numbers.values()} == {"frechet"}
    used = record["protocols"][numbers["FD-classifier-8"]["protocol"]]
    assert used["extractor"].startswith("classifier@")
