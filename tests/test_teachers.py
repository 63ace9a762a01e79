"""Teachers: that EfficientNet-Lite0 sees what is there, the tokens of each kind of network, and every way to miss weights."""

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from gat import teachers
from gat.data.images import center_crop
from gat.errors import UserError
from gat.rng import seeded_init
from gat.teachers import Teacher, efficientnet_lite0, load_teacher, timm_model
from tests.data_helpers import (
    CPU,
    random_images,
    teacher_config,
    without_network,
)

VIT, VIT_WITHOUT_CLASS_TOKEN, CNN = "test_vit", "test_vit2", "test_efficientnet"  # timm's own small models
PALACE, DAISY = 698, 985  # ImageNet-1k
PX = 64


@pytest.fixture(scope="module")
def lite0() -> Teacher:
    return load_teacher(teacher_config(), CPU)


def random_model(name: str, **settings: int) -> nn.Module:
    with seeded_init(0):
        return timm.create_model(name, pretrained=False, **settings).eval()


def saved(model: nn.Module, file: Path) -> str:
    save_file(model.state_dict(), file)
    return str(file)


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(random_images(2, PX))


def signed(images: Tensor) -> Tensor:
    """Normalised by mean and deviation 0.5, as the networks here want it."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


# EfficientNet-Lite0


@pytest.mark.parametrize(("photo", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_recognises_photographs(photo: str, expected: int) -> None:
    """Scikit-learn's photographs: a Chinese palace, and a dahlia, which among ImageNet's classes is nearest to a daisy."""
    model = efficientnet_lite0()
    pixels = torch.from_numpy(center_crop(Image.fromarray(load_sample_image(photo)), 224).copy())
    with torch.no_grad():
        probabilities = model(signed(pixels[None])).softmax(dim=1)[0]
    assert int(probabilities.argmax()) == expected
    assert float(probabilities[expected]) > 0.2


def test_last_features(lite0: Teacher, images: Tensor) -> None:
    tokens = lite0(images)
    assert tokens.cls.shape == (2, 1280)
    assert tokens.patches.shape == (2, 4, 1280)
    assert (lite0.width, lite0.tokens) == (1280, 4)
    with torch.no_grad():
        features = efficientnet_lite0().forward_features(signed(images))  # type: ignore[operator]
    torch.testing.assert_close(tokens.patches[:, 1], features[:, :, 0, 1])  # tokens run along the rows
    torch.testing.assert_close(tokens.cls, features.mean(dim=(2, 3)))


def test_intermediate_features(images: Tensor) -> None:
    teacher = load_teacher(teacher_config(layer=2), CPU)
    tokens = teacher(images)
    assert tokens.cls.shape == (2, 40)
    assert tokens.patches.shape == (2, 64, 40)
    assert (teacher.width, teacher.tokens) == (40, 64)
    torch.testing.assert_close(tokens.cls, tokens.patches.mean(dim=1))


def test_teacher_is_frozen(lite0: Teacher) -> None:
    assert not any(p.requires_grad for p in lite0.parameters())
    assert not any(module.training for module in lite0.modules())


# what the network is shown


class Pixels(nn.Module):
    """A network whose feature maps are its input, so that tokens are what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.pretrained_cfg = {"mean": (0.2, 0.4, 0.6), "std": (0.1, 0.5, 2.0)}

    def forward_features(self, x: Tensor) -> Tensor:
        return x


def test_normalisation_by_hand() -> None:
    teacher = Teacher(Pixels(), "pixels", 2, None)
    images = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    images[0, 0, 1] = torch.tensor([51, 102, 255])  # 0.2, 0.4, 1
    tokens = teacher(images)
    black = [-2.0, -0.8, -0.3]
    torch.testing.assert_close(tokens.patches[0], torch.tensor([black, [0.0, 0.0, 0.2], black, black]))
    torch.testing.assert_close(tokens.cls[0], torch.tensor([-1.5, -0.6, -0.175]))


def test_a_network_in_bf16_gives_tokens_in_fp32(images: Tensor) -> None:
    """Close to those in fp32, not equal, and whatever autocast says around it."""
    plain = load_teacher(teacher_config(), torch.device("cpu"))
    rounded = load_teacher(teacher_config(precision="bf16"), torch.device("cpu"))
    theirs, ours = plain(images).patches, rounded(images).patches
    assert ours.dtype == torch.float32
    assert 0 < float((ours - theirs).norm() / theirs.norm()) < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(images).patches, theirs)
    with pytest.raises(UserError, match="teacher.precision='half' is unknown"):
        load_teacher(teacher_config(precision="half"), torch.device("cpu"))


def test_images_are_resized_to_the_input() -> None:
    teacher = Teacher(Pixels(), "pixels", 8, None)
    flat = torch.full((1, 32, 32, 3), 102, dtype=torch.uint8)
    expected = torch.tensor([2.0, 0.0, -0.1]).view(1, 3, 1, 1).expand(1, 3, 8, 8)  # of 0.4, normalised
    torch.testing.assert_close(teacher.preprocess(flat), expected)
    assert teacher(flat).patches.shape == (1, 64, 3)


def test_channels_last_feature_maps() -> None:
    model = Pixels()
    model.output_fmt = "NHWC"  # type: ignore[assignment]
    model.forward_features = lambda x: x.permute(0, 2, 3, 1)  # type: ignore[method-assign]
    images = torch.from_numpy(random_images(1, 8))
    ours, plain = Teacher(model, "pixels", 8, None)(images), Teacher(Pixels(), "pixels", 8, None)(images)
    assert torch.equal(ours.patches, plain.patches)
    assert torch.equal(ours.cls, plain.cls)


# vision transformers from a file


def test_tokens_of_a_vision_transformer(tmp_path: Path, images: Tensor) -> None:
    model = random_model(VIT, img_size=PX)
    teacher = load_teacher(teacher_config(name=VIT, weights=saved(model, tmp_path / "vit.safetensors")), CPU)
    tokens = teacher(images)
    assert tokens.cls.shape == (2, 64)
    assert tokens.patches.shape == (2, 16, 64)
    assert (teacher.width, teacher.tokens) == (64, 16)
    with torch.no_grad():
        features = model.forward_features(signed(images))  # type: ignore[operator]
    assert features.shape == (2, 17, 64)
    assert torch.equal(tokens.cls, features[:, 0])
    assert torch.equal(tokens.patches, features[:, 1:])


def test_without_a_class_token_cls_is_the_mean(tmp_path: Path, images: Tensor) -> None:
    model = random_model(VIT_WITHOUT_CLASS_TOKEN, img_size=PX)
    weights = saved(model, tmp_path / "vit.safetensors")
    tokens = load_teacher(teacher_config(name=VIT_WITHOUT_CLASS_TOKEN, weights=weights), CPU)(images)
    with torch.no_grad():
        features = model.forward_features(signed(images))  # type: ignore[operator]
    assert features.shape[1] == 17  # a register comes first
    assert torch.equal(tokens.patches, features[:, 1:])
    assert torch.equal(tokens.cls, features[:, 1:].mean(dim=1))


def test_position_embedding_follows_the_input(tmp_path: Path, images: Tensor) -> None:
    model = random_model(VIT, img_size=160)
    state = model.state_dict()
    state["pos_embed"] = torch.ones_like(state["pos_embed"]) * 0.7  # constant: resized it is the same
    save_file(state, tmp_path / "vit.safetensors")
    teacher = load_teacher(teacher_config(name=VIT, weights=str(tmp_path / "vit.safetensors")), CPU)
    assert teacher.tokens == 16
    embedding = teacher.model.pos_embed
    assert isinstance(embedding, Tensor)
    torch.testing.assert_close(embedding, torch.full_like(embedding, 0.7))


def test_intermediate_features_of_a_vision_transformer(tmp_path: Path, images: Tensor) -> None:
    model = random_model(VIT, img_size=PX)
    weights = saved(model, tmp_path / "vit.safetensors")
    tokens = load_teacher(teacher_config(name=VIT, weights=weights, layer=1), CPU)(images)
    with torch.no_grad():
        h = model._pos_embed(model.patch_embed(signed(images)))  # type: ignore[operator]
        for block in model.blocks[:2]:  # type: ignore[index]
            h = block(h)
    torch.testing.assert_close(tokens.patches, h[:, 1:])
    torch.testing.assert_close(tokens.cls, h[:, 1:].mean(dim=1))


@pytest.mark.parametrize(("name", "used", "unused"), [(VIT, "blocks.1", "blocks.2"), (CNN, "blocks.1", "blocks.4")])
def test_nothing_past_the_layer_is_computed(tmp_path: Path, name: str, used: str, unused: str) -> None:
    teacher = load_teacher(
        teacher_config(name=name, weights=saved(random_model(name), tmp_path / "w.safetensors"), layer=1), CPU
    )
    seen: list[str] = []
    for part in (used, unused):
        teacher.model.get_submodule(part).register_forward_hook(lambda *_, part=part: seen.append(part))
    teacher(torch.zeros(1, PX, PX, 3, dtype=torch.uint8))
    assert seen == [used]


def test_state_dict_by_torch(tmp_path: Path, images: Tensor) -> None:
    model = random_model(VIT, img_size=PX)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    loaded = timm_model(VIT, str(tmp_path / "vit.pth"), PX)
    assert torch.equal(loaded.forward_features(signed(images)), model.forward_features(signed(images)))  # type: ignore[operator]
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("name", [CNN, "efficientvit_b0"])
def test_networks_of_any_input_size(tmp_path: Path, name: str) -> None:
    """They take no ``img_size``, whatever their name says."""
    weights = saved(random_model(name), tmp_path / "cnn.safetensors")
    sides = {px: load_teacher(teacher_config(name=name, weights=weights, input_px=px), CPU).tokens for px in (64, 128)}
    assert sides == {64: 4, 128: 16}


# mistakes


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"teacher\.name='dino_v9' is no timm model: see timm\.list_models\(\)"):
        load_teacher(teacher_config(name="dino_v9"), CPU)


def test_unknown_translation() -> None:
    with pytest.raises(UserError, match=r"teacher\.translation='none' is unknown: choose one of exact, as_released"):
        load_teacher(teacher_config(translation="none"), CPU)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"teacher\.weights={tmp_path}/x: no such file: give a timm state dict of test_v"
    ):
        load_teacher(teacher_config(name=VIT, weights=str(tmp_path / "x")), CPU)


@pytest.mark.parametrize("other", [CNN, VIT_WITHOUT_CLASS_TOKEN])
def test_weights_of_another_model(tmp_path: Path, other: str) -> None:
    weights = saved(random_model(other), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=rf"teacher\.weights={weights}: not the weights of test_vit \(") as told:
        load_teacher(teacher_config(name=VIT, weights=weights), CPU)
    assert "\n" not in str(told.value)


def test_weights_of_a_vision_transformer_for_a_cnn(tmp_path: Path) -> None:
    weights = saved(random_model(VIT), tmp_path / "vit.safetensors")
    with pytest.raises(UserError, match=r"not the weights of test_efficientnet \("):
        load_teacher(teacher_config(name=CNN, weights=weights), CPU)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"this is no state dict", b"\x80\x02}q\x00."])
def test_file_that_holds_no_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: not the weights of test_vit \("):
        load_teacher(teacher_config(name=VIT, weights=str(tmp_path / name)), CPU)


@pytest.mark.parametrize(("name", "origin"), [(VIT, "timm/test_vit"), ("vit_small_patch14_dinov2.lvd142m", "lvd142m")])
def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, origin: str) -> None:
    without_network(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=rf"weights of teacher '{name}' cannot be had \(.*{origin}") as told:
        load_teacher(teacher_config(name=name), CPU)
    assert "set teacher.weights=FILE, or use teacher=efficientnet_lite0" in str(told.value)
    assert "\n" not in str(told.value)


def test_layer_that_is_not_there() -> None:
    with pytest.raises(
        UserError, match=r"gives no features at teacher\.layer=9, teacher\.input_px=64 \(.*\): choose oth"
    ):
        load_teacher(teacher_config(layer=9), CPU)


def test_input_that_does_not_fit_the_patches(tmp_path: Path) -> None:
    weights = saved(random_model(VIT), tmp_path / "vit.safetensors")
    with pytest.raises(UserError, match=r"gives no features at teacher\.layer=None, teacher\.input_px=60 "):
        load_teacher(teacher_config(name=VIT, weights=weights, input_px=60), CPU)


def test_network_without_intermediate_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "timm_model", lambda *_: Pixels())
    with pytest.raises(UserError, match=r"gives no features at teacher\.layer=1"):
        load_teacher(teacher_config(layer=1), CPU)
