"""What the loader of released state dicts accepts and refuses."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gat.evaluation.sampling import draw_inputs
from gat.models import Generator
from gat.release import GENERATOR_RENAMES, load_discriminator, load_generator, release_key
from gat.rng import seeded_init
from tests.conftest import section
from tests.helpers import dims_of

Vectors = dict[str, Tensor]


@pytest.fixture
def generator_state(reference: Vectors) -> Vectors:
    return section(reference, "generator.")


@pytest.fixture
def discriminator_state(reference: Vectors) -> Vectors:
    return section(reference, "discriminator.")


def test_dimensions_come_from_the_tensors(generator_state: Vectors, discriminator_state: Vectors) -> None:
    generator, discriminator = load_generator(generator_state), load_discriminator(discriminator_state)
    for dims in (generator.dims, discriminator.dims):
        assert (dims.width, dims.depth, dims.heads, dims.patch) == (32, 4, 2, 2)
        assert (dims.num_classes, dims.latent_side, dims.channels, dims.num_stages) == (5, 8, 4, 4)
    widths = discriminator.dims
    assert (widths.logit_width, widths.projector_width, widths.teacher_width) == (32, 48, 8)


def test_width_of_z_comes_from_the_tensors() -> None:
    dims = replace(dims_of(3), z_dim=16)
    with seeded_init(0):
        ours = Generator(dims)
    state = {release_key(key, GENERATOR_RENAMES): value for key, value in ours.state_dict().items()}
    positions = {"feat_rope.freqs_cos": ours.rope[0]}
    unsigned = ours.rope[1] * torch.tensor([-1, 1]).repeat(ours.rope.shape[2] // 2)
    dead = {"x_embedder.proj.weight": torch.zeros(dims.width, 4, 4, 4), "x_embedder.proj.bias": torch.zeros(dims.width)}
    loaded = load_generator(state | positions | {"feat_rope.freqs_sin": unsigned} | dead)
    assert loaded.dims == dims
    z, labels = draw_inputs(5, loaded.dims, 0, "balanced")
    assert z.shape == (5, 16)
    assert torch.equal(loaded(z, labels), ours(z, labels))


def test_loaded_weights_keep_their_precision(generator_state: Vectors) -> None:
    single = {key: value.float() for key, value in generator_state.items()}
    assert {p.dtype for p in load_generator(single).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "key", ["blocks.2.mlp.w3.bias", "w_avg", "pos_embed", "x_embedder.proj.weight", "x_embedder.proj.bias"]
)
def test_missing_generator_key_is_named(generator_state: Vectors, key: str) -> None:
    del generator_state[key]
    with pytest.raises(ValueError, match=f"missing key '{key}'"):
        load_generator(generator_state)


@pytest.mark.parametrize("key", ["cls_token", "proj.4.weight", "feat_rope.freqs_sin", "final_layer.1.bias"])
def test_missing_discriminator_key_is_named(discriminator_state: Vectors, key: str) -> None:
    del discriminator_state[key]
    with pytest.raises(ValueError, match=f"missing key '{key}'"):
        load_discriminator(discriminator_state)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(generator_state: Vectors, value: float) -> None:
    generator_state["pos_embed"] = generator_state["pos_embed"].index_fill(1, torch.tensor(3), value)
    with pytest.raises(ValueError, match="pos_embed: holds values that are not finite"):
        load_generator(generator_state)


@pytest.mark.parametrize("key", ["surprise", "mean_w", "blocks.0.modulation.weight"])
def test_unknown_key_is_named(generator_state: Vectors, key: str) -> None:
    generator_state[key] = torch.zeros(1)
    with pytest.raises(ValueError, match=f"unknown key '{key}'"):
        load_generator(generator_state)


@pytest.mark.parametrize(
    "key",
    ["blocks.1.attn.qkv.weight", "w_avg", "latent_embedder.0.weight", "x_embedder.proj.bias", "pos_embed"],
)
def test_wrong_generator_shape_is_named(generator_state: Vectors, key: str) -> None:
    generator_state[key] = generator_state[key][..., :-1]
    with pytest.raises(ValueError, match=f"^{key}: shape .* expected"):
        load_generator(generator_state)


def test_wrong_number_of_dimensions_is_named(generator_state: Vectors) -> None:
    generator_state["pos_embed"] = generator_state["pos_embed"][0]
    with pytest.raises(ValueError, match="pos_embed: shape"):
        load_generator(generator_state)


@pytest.mark.parametrize("key", ["blocks.1.ls_attn", "proj.2.weight", "blocks.3.norm2.weight"])
def test_wrong_discriminator_shape_is_named(discriminator_state: Vectors, key: str) -> None:
    discriminator_state[key] = torch.zeros(3, *discriminator_state[key].shape[1:])
    with pytest.raises(ValueError, match=f"^{key}: shape .* expected"):
        load_discriminator(discriminator_state)


@pytest.mark.parametrize("key", ["feat_rope.freqs_cos", "feat_rope.freqs_sin"])
def test_foreign_rotations_are_refused(generator_state: Vectors, key: str) -> None:
    generator_state[key] = generator_state[key] + 0.1
    with pytest.raises(ValueError, match=f"{key}: its values are not the fixed rotations"):
        load_generator(generator_state)


def test_position_codes_are_taken_as_they_were_trained(generator_state: Vectors, discriminator_state: Vectors) -> None:
    """The release trains them: a checkpoint's are no longer the sines and cosines that they began as."""
    for state, load in ((generator_state, load_generator), (discriminator_state, load_discriminator)):
        state["pos_embed"] = state["pos_embed"] + 0.1
        assert torch.equal(load(state).pos_embed, state["pos_embed"])


def test_networks_are_not_mistaken_for_each_other(generator_state: Vectors, discriminator_state: Vectors) -> None:
    with pytest.raises(ValueError, match="key"):
        load_generator(discriminator_state)
    with pytest.raises(ValueError, match="key"):
        load_discriminator(generator_state)
