"""REPA's layout: what is read, what is refused, and that its moments are kept instead of encoded."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gat.config import AutoencoderConfig, DataConfig
from gat.data.autoencoder import encode_moments
from gat.data.folder import CorruptImageError
from gat.data.images import to_signed
from gat.data.prepare import prepare
from gat.data.repa import frozen_repa, open_repa
from gat.errors import UserError
from tests.data_helpers import CPU, autoencoder_config, folder_config, random_autoencoder, random_images

COUNT = 6


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderConfig:
    folder = tmp_path_factory.mktemp("vae")
    random_autoencoder().save_pretrained(folder)
    return autoencoder_config(kind="pretrained", path=str(folder), batch_size=4)


def write_labels(root: Path, pairs: object) -> None:
    (root / "vae-sd" / "dataset.json").write_text(json.dumps({"labels": pairs}))


def name_of(i: int) -> str:
    return f"{i // 4:05d}/img-mean-std-{i:08d}.npy"


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Six images in two folders, with the moments of a random autoencoder; labels 0, 1, 2, 0, 1, 2."""
    root = tmp_path / "repa"
    images = random_images(COUNT, 32)
    moments = encode_moments(random_autoencoder(), to_signed(images)).numpy()
    for i, (image, own) in enumerate(zip(images, moments, strict=True)):
        mean, logvar = np.split(own, 2)
        for kind in ("images", "vae-sd"):
            (root / kind / f"{i // 4:05d}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "images" / f"{i // 4:05d}" / f"img{i:08d}.png")
        np.save(root / "vae-sd" / name_of(i), np.concatenate([mean, np.exp(logvar / 2)]))
    write_labels(root, [[name_of(i), i % 3] for i in range(COUNT)])
    return folder_config(root, source="repa")


def root_of(data: DataConfig) -> Path:
    assert data.root is not None
    return Path(data.root)


def test_prepared_set_holds_the_given_moments(data: DataConfig, pretrained: AutoencoderConfig, tmp_path: Path) -> None:
    prepared = prepare(data, pretrained, tmp_path / "prepared", CPU)
    direct = encode_moments(random_autoencoder(), to_signed(random_images(COUNT, 32)))
    kept = torch.from_numpy(prepared.moments(range(COUNT))).float()
    torch.testing.assert_close(kept, direct, rtol=1e-3, atol=1e-5)
    assert np.array_equal(prepared.images(range(COUNT)), random_images(COUNT, 32))
    assert prepared.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert prepared.manifest.class_names == ["0", "1", "2"]
    assert prepared.manifest.source == f"repa:{root_of(data)}"
    assert 0 < prepared.manifest.moments_error < 1e-3  # half precision


def test_given_moments_are_kept_though_they_differ_a_little(
    data: DataConfig, pretrained: AutoencoderConfig, tmp_path: Path
) -> None:
    """As of another run of the encoder, in another precision: they are not encoded anew, the difference is stated."""
    for i in range(COUNT):
        file = root_of(data) / "vae-sd" / name_of(i)
        np.save(file, np.load(file) * np.float32(1.03))
    prepared = prepare(data, pretrained, tmp_path / "prepared", CPU)
    mean = torch.from_numpy(prepared.moments(range(COUNT))).float().chunk(2, dim=1)[0]
    own = encode_moments(random_autoencoder(), to_signed(random_images(COUNT, 32))).chunk(2, dim=1)[0]
    torch.testing.assert_close(mean, own * 1.03, rtol=1e-3, atol=1e-5)
    assert prepared.manifest.moments_error > 1e-3


def test_moments_of_another_autoencoder(data: DataConfig, pretrained: AutoencoderConfig, tmp_path: Path) -> None:
    for i in range(COUNT):
        file = root_of(data) / "vae-sd" / name_of(i)
        np.save(file, np.load(file) * np.float32(1.2))
    with pytest.raises(UserError, match="are not what the autoencoder makes of its images"):
        prepare(data, pretrained, tmp_path / "prepared", CPU)


def test_moments_of_another_shape(data: DataConfig, pretrained: AutoencoderConfig, tmp_path: Path) -> None:
    for i in range(COUNT):
        np.save(root_of(data) / "vae-sd" / name_of(i), np.ones((8, 4, 4), np.float32))
    with pytest.raises(UserError, match=r"are \(8, 4, 4\), but the autoencoder's of these images are \(8, 8, 8\)"):
        prepare(data, pretrained, tmp_path / "prepared", CPU)


def test_a_tiny_autoencoder_is_refused(data: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"choose that, autoencoder=sd_vae_mse"):
        prepare(data, autoencoder_config(), tmp_path / "prepared", CPU)


def test_damaged_moments_count_as_corrupt(data: DataConfig, pretrained: AutoencoderConfig, tmp_path: Path) -> None:
    files = [root_of(data) / "vae-sd" / name_of(i) for i in range(COUNT)]
    files[1].write_bytes(files[1].read_bytes()[:40])
    np.save(files[4], np.zeros((8, 8, 8), np.float32))  # a standard deviation of 0
    with pytest.raises(UserError, match=r"2 of 6 images are corrupt, first: .*00000001\.npy: not an array"):
        prepare(data, pretrained, tmp_path / "prepared", CPU)
    write_labels(root_of(data), [[name_of(i), 0] for i in range(COUNT)])
    again = prepare(replace(data, on_corrupt="skip"), pretrained, tmp_path / "skipped", CPU)
    assert (len(again), again.manifest.skipped) == (4, 2)
    assert np.array_equal(again.images(range(4)), random_images(COUNT, 32)[[0, 2, 3, 5]])


def test_frozen_list(data: DataConfig, tmp_path: Path) -> None:
    source = open_repa(root_of(data))
    source.freeze(tmp_path / "list")
    again = frozen_repa(tmp_path / "list", root_of(data))
    assert (again.files, again.features) == (source.files, source.features)
    assert again.labels.tolist() == source.labels.tolist()
    assert np.array_equal(again.moments(5), source.moments(5))
    (root_of(data) / "vae-sd" / name_of(5)).unlink()
    with pytest.raises(CorruptImageError):
        again.moments(5)


def test_folders_are_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no folder 'images': data\.source=repa reads images/ and vae-sd/"):
        open_repa(tmp_path)


def test_counts_differ(data: DataConfig) -> None:
    (root_of(data) / "vae-sd" / name_of(5)).unlink()
    with pytest.raises(UserError, match="6 images but 5 moments"):
        open_repa(root_of(data))


def test_files_that_are_no_pair(data: DataConfig) -> None:
    (root_of(data) / "vae-sd" / name_of(5)).rename(root_of(data) / "vae-sd" / name_of(7))
    with pytest.raises(UserError, match=r"img00000005\.png and .*img-mean-std-00000007\.npy .* no pair"):
        open_repa(root_of(data))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (None, "no list of labels"),
        ([], r"gives 00000/img-mean-std-00000000\.npy the label None"),
        ([[name_of(i), "cat"] for i in range(COUNT)], "the label 'cat': each needs a whole number from 0"),
        ([[name_of(i), -1] for i in range(COUNT)], "the label -1"),
        ([[name_of(0), 1], [name_of(0), 2]], "lists 1 files twice"),
    ],
)
def test_odd_labels(data: DataConfig, pairs: object, message: str) -> None:
    write_labels(root_of(data), pairs)
    with pytest.raises(UserError, match=message):
        open_repa(root_of(data))


def test_gap_in_the_labels(data: DataConfig) -> None:
    write_labels(root_of(data), [[name_of(i), 2 * (i % 2)] for i in range(COUNT)])
    with pytest.raises(UserError, match="no image has label 1, but some have 2"):
        open_repa(root_of(data))


def test_labels_are_missing(data: DataConfig) -> None:
    (root_of(data) / "vae-sd" / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"dataset\.json: no list of labels"):
        open_repa(root_of(data))
