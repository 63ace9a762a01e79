"""The diffusers pipeline: its images are the generator's, decoded; and it comes back from disk as it went."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.errors import UserError
from gat.models import Generator
from gat.models.sizes import generator_dims
from gat.pipeline import GATGenerator, GATPipeline, make_pipeline
from gat.pretrained import load_pretrained
from gat.rng import seeded_init
from tests.data_helpers import SCALING_FACTOR, random_autoencoder

SCALE = 0.05  # enlarges the latents of the untrained networks until the images are full of contrast
NAMES = ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "crane, lifting device"]
LABELS = [2, 0, 3]
NEITHER = "is neither a class number nor a name: give these, or a list of them"
WHOLE = "must be a whole number of at least 1"
GENERATOR = "must be a torch.Generator, or a list with one per image"
WEIGHTS = "generator/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def generator() -> Generator:
    with seeded_init(0):
        model = Generator(generator_dims("mini", "S", patch=4, num_classes=len(NAMES), latent_side=8))
    model.mean_w.normal_(generator=torch.Generator().manual_seed(0))
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def pipe(generator: Generator) -> GATPipeline:
    return make_pipeline(generator, random_autoencoder(), SCALE, NAMES, truncation=0.2)


@pytest.fixture(scope="module")
def folder(pipe: GATPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    pipe.save_pretrained(folder)
    return folder


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(pipe: GATPipeline, labels: Any = LABELS, output_type: str = "latent", **options: Any) -> Any:
    given: dict[str, Any] = {"generator": seeded(), "output_type": output_type} | options
    return pipe(labels, **given).images


def by_hand(generator: Generator, truncation: float) -> Tensor:
    """Latents (3, 4, 8, 8)."""
    return generator(torch.randn(3, 64, generator=seeded()), torch.tensor(LABELS), truncation=truncation)[-1]


def test_images_are_the_decoded_samples(pipe: GATPipeline, generator: Generator) -> None:
    expected = to_uint8(decode(pipe.vae, by_hand(generator, 0.3), SCALE))
    assert expected.float().std() > 20  # there is something to compare
    rows = expected.permute(0, 2, 3, 1).numpy()
    images = drawn(pipe, output_type="pil", truncation=0.3)
    assert [image.size for image in images] == [(32, 32)] * 3
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), rows)
    assert torch.equal(drawn(pipe, output_type="pt", truncation=0.3), expected / 255)
    array = drawn(pipe, output_type="np", truncation=0.3)
    assert array.dtype == np.float32
    assert np.array_equal(array, rows / np.float32(255))


def test_latents_and_truncation(pipe: GATPipeline, generator: Generator) -> None:
    assert torch.equal(drawn(pipe, truncation=0.3), by_hand(generator, 0.3))
    assert torch.equal(drawn(pipe), by_hand(generator, 0.2))
    assert torch.equal(drawn(pipe, truncation=0.0), by_hand(generator, 0.0))  # 0 is not None


def test_one_generator_per_image(pipe: GATPipeline) -> None:
    together = drawn(pipe, generator=[seeded(i) for i in range(3)])
    for i, label in enumerate(LABELS):
        assert torch.allclose(together[i], drawn(pipe, label, generator=seeded(i))[0], atol=1e-6)


def test_tuple_instead_of_output(pipe: GATPipeline) -> None:
    (latents,) = pipe(LABELS, generator=seeded(), output_type="latent", return_dict=False)
    assert torch.equal(latents, drawn(pipe))


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (["tench", "goldfish", "Carassius auratus"], [0, 1, 1]),
        (["Tinca tinca", 1, "goldfish, Carassius auratus"], [0, 1, 1]),
        (torch.tensor([0, 1, 1]), [0, 1, 1]),
        (np.array([0, 1, 1]), [0, 1, 1]),
        ((torch.tensor(0), np.int64(1), 1), [0, 1, 1]),
        (1, [1]),
        ("goldfish", [1]),
        (torch.tensor(1), [1]),
    ],
)
def test_ways_to_name_classes(pipe: GATPipeline, labels: Any, numbers: list[int]) -> None:
    assert torch.equal(drawn(pipe, labels), drawn(pipe, numbers))


def test_several_images_per_label(pipe: GATPipeline) -> None:
    assert torch.equal(drawn(pipe, [2, 0], num_images_per_label=2), drawn(pipe, [2, 2, 0, 0]))


def test_label_ids(pipe: GATPipeline) -> None:
    assert pipe.get_label_ids(["goldfish", "lifting device", "Tinca tinca", "crane, lifting device"]) == [1, 3, 0, 3]
    assert pipe.get_label_ids("goldfish") == [1]
    assert pipe.get_label_ids("crane") == [2]  # class 2 is called so, class 3 among other things


def test_name_of_two_classes(pipe: GATPipeline) -> None:
    twice = GATPipeline(pipe.generator, pipe.vae, {0: "crane", 2: "crane"})
    with pytest.raises(UserError, match=r"^several classes are called 'crane': give the number, one of \[0, 2\]$"):
        twice("crane")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([4], {}, "class_labels: there is no class 4: this generator has 4 classes, 0 to 3"),
        ([0, -1], {}, "class_labels: there is no class -1: this generator has 4 classes, 0 to 3"),
        ("gold fish", {}, "no class of this pipeline is called 'gold fish': did you mean 'goldfish'?"),
        ("xylophone", {}, "no class of this pipeline is called 'xylophone': its labels lists all names"),
        ([1.0], {}, f"class_labels: 1.0 {NEITHER}"),
        ([[1]], {}, f"class_labels: [1] {NEITHER}"),
        ([True], {}, f"class_labels: True {NEITHER}"),
        (None, {}, f"class_labels: None {NEITHER}"),
        ([], {}, "class_labels is empty: give at least one class number or name"),
        ([0], {"truncation": 1.5}, "truncation=1.5 must be a number from 0 (off) to 1"),
        ([0], {"truncation": float("nan")}, "truncation=nan must be a number from 0 (off) to 1"),
        ([0], {"output_type": "jpg"}, "output_type='jpg' is unknown: choose one of pil, np, pt, latent"),
        ([0], {"truncation": "0.3"}, "truncation='0.3' must be a number from 0 (off) to 1"),
        ([0], {"truncation": True}, "truncation=True must be a number from 0 (off) to 1"),
        ([0], {"truncation": [0.3]}, "truncation=[0.3] must be a number from 0 (off) to 1"),
        ([0], {"num_images_per_label": 0}, f"num_images_per_label=0 {WHOLE}"),
        ([0], {"num_images_per_label": 1.5}, f"num_images_per_label=1.5 {WHOLE}"),
        ([0], {"num_images_per_label": "2"}, f"num_images_per_label='2' {WHOLE}"),
        ([0], {"num_images_per_label": True}, f"num_images_per_label=True {WHOLE}"),
        ([0], {"generator": 0}, f"generator=0 {GENERATOR}"),
        ([0], {"generator": [0]}, f"generator=0 {GENERATOR}"),
        ([0], {"generator": np.random.PCG64}, f"generator={np.random.PCG64!r} {GENERATOR}"),
        ([0], {"return_dict": "no"}, "return_dict='no' must be True or False"),
        ([0], {"generator": [seeded(), seeded()]}, "2 generators were given for 1 images: give one, or one per image"),
    ],
)
def test_mistakes_in_a_call(pipe: GATPipeline, labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        pipe(labels, **options)
    assert str(error.value) == message


def test_a_tuple_of_generators_is_refused(pipe: GATPipeline) -> None:
    """PyTorch's sampler would take the tuple for one generator."""
    with pytest.raises(
        UserError, match=r"^generator=\(<torch.*\) must be a torch\.Generator, or a list with one per image$"
    ):
        pipe([0, 1], generator=(seeded(), seeded()))  # type: ignore[arg-type]


def test_numbers_of_numpy_and_pytorch_are_numbers(pipe: GATPipeline) -> None:
    expected = drawn(pipe, [2, 2], truncation=0.5)
    for one in (np.float32(0.5), np.float64(0.5), torch.tensor(0.5)):
        assert torch.equal(drawn(pipe, [2], truncation=one, num_images_per_label=np.int64(2)), expected)


def test_label_ids_of_what_is_no_name(pipe: GATPipeline) -> None:
    with pytest.raises(UserError, match=f"^class_labels: None {NEITHER}$"):
        pipe.get_label_ids(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncation": -0.1}, "truncation=-0.1 must be a number from 0 (off) to 1"),
        ({"truncation": "0.3"}, "truncation='0.3' must be a number from 0 (off) to 1"),
        ({"latent_scale": 0.0}, "latent_scale=0.0 must be a finite number above 0"),
        ({"latent_scale": "1"}, "latent_scale='1' must be a finite number above 0"),
        ({"id2label": ["crane"]}, "id2label=['crane'] must be a mapping from class numbers to names, or None"),
        ({"id2label": {"a": "crane"}}, "id2label: {'a': 'crane'} must be a class number with its name"),
        ({"id2label": {0: 3}}, "id2label: {0: 3} must be a class number with its name"),
        ({"id2label": {4: "crane"}}, "id2label: there is no class 4: this generator has 4 classes, 0 to 3"),
        (
            {"vae": AutoencoderKL(block_out_channels=(8,), latent_channels=3, norm_num_groups=4)},
            "the vae has 3 latent channels, the generator 4: give the autoencoder that it was trained with",
        ),
    ],
)
def test_mistakes_in_making(pipe: GATPipeline, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        GATPipeline(**pipe.components | changes)
    assert str(error.value) == message


def test_names_that_are_not_one_per_class(generator: Generator) -> None:
    with pytest.raises(UserError, match="^2 class names were given for 4 classes: give one for each, or none$"):
        make_pipeline(generator, random_autoencoder(), SCALE, ["a", "b"])


def test_pipeline_without_names_or_scale(pipe: GATPipeline) -> None:
    bare = GATPipeline(pipe.generator, pipe.vae)
    assert bare.config.latent_scale == SCALING_FACTOR
    with pytest.raises(
        UserError, match="^no class is called 'tench', as this pipeline knows no names: give numbers, 0"
    ):
        bare("tench")


def test_copy_is_the_generator(generator: Generator) -> None:
    copy, double = GATGenerator.of(generator), GATGenerator.of(Generator(generator.dims).double())
    assert copy.dims == generator.dims
    ours, theirs = (dict(g.named_buffers()) | g.state_dict() for g in (copy, generator))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not any(ours[key].data_ptr() == theirs[key].data_ptr() for key in ours)
    assert (copy.training, any(parameter.requires_grad for parameter in copy.parameters())) == (False, False)
    assert {value.dtype for value in [*double.parameters(), *double.buffers()]} == {torch.float64}


def test_generators_files(folder: Path, generator: Generator) -> None:
    config = json.loads((folder / "generator/config.json").read_text())
    assert config.keys() - asdict(generator.dims).keys() == {"_class_name", "_diffusers_version"}
    assert asdict(generator.dims).items() <= config.items()
    tensors = load_file(folder / WEIGHTS)
    assert tensors.keys() == generator.state_dict().keys()
    assert all(torch.equal(tensors[key], value) for key, value in generator.state_dict().items())


def test_index(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    del index["_diffusers_version"]
    assert index == {
        "_class_name": "GATPipeline",
        "generator": ["gat.pipeline", "GATGenerator"],
        "vae": ["diffusers", "AutoencoderKL"],
        "id2label": {str(i): name for i, name in enumerate(NAMES)},
        "latent_scale": SCALE,
        "truncation": 0.2,
        "decoder": "own",
    }


@pytest.mark.parametrize("loader", [GATPipeline, diffusers.DiffusionPipeline])
def test_round_trip(pipe: GATPipeline, folder: Path, loader: Any) -> None:
    loaded = loader.from_pretrained(folder)
    assert type(loaded) is GATPipeline
    assert loaded.labels == pipe.labels
    assert all(loaded.config[name] == pipe.config[name] for name in ("id2label", "latent_scale", "truncation"))
    for output_type in ("latent", "np"):
        assert np.array_equal(drawn(loaded, output_type=output_type), drawn(pipe, output_type=output_type))


def test_settings_given_when_loading(pipe: GATPipeline, folder: Path) -> None:
    loaded = GATPipeline.from_pretrained(folder, truncation=0.7, id2label=None)
    assert torch.equal(drawn(loaded), drawn(pipe, truncation=0.7))
    assert loaded.labels == {}


def test_fresh_process(pipe: GATPipeline, folder: Path, tmp_path: Path) -> None:
    code = """
import sys, diffusers, numpy, torch
from gat.pipeline import GATPipeline
for i, loader in enumerate((GATPipeline, diffusers.DiffusionPipeline)):
    pipe = loader.from_pretrained(sys.argv[1])
    images = pipe([2, 0, 3], generator=torch.Generator().manual_seed(7), output_type="latent").images
    numpy.save(f"{sys.argv[2]}/{i}.npy", images.numpy())
"""
    subprocess.run([sys.executable, "-c", code, str(folder), str(tmp_path)], check=True, capture_output=True)
    assert all(np.array_equal(np.load(tmp_path / f"{i}.npy"), drawn(pipe)) for i in range(2))


def test_our_own_reader_takes_it(folder: Path, generator: Generator) -> None:
    loaded = load_pretrained(str(folder))
    assert loaded.kind == "pipeline"
    assert torch.equal(by_hand(loaded.generator, 0.3), by_hand(generator, 0.3))


@pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_half_precision(pipe: GATPipeline, folder: Path, dtype: torch.dtype, tolerance: float) -> None:
    loaded = GATPipeline.from_pretrained(folder, torch_dtype=dtype)
    tensors = [*loaded.generator.parameters(), *loaded.generator.buffers(), *loaded.vae.parameters()]
    assert {value.dtype for value in tensors} == {dtype}
    assert torch.equal(drawn(loaded), drawn(GATPipeline.from_pretrained(folder).to(dtype)))
    assert 0 < (drawn(loaded) - drawn(pipe)).norm() / drawn(pipe).norm() < tolerance
    assert np.abs(drawn(loaded, output_type="np") - drawn(pipe, output_type="np")).mean() < tolerance


def test_position_codes_when_parameters_begin_without_values(
    folder: Path, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As accelerate has it for ``low_cpu_mem_usage``: parameters are on the meta device until the file gives them."""
    register = nn.Module.register_parameter

    def without_values(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        register(module, name, None if value is None else nn.Parameter(value.to("meta")))

    with monkeypatch.context() as patched:
        patched.setattr(nn.Module, "register_parameter", without_values)
        model = GATGenerator(**asdict(generator.dims))
    assert all(parameter.is_meta for parameter in model.parameters())
    model.load_state_dict(load_file(folder / WEIGHTS), assign=True)
    assert torch.equal(by_hand(model, 0.3), by_hand(generator, 0.3))


def test_low_cpu_mem_usage(pipe: GATPipeline, folder: Path) -> None:
    pytest.importorskip("accelerate")
    assert torch.equal(drawn(GATPipeline.from_pretrained(folder, low_cpu_mem_usage=True)), drawn(pipe))


def test_weights_of_another_config(generator: Generator, tmp_path: Path) -> None:
    GATGenerator.of(generator).save_pretrained(tmp_path / "generator")
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["stranger"] = tensors.pop("mean_w")
    save_file(tensors, tmp_path / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match="are not those of its config.json \\(missing: mean_w, 1 in all\\)"):
        GATGenerator.from_pretrained(tmp_path / "generator")
    tensors["mean_w"] = torch.zeros(len(NAMES), generator.dims.width)
    save_file(tensors, tmp_path / WEIGHTS, {"format": "pt"})
    with pytest.raises(UserError, match="are not those of its config.json \\(unexpected: stranger, 1 in all\\)"):
        GATGenerator.from_pretrained(tmp_path / "generator")
