"""The autoencoder: diffusers' files, the digest of its weights, posterior samples by hand, and the training of a tiny one."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

from gat.config import AutoencoderConfig
from gat.data import autoencoder
from gat.data.autoencoder import (
    build_tiny,
    decode,
    encode_moments,
    load_autoencoder,
    sample_latents,
    save_autoencoder,
    train_tiny_autoencoder,
    weights_digest,
)
from gat.data.images import center_crop, to_signed
from gat.data.sources import load_digits
from gat.errors import UserError
from gat.rng import seeded_init
from tests.data_helpers import CPU, autoencoder_config, random_autoencoder, without_network
from tests.test_pretrained import Evil

WEIGHTS = "diffusion_pytorch_model.safetensors"
REMEDY = (
    r"without network, put its config\.json and diffusion_pytorch_model\.safetensors into a folder and set autoencoder"
)
FEW = autoencoder_config(train_images=400, batch_size=8)


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Sixteen digits at 16 pixels."""
    source = load_digits()
    return np.stack([center_crop(source.image(i), 16) for i in range(16)])


@pytest.fixture(scope="module")
def trained(digits: NDArray[np.uint8]) -> AutoencoderKL:
    return train_tiny_autoencoder(digits, FEW, 0, CPU)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_autoencoder().save_pretrained(tmp_path / "vae", safe_serialization=True)
    return tmp_path / "vae"


def assert_same_weights(ours: AutoencoderKL, theirs: AutoencoderKL) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


# loading


def test_loaded_model_encodes_as_the_saved_one(folder: Path) -> None:
    saved, loaded = random_autoencoder(), load_autoencoder(str(folder))
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    assert_same_weights(loaded, saved)
    assert torch.equal(encode_moments(loaded, images), saved.encode(images).latent_dist.parameters)
    assert loaded.config["scaling_factor"] == 0.5
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_shapes_of_the_stable_diffusion_autoencoder(tmp_path: Path) -> None:
    random_autoencoder(levels=4, layers_per_block=2).save_pretrained(tmp_path)
    model = load_autoencoder(str(tmp_path))
    moments = encode_moments(model, torch.zeros(2, 3, 64, 32))
    assert moments.shape == (2, 8, 8, 4)
    assert decode(model, moments[:, :4], 0.18215).shape == (2, 3, 64, 32)


def test_attention_under_its_old_names(folder: Path) -> None:
    """As in the published files of Stable Diffusion's autoencoders."""
    renames = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / WEIGHTS)
    old = {}
    for key, value in state.items():
        part = next((new for new in renames if f".{new}." in key), None)
        old[key.replace(part, renames[part]) if part else key] = value
    assert len(set(old) - set(state)) == 16  # weight and bias of four layers in encoder and decoder
    save_file(old, folder / WEIGHTS)
    assert_same_weights(load_autoencoder(str(folder)), random_autoencoder())


def test_missing_folder_is_told_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = without_network(monkeypatch, tmp_path, hub_knows=False)
    with pytest.raises(UserError, match=rf"autoencoder '{tmp_path}/nowhere' cannot be loaded \(.*\): {REMEDY}") as told:
        load_autoencoder(str(tmp_path / "nowhere"))
    assert "\n" not in str(told.value)
    assert not attempts


def test_hub_name_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=rf"autoencoder 'nobody/nothing' cannot be loaded \(.*\): {REMEDY}") as told:
        load_autoencoder("nobody/nothing")
    assert "\n" not in str(told.value)


def test_folder_without_its_files(folder: Path) -> None:
    for name in (WEIGHTS, "config.json"):
        (folder / name).unlink()
        with pytest.raises(UserError, match=rf"vae' cannot be loaded \(.*{Path(name).stem}.*\): {REMEDY}"):
            load_autoencoder(str(folder))


def test_truncated_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"vae' cannot be loaded"):
        load_autoencoder(str(folder))


def test_weights_of_other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"latent_channels": 3}))
    with pytest.raises(UserError, match=r"vae' cannot be loaded"):
        load_autoencoder(str(folder))


def test_missing_weights_are_not_left_random(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    for key in ("encoder.conv_in.weight", "encoder.conv_in.bias"):
        del state[key]
    save_file(state, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"its weights lack encoder\.conv_in\.\w+ \(2 in all\)"):
        load_autoencoder(str(folder))


# which one it is


def test_digest_is_that_of_the_file(folder: Path) -> None:
    """Names and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(load_numpy(folder / WEIGHTS).items()):
        digest.update(name.encode() + value.tobytes())
    assert weights_digest(load_autoencoder(str(folder))) == digest.hexdigest()


def test_digest_knows_every_weight_and_its_name() -> None:
    digests = {weights_digest(random_autoencoder())}
    for change in ("value", "swap"):
        model = random_autoencoder()
        with torch.no_grad():
            bias, other = model.encoder.conv_in.bias, model.encoder.conv_norm_out.bias
            if change == "value":
                model.decoder.conv_out.bias[2] += 2**-20
            else:
                assert bias.shape == other.shape
                model.encoder.conv_in.bias, model.encoder.conv_norm_out.bias = other, bias
        digests.add(weights_digest(model))
    assert len(digests) == 3
    assert weights_digest(random_autoencoder()) in digests


# latents


def test_encoding_in_bf16() -> None:
    """Every value is a bfloat16 near fp32's; the weights stay as they are."""
    model = random_autoencoder()
    before = weights_digest(model)
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    exact, moments = encode_moments(model, images), encode_moments(model, images, bf16=True)
    assert moments.dtype == torch.float32
    assert torch.equal(moments, moments.bfloat16().float())
    assert not torch.equal(exact, exact.bfloat16().float())
    assert float((moments - exact).norm() / exact.norm()) < 0.05
    assert torch.equal(encode_moments(model, images), exact)
    assert weights_digest(model) == before


def test_posterior_sample_by_hand() -> None:
    # means 1 and -2, standard deviations e^(ln 4 / 2) = 2 and 1, noise 0.5 and 3, scale 10
    moments = torch.tensor([1.0, -2.0, np.log(4), 0.0]).view(1, 4, 1, 1)
    noise = torch.tensor([0.5, 3.0]).view(1, 2, 1, 1)
    expected = torch.tensor([20.0, 10.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(sample_latents(moments, noise, 10.0), expected)


def test_posterior_sample_is_float32_and_clamps_as_diffusers() -> None:
    moments = torch.tensor([0.0, 0.0, -100.0, 100.0], dtype=torch.float16).view(1, 4, 1, 1)
    latents = sample_latents(moments, torch.ones(1, 2, 1, 1), 1.0)
    assert latents.dtype == torch.float32
    assert latents.flatten().tolist() == pytest.approx([np.exp(-15), np.exp(10)])


@torch.no_grad()
def test_decoders_tensors_stay_below_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 16 channels and 4x4 pixels, 256 numbers an image: 700 hold two images."""
    model, sizes = build_tiny(autoencoder_config(channels=[8, 16], latent_channels=3)), list[int]()
    latents = torch.randn(5, 3, 2, 2)
    whole = decode(model, latents, 2.0)
    monkeypatch.setattr(autoencoder, "MOST_ELEMENTS", 700)
    model.decoder.conv_in.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    torch.testing.assert_close(decode(model, latents, 2.0), whole)
    assert sizes == [2, 2, 1]


def test_decode_undoes_the_scale() -> None:
    model = random_autoencoder()
    latents = torch.linspace(-1, 1, 4 * 8 * 8).view(1, 4, 8, 8)
    assert torch.equal(decode(model, latents * 4, 4.0), model.decode(latents).sample)


# training


def reconstruction_error(model: AutoencoderKL, images: NDArray[np.uint8]) -> float:
    target = to_signed(images)
    means = encode_moments(model, target).chunk(2, dim=1)[0]
    return float(F.mse_loss(decode(model, means, 1.0), target))


def test_training_reduces_the_error(digits: NDArray[np.uint8], trained: AutoencoderKL) -> None:
    with seeded_init(0):
        untrained = build_tiny(FEW)
    blank = float(np.var(to_signed(digits).numpy()))  # error of the best constant image
    assert reconstruction_error(untrained, digits) > blank
    assert reconstruction_error(trained, digits) < blank / 2


def test_training_is_a_function_of_the_seed(digits: NDArray[np.uint8]) -> None:
    config = autoencoder_config(train_images=24)
    models: list[AutoencoderKL] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(models))  # the global state has no say
        models.append(train_tiny_autoencoder(digits, config, seed, CPU))
    assert_same_weights(models[0], models[1])
    first, other = (m.encoder.conv_in.weight for m in (models[0], models[2]))
    assert not torch.allclose(first, other)


def test_training_does_not_depend_on_the_threads(digits: NDArray[np.uint8]) -> None:
    """Two jobs that prepare the same data, one beside others and one alone, must get the same latents."""
    config, before = autoencoder_config(train_images=24), torch.get_num_threads()
    digests = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            digests.append(weights_digest(train_tiny_autoencoder(digits, config, 0, CPU)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert digests[0] == digests[1]


def test_scaling_factor_gives_unit_deviation(digits: NDArray[np.uint8], trained: AutoencoderKL) -> None:
    means = encode_moments(trained, to_signed(digits)).chunk(2, dim=1)[0]
    assert float((means * trained.config["scaling_factor"]).std()) == pytest.approx(1, abs=1e-4)
    assert not trained.training
    assert not any(p.requires_grad for p in trained.parameters())


@pytest.mark.parametrize("steps", [1, 9, 10, 11])
def test_any_number_of_steps(digits: NDArray[np.uint8], steps: int) -> None:
    with seeded_init(0):
        untrained = build_tiny(autoencoder_config())
    trained = train_tiny_autoencoder(digits, autoencoder_config(train_images=2 * steps, batch_size=2), 0, CPU)
    assert not torch.equal(trained.decoder.conv_out.weight, untrained.decoder.conv_out.weight)


def test_saved_tiny_autoencoder_is_diffusers_own(tmp_path: Path, trained: AutoencoderKL) -> None:
    save_autoencoder(trained, tmp_path)
    again = AutoencoderKL.from_pretrained(tmp_path)
    assert_same_weights(again, trained)
    assert again.config["scaling_factor"] == trained.config["scaling_factor"]


def test_levels_halve_the_side() -> None:
    model = build_tiny(autoencoder_config(channels=[8, 16], latent_channels=3))
    assert encode_moments(model, torch.zeros(1, 3, 16, 16)).shape == (1, 6, 8, 8)


@pytest.mark.parametrize("channels", [[], [12]])
def test_channels_that_cannot_be(channels: list[int]) -> None:
    config: AutoencoderConfig = autoencoder_config(channels=channels)
    with pytest.raises(UserError, match=r"autoencoder\.channels=.* must be multiples of 8"):
        build_tiny(config)


@pytest.mark.parametrize("how", [{"variant": "fp16"}, {"max_shard_size": "20KB"}, {"safe_serialization": False}])
def test_as_diffusers_may_have_written_it(tmp_path: Path, how: dict[str, Any]) -> None:
    """Diffusers' layouts load: with a variant, in shards, or as a pickle."""
    model = random_autoencoder()
    model.save_pretrained(tmp_path, **how)
    assert not (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert weights_digest(load_autoencoder(str(tmp_path))) == weights_digest(model)


def test_an_autoencoder_as_a_pickle_runs_no_code(tmp_path: Path) -> None:
    random_autoencoder().save_pretrained(tmp_path / "vae", safe_serialization=False)
    (weights,) = (tmp_path / "vae").glob("*.bin")
    assert load_autoencoder(str(tmp_path / "vae")).config.latent_channels == 4
    torch.save({"weight": Evil(tmp_path / "run")}, weights)
    with pytest.raises(UserError, match="vae' cannot be loaded"):
        load_autoencoder(str(tmp_path / "vae"))
    assert not (tmp_path / "run").exists()
