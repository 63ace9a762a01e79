"""Preparation from beginning to end on a small image folder: what is made, what is found again, and mistakes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from gat.data import making
from gat.data import prepare as module
from gat.data.autoencoder import encode_moments, weights_digest
from gat.data.codec import encode_image
from gat.data.identity import FORMAT_VERSION, prepared_folder
from gat.data.images import to_signed
from gat.data.prepare import prepare
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.platform import versions
from tests.data_helpers import CPU, autoencoder_config, random_autoencoder
from tests.preparing import (
    CLASSES,
    IMAGES,
    Case,
    assert_nothing_left,
    decoded,
    make_case,
    names_in,
    parts_made,
    parts_of_four,
)

HALF_PRECISION = 2**-11  # half the distance of neighbouring float16 numbers, relative


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


def direct(model: AutoencoderKL, images: NDArray[np.uint8] = IMAGES) -> torch.Tensor:
    """The moments as diffusers gives them."""
    with torch.no_grad():
        return model.encode(to_signed(images)).latent_dist.parameters


def kept(prepared: PreparedSet) -> torch.Tensor:
    return torch.from_numpy(prepared.all_moments()).float()


def images_in(prepared: PreparedSet) -> NDArray[np.uint8]:
    return prepared.images(range(len(prepared)))


# what is prepared


@pytest.mark.parametrize("four", [False, True])
def test_whole_preparation(case: Case, monkeypatch: pytest.MonkeyPatch, four: bool) -> None:
    if four:
        parts_of_four(monkeypatch)
    prepared = case.prepare()
    assert [part.rows for part in prepared.manifest.parts] == ([4, 4, 4] if four else [12])
    assert np.array_equal(images_in(prepared), IMAGES)
    assert prepared.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    torch.testing.assert_close(kept(prepared), direct(random_autoencoder()), rtol=HALF_PRECISION, atol=1e-6)


def test_manifest_says_what_was_done(case: Case) -> None:
    (case.root / "ant" / "notes.txt").write_text("no image")
    Image.fromarray(IMAGES[0]).resize((40, 31)).save(case.root / "ant" / "0.png")
    prepared = case.prepare()
    manifest = prepared.manifest
    assert manifest.source == f"image_folder:{case.root.resolve()}"
    assert manifest.class_names == list(CLASSES)
    assert (manifest.format_version, manifest.count, manifest.skipped) == (FORMAT_VERSION, 12, 0)
    assert (manifest.ignored_files, manifest.upscaled) == (1, 1)
    assert (manifest.latent_channels, manifest.latent_side, manifest.image_px) == (4, 8, 32)
    assert manifest.autoencoder == case.autoencoder.path
    assert manifest.autoencoder_sha256 == weights_digest(random_autoencoder())
    assert manifest.scale == 0.5  # the autoencoder's own
    assert manifest.versions == versions()
    image = {"image_format": "webp", "image_quality": None}
    assert manifest.settings == {
        "format_version": FORMAT_VERSION,
        "data": {"source": "image_folder", "root": str(case.root), "resolution_px": 32} | image,
        "autoencoder": {"kind": "pretrained", "path": case.autoencoder.path, "encode_precision": "fp32"},
    }


def test_files_of_a_set(case: Case) -> None:
    prepared = case.prepare()
    assert prepared.folder == case.folder
    part = {"part-00000.arrow", "part-00000.json"}
    assert names_in(case.folder) == {"manifest.json", "plan.json", "files.feather", "labels.npy", ".locks"} | part
    assert names_in(case.cache) == {case.folder.name, f".{case.folder.name}.lock"}


def test_error_of_the_moments(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first batch (three images) of each part of four."""
    parts_of_four(monkeypatch)
    prepared = case.prepare()
    model = random_autoencoder()
    exact = torch.cat([direct(model, IMAGES[i : i + 3]) for i in (0, 4, 8)]).double()
    found = torch.from_numpy(prepared.moments([0, 1, 2, 4, 5, 6, 8, 9, 10])).double()
    expected = float((found - exact).norm() / exact.norm())
    assert prepared.manifest.moments_error == pytest.approx(expected, rel=1e-6)
    assert 0 < expected < HALF_PRECISION


def test_encoding_in_bf16(case: Case) -> None:
    """The moments are near fp32's, and the manifest says how near."""
    exact = direct(random_autoencoder(), IMAGES[:3]).double()
    fp32 = case.prepare()
    bf16 = prepare(case.data, replace(case.autoencoder, encode_precision="bf16"), case.cache, CPU)
    assert bf16.folder != fp32.folder
    found = torch.from_numpy(bf16.moments(range(3))).double()
    assert bf16.manifest.moments_error == pytest.approx(float((found - exact).norm() / exact.norm()), rel=1e-5)
    assert fp32.manifest.moments_error < bf16.manifest.moments_error < 0.05
    distance = (kept(bf16) - kept(fp32)).norm() / kept(fp32).norm()
    assert HALF_PRECISION < distance < 0.05


def test_scale_can_be_given(case: Case) -> None:
    assert prepare(case.data, replace(case.autoencoder, scale=0.25), case.cache, CPU).manifest.scale == 0.25


def test_images_are_cropped_to_the_resolution(case: Case) -> None:
    prepared = case.prepare(resolution_px=16)
    assert np.array_equal(images_in(prepared), IMAGES[:, ::2, ::2])  # of blocks of 4 x 4 equal pixels
    assert prepared.moments_shape == (8, 4, 4)
    assert prepared.all_moments().shape == (12, 8, 4, 4)


def test_lossy_images_do_not_change_the_moments(case: Case) -> None:
    prepared = case.prepare(image_format="jpeg", image_quality=50)
    lossy = decoded(encode_image(image, "jpeg", 50) for image in IMAGES)
    assert np.array_equal(images_in(prepared), lossy)
    assert not np.array_equal(lossy, IMAGES)
    assert np.array_equal(prepared.all_moments(), case.prepare().all_moments())


def test_tiny_autoencoder_is_trained_and_kept(case: Case) -> None:
    prepared = prepare(case.data, autoencoder_config(), case.cache, CPU)
    model = prepared.autoencoder()
    assert prepared.manifest.autoencoder == "tiny"
    assert prepared.manifest.autoencoder_sha256 == weights_digest(model)
    assert prepared.manifest.scale == model.config["scaling_factor"]
    torch.testing.assert_close(kept(prepared), direct(model), rtol=HALF_PRECISION, atol=1e-5)
    assert float(kept(prepared)[:, :4].std()) * prepared.manifest.scale == pytest.approx(1, abs=1e-2)


def test_images_of_any_size_and_mode_in_one_folder(case: Case) -> None:
    Image.new("L", (100, 40), 77).save(case.root / "ant" / "0.png")
    Image.new("CMYK", (20, 90), (0, 255, 255, 0)).save(case.root / "bee" / "0.jpg")
    (case.root / "bee" / "0.png").unlink()
    images = images_in(case.prepare())
    assert (images[0] == 77).all()
    assert np.abs(images[4].astype(int) - (254, 0, 0)).max() <= 1  # JPEG's red


# found again


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:

        def refuse(*arguments: object, name: str = name) -> NoReturn:
            pytest.fail(f"{name} was called")

        monkeypatch.setattr(module, name, refuse)


def test_second_call_finds_the_first(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    first = case.prepare()
    forbid(monkeypatch, "plan", "make", "wait")
    second = case.prepare()
    assert second.manifest == first.manifest
    assert np.array_equal(second.all_moments(), first.all_moments())


def test_settings_that_matter_make_another_folder(case: Case, tmp_path: Path) -> None:
    data, pretrained, tiny = case.data, case.autoencoder, autoencoder_config()
    settings = [
        (data, pretrained),
        (replace(data, resolution_px=16), pretrained),
        (replace(data, image_format="png"), pretrained),
        (replace(data, image_quality=90), pretrained),
        (replace(data, root=str(tmp_path)), pretrained),
        (replace(data, source="digits"), pretrained),
        (data, replace(pretrained, path="elsewhere")),
        (data, replace(pretrained, scale=0.25)),
        (data, replace(pretrained, encode_precision="bf16")),
        (data, tiny),
        (data, replace(tiny, scale=0.25)),
        (data, replace(tiny, channels=[8, 8, 8])),
        (data, replace(tiny, latent_channels=8)),
        (data, replace(tiny, train_images=16)),
        (data, replace(tiny, batch_size=4)),
        (data, replace(tiny, lr=1.0)),
        (data, replace(tiny, kl_weight=0.5)),
    ]
    assert len({prepared_folder(*s, case.cache) for s in settings}) == len(settings)


def test_settings_that_do_not_matter_make_the_same_folder(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    data, pretrained, cache = case.data, case.autoencoder, case.cache
    assert prepared_folder(data, replace(pretrained, lr=9.0, batch_size=1, channels=[8]), cache) == case.folder
    assert prepared_folder(replace(data, on_corrupt="skip"), pretrained, cache) == case.folder
    tiny = autoencoder_config()
    assert prepared_folder(data, replace(tiny, path="unused"), cache) == prepared_folder(data, tiny, cache)
    monkeypatch.chdir(case.place)
    assert prepared_folder(replace(data, root="photos"), replace(pretrained, path="vae"), cache) == case.folder
    assert prepared_folder(replace(data, root="vae/../photos/"), pretrained, cache) == case.folder


# the autoencoder


def test_nan_in_the_autoencoder(case: Case) -> None:
    model = random_autoencoder()
    with torch.no_grad():
        model.encoder.conv_in.weight[0, 0, 0, 0] = torch.nan
    model.save_pretrained(case.autoencoder.path)
    message = r"NaN or infinite latents, first for image 0: check its weights and precision"
    with pytest.raises(UserError, match=message):
        case.prepare()
    assert not list(case.folder.glob("*part-*"))


def test_first_infinite_latent_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its row among the images that were listed, whatever was skipped; the parts before it stay."""
    parts_of_four(monkeypatch)
    case.corrupt("bee/1.png")

    def overflow(model: AutoencoderKL, images: torch.Tensor, *, bf16: bool = False) -> torch.Tensor:
        moments = encode_moments(model, images, bf16=bf16)
        moments[to_signed(IMAGES)[6].eq(images).flatten(1).all(1)] = 1e5  # beyond float16
        return moments

    with monkeypatch.context() as patch:
        patch.setattr(making, "encode_moments", overflow)
        with pytest.raises(UserError, match=r"NaN or infinite latents, first for image 6:"):
            case.prepare(on_corrupt="skip")
    assert {f.name for f in case.folder.glob("*part-*")} == {"part-00000.arrow", "part-00000.json"}
    begun = parts_made(monkeypatch)
    assert len(case.prepare(on_corrupt="skip")) == 11
    assert begun == [1, 2]


# other mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_corrupt": "ignore"}, r"data\.on_corrupt='ignore' is unknown: choose one of error, skip"),
        ({"source": "imagenet"}, r"data\.source='imagenet' is unknown"),
        ({"root": "/nowhere/at/all"}, r"data\.root=/nowhere/at/all: cannot be read"),
        ({"resolution_px": 30}, r"data\.resolution_px=30 is not divisible by 4, the autoencoder's factor"),
        ({"image_format": "jpeg"}, r"data\.image_format=jpeg is never lossless"),
    ],
)
def test_mistakes_in_the_data(case: Case, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        case.prepare(**changes)
    assert_nothing_left(case.cache)


def test_something_else_in_the_way(case: Case) -> None:
    case.folder.mkdir(parents=True)
    (case.folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is in the way and is no prepared set: remove it"):
        case.prepare()
    assert names_in(case.folder) == {"notes.txt"}


def test_damage_after_preparation_is_told(case: Case) -> None:
    file = case.prepare().folder / "part-00000.arrow"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"part-00000\.arrow: has \d+ bytes, not \d+ as its manifest says: delete it"):
        case.prepare()
