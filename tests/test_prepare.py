"""Preparation from beginning to end on a small image folder, and everything that can be wrong with one."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from gat import files
from gat.config import AutoencoderConfig, DataConfig
from gat.data import prepare as module
from gat.data.autoencoder import encode_moments
from gat.data.images import to_signed
from gat.data.prepare import prepare, prepared_folder
from gat.data.prepared import MANIFEST, PreparedSet
from gat.errors import UserError
from tests.data_helpers import (
    CPU,
    autoencoder_config,
    folder_config,
    random_autoencoder,
    random_images,
    write_image_folder,
)

CLASSES, PER_CLASS = ("ant", "bee", "cat"), 4


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Three classes of four images; image i of all is ``random_images(12, 32)[i]``."""
    return folder_config(write_image_folder(tmp_path / "photos", CLASSES, PER_CLASS))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderConfig:
    """A random autoencoder of factor 4 on disk; batches of 5 leave a last one of 2."""
    folder = tmp_path_factory.mktemp("vae")
    random_autoencoder().save_pretrained(folder)
    return autoencoder_config(kind="pretrained", path=str(folder), batch_size=5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "prepared"


def corrupt(data: DataConfig, *names: str) -> None:
    for name in names:
        assert data.root is not None
        Path(data.root, name).write_bytes(b"\x89PNG and no more")


def assert_nothing_left(cache: Path) -> None:
    assert not cache.exists() or not [path for path in cache.iterdir() if path.suffix != ".lock"]


# what is prepared


def test_whole_preparation(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    prepared = prepare(data, pretrained, cache, CPU)
    images = random_images(12, 32)
    assert np.array_equal(prepared.images, images)
    assert prepared.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with torch.no_grad():
        direct = random_autoencoder().encode(to_signed(images)).latent_dist.parameters
    half_precision = 2**-11  # half the distance of neighbouring float16 numbers, relative
    torch.testing.assert_close(
        torch.from_numpy(prepared.moments.copy()).float(), direct, rtol=half_precision, atol=1e-6
    )


def test_manifest_says_what_was_done(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    prepared = prepare(data, pretrained, cache, CPU)
    manifest = prepared.manifest
    assert data.root is not None
    assert manifest.source == f"image_folder:{Path(data.root).resolve()}"
    assert manifest.class_names == list(CLASSES)
    assert (manifest.count, manifest.skipped) == (12, 0)
    assert (manifest.latent_channels, manifest.latent_side, manifest.image_px) == (4, 8, 32)
    assert manifest.autoencoder == pretrained.path
    assert manifest.scale == 0.5  # the autoencoder's own
    assert manifest.settings == {
        "data": {"source": "image_folder", "root": data.root, "resolution_px": 32, "on_corrupt": "error"},
        "autoencoder": {"kind": "pretrained", "path": pretrained.path},
    }
    assert prepared.folder == prepared_folder(data, pretrained, cache)
    assert sorted(f.name for f in prepared.folder.iterdir()) == ["images.npy", "labels.npy", MANIFEST, "moments.npy"]


def test_scale_can_be_given(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    prepared = prepare(data, replace(pretrained, scale=0.25), cache, CPU)
    assert prepared.manifest.scale == 0.25


def test_images_are_cropped_to_the_resolution(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    prepared = prepare(replace(data, resolution_px=16), pretrained, cache, CPU)
    halved = random_images(12, 32)[:, ::2, ::2]  # blocks of 4 x 4 equal pixels: their mean is any of them
    assert np.array_equal(prepared.images, halved)
    assert prepared.moments.shape == (12, 8, 4, 4)


def test_tiny_autoencoder_is_trained_and_kept(data: DataConfig, cache: Path) -> None:
    prepared = prepare(data, autoencoder_config(), cache, CPU)
    model = prepared.autoencoder()
    assert prepared.manifest.autoencoder == "tiny"
    assert prepared.manifest.scale == model.config["scaling_factor"]
    with torch.no_grad():
        direct = model.encode(to_signed(random_images(12, 32))).latent_dist.parameters
    assert torch.allclose(torch.from_numpy(prepared.moments.copy()).float(), direct, rtol=1e-3, atol=1e-3)
    means = torch.from_numpy(prepared.moments[:, :4].copy()).float()
    assert float(means.std()) * prepared.manifest.scale == pytest.approx(1, abs=1e-2)


# found again


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:

        def refuse(*arguments: object, name: str = name) -> NoReturn:
            pytest.fail(f"{name} was called again")

        monkeypatch.setattr(module, name, refuse)


def test_second_call_finds_the_first(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(data, pretrained, cache, CPU)
    forbid(monkeypatch, "open_source", "load_autoencoder", "encode_moments", "train_tiny_autoencoder")
    second = prepare(data, pretrained, cache, CPU)
    assert second.manifest == first.manifest
    assert np.array_equal(second.moments, first.moments)


def test_settings_that_matter_make_another_folder(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, tmp_path: Path
) -> None:
    tiny = autoencoder_config()
    settings = [
        (data, pretrained),
        (replace(data, resolution_px=16), pretrained),
        (replace(data, on_corrupt="skip"), pretrained),
        (replace(data, root=str(tmp_path)), pretrained),
        (data, replace(pretrained, path="elsewhere")),
        (data, replace(pretrained, scale=0.25)),
        (data, tiny),
        (data, replace(tiny, scale=0.25)),
        (data, replace(tiny, channels=[8, 8, 8])),
        (data, replace(tiny, train_images=16)),
        (data, replace(tiny, kl_weight=0.5)),
    ]
    assert len({prepared_folder(*s, cache) for s in settings}) == len(settings)


def test_settings_that_do_not_matter_make_the_same_folder(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = prepared_folder(data, pretrained, cache)
    assert prepared_folder(data, replace(pretrained, lr=9.0, batch_size=1, channels=[8]), cache) == here
    assert prepared_folder(data, autoencoder_config(), cache) == prepared_folder(
        data, autoencoder_config(path="unused"), cache
    )
    assert data.root is not None
    monkeypatch.chdir(Path(data.root).parent)
    assert prepared_folder(replace(data, root="photos"), pretrained, cache) == here


def test_damage_after_preparation_is_told(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    file = prepare(data, pretrained, cache, CPU).folder / "moments.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"moments\.npy: cannot be read .*: delete .* to prepare it again"):
        prepare(data, pretrained, cache, CPU)


def test_one_makes_it_the_others_wait(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one encodes, another asks for the same set: it waits, says so, and takes what the first made."""
    write_moments = module.write_moments
    calls: list[Future[PreparedSet]] = []
    waits = threading.Event()
    monkeypatch.setattr(files, "print", lambda *_, **__: waits.set(), raising=False)

    def slow(*arguments: object) -> object:
        assert not calls, "made twice"
        calls.append(pool.submit(prepare, data, pretrained, cache, CPU))
        assert waits.wait(30)
        return write_moments(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_moments", slow)
    with ThreadPoolExecutor(1) as pool:
        prepared = prepare(data, pretrained, cache, CPU)
        other = calls[0].result(30)
    assert len(prepared) == len(other) == 12
    assert other.folder == prepared.folder
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == [prepared.folder]


def test_something_else_in_the_way(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    folder = prepared_folder(data, pretrained, cache)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is in the way and is no prepared set: remove it"):
        prepare(data, pretrained, cache, CPU)
    assert [f.name for f in folder.iterdir()] == ["notes.txt"]


# corrupt images


def test_corrupt_images_are_counted_and_the_first_named(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path
) -> None:
    corrupt(data, "ant/1.png", "cat/3.png")
    with pytest.raises(UserError, match=r"2 of 12 images are corrupt, first: .*ant/1\.png: not a .*on_corrupt=skip"):
        prepare(data, pretrained, cache, CPU)
    assert_nothing_left(cache)


def test_corrupt_images_are_left_out_and_counted(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    corrupt(data, "ant/1.png", "cat/3.png")
    prepared = prepare(replace(data, on_corrupt="skip"), pretrained, cache, CPU)
    assert (prepared.manifest.count, prepared.manifest.skipped) == (10, 2)
    assert prepared.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert np.array_equal(prepared.images, np.delete(random_images(12, 32), (1, 11), axis=0))
    assert prepared.moments.shape == (10, 8, 8, 8)
    assert len(list(prepared.folder.iterdir())) == 4


def test_skipping_nothing_changes_nothing(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    prepared = prepare(replace(data, on_corrupt="skip"), pretrained, cache, CPU)
    assert (prepared.manifest.count, prepared.manifest.skipped) == (12, 0)


def test_class_without_a_readable_image(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    corrupt(data, *(f"bee/{i}.png" for i in range(PER_CLASS)))
    with pytest.raises(UserError, match=r"class 'bee' has no readable image left: fill or remove its folder"):
        prepare(replace(data, on_corrupt="skip"), pretrained, cache, CPU)
    assert_nothing_left(cache)


def test_no_readable_image_at_all(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    corrupt(data, *(f"{name}/{i}.png" for name in CLASSES for i in range(PER_CLASS)))
    with pytest.raises(UserError, match=r"class 'ant' has no readable image left"):
        prepare(replace(data, on_corrupt="skip"), pretrained, cache, CPU)
    assert_nothing_left(cache)


# the autoencoder


def test_nan_in_the_autoencoder(data: DataConfig, pretrained: AutoencoderConfig, cache: Path, tmp_path: Path) -> None:
    model = random_autoencoder()
    with torch.no_grad():
        model.encoder.conv_in.weight[0, 0, 0, 0] = torch.nan
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(UserError, match=r"NaN or infinite latents, first for image 0: check its weights and dtype"):
        prepare(data, replace(pretrained, path=str(tmp_path / "nan")), cache, CPU)
    assert_nothing_left(cache)


def test_first_infinite_latent_is_named(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(model: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
        moments = encode_moments(model, images)
        moments[to_signed(random_images(12, 32))[7].eq(images).flatten(1).all(1)] = 1e5  # beyond float16
        return moments

    monkeypatch.setattr(module, "encode_moments", overflow)
    with pytest.raises(UserError, match="NaN or infinite latents, first for image 7"):
        prepare(data, pretrained, cache, CPU)
    assert_nothing_left(cache)


def test_pretrained_path_not_set(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    with pytest.raises(UserError, match=r"autoencoder\.path is not set: give a hub name"):
        prepare(data, replace(pretrained, path=None), cache, CPU)
    assert_nothing_left(cache)


def test_pretrained_is_missed_before_the_images_are_read(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, "write_images")
    with pytest.raises(UserError, match=r"nowhere' cannot be loaded"):
        prepare(data, replace(pretrained, path=str(tmp_path / "nowhere")), cache, CPU)
    assert_nothing_left(cache)


@pytest.mark.parametrize("kind", ["tiny", "pretrained"])
def test_resolution_must_fit_the_autoencoder(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, kind: str
) -> None:
    with pytest.raises(UserError, match=r"data\.resolution_px=30 is not divisible by 4, the autoencoder's factor"):
        prepare(replace(data, resolution_px=30), replace(pretrained, kind=kind), cache, CPU)
    assert_nothing_left(cache)


# other mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_corrupt": "ignore"}, r"data\.on_corrupt='ignore' is unknown: choose one of error, skip"),
        ({"source": "imagenet"}, r"data\.source='imagenet' is unknown"),
        ({"root": "/nowhere/at/all"}, r"data\.root=/nowhere/at/all: cannot be read"),
    ],
)
def test_mistakes_in_the_data(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(replace(data, **changes), pretrained, cache, CPU)
    assert_nothing_left(cache)


def test_unknown_kind(data: DataConfig, pretrained: AutoencoderConfig, cache: Path) -> None:
    with pytest.raises(UserError, match=r"autoencoder\.kind='vq' is unknown: choose one of tiny, pretrained"):
        prepare(data, replace(pretrained, kind="vq"), cache, CPU)


def test_interruption_leaves_nothing_and_the_next_call_succeeds(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_moments", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(data, pretrained, cache, CPU)
    assert_nothing_left(cache)
    assert isinstance(prepare(data, pretrained, cache, CPU), PreparedSet)


def test_images_of_any_size_and_mode_in_one_folder(
    data: DataConfig, pretrained: AutoencoderConfig, cache: Path
) -> None:
    assert data.root is not None
    Image.new("L", (100, 40), 77).save(Path(data.root, "ant", "0.png"))
    Image.new("CMYK", (20, 90), (0, 255, 255, 0)).save(Path(data.root, "bee", "0.jpg"))
    Path(data.root, "bee", "0.png").unlink()
    prepared = prepare(data, pretrained, cache, CPU)
    assert (prepared.images[0] == 77).all()
    assert np.abs(prepared.images[4].astype(int) - (254, 0, 0)).max() <= 1  # JPEG's red
