"""Trained generators from files of every layout, and one clear line for what is none."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gat.checkpoint_file import checksum, read_checkpoint
from gat.errors import UserError
from gat.files import sha256
from gat.models.sizes import FAMILIES
from gat.pretrained import load_pretrained
from gat.release import GENERATOR_RENAMES, generator_dims_of, load_generator, release_key
from tests.conftest import section
from tests.data_helpers import without_network
from tests.released import training_checkpoint, write_checkpoint, write_conversion

WEIGHTS = "diffusion_pytorch_model.safetensors"
Vectors = dict[str, Tensor]


def images_of(generator: Any, reference: Vectors) -> Tensor:
    return generator(reference["z"].float(), reference["labels"])


def test_a_runs_folder_is_its_last_checkpoint(trained: Path) -> None:
    found = load_pretrained(str(trained / "run"))
    file = trained / "run" / "checkpoints" / "step-00000004.safetensors"
    assert (found.kind, found.source, found.home) == ("run", file, trained / "run")
    assert found.facts == {"checkpoint": str(file), "kind": "run", "sha256": sha256(file), "weights": "ema", "step": 4}
    averaged = section(load_file(file), "ema.")
    assert all(torch.equal(value, averaged[key]) for key, value in found.generator.state_dict().items())
    assert not found.generator.training
    assert not any(p.requires_grad for p in found.generator.parameters())
    earlier = load_pretrained(str(trained / "run" / "checkpoints" / "step-00000002.safetensors"))
    assert (earlier.facts["step"], earlier.home) == (2, trained / "run")


@pytest.mark.parametrize(
    "changed", [{"generator": '{"width": "x"}'}, {"generator": '{"zzz": 1}'}, {"generator": "[1]"}, {"step": "abc"}]
)
def test_a_foreign_checkpoint_with_a_head_of_nonsense(trained: Path, tmp_path: Path, changed: dict[str, str]) -> None:
    metadata, tensors = read_checkpoint(trained / "run" / "checkpoints" / "step-00000004.safetensors")
    if changed.get("generator", "").startswith("{"):
        changed = {"generator": json.dumps(json.loads(metadata["generator"]) | json.loads(changed["generator"]))}
    changed = metadata | changed
    save_file(tensors, tmp_path / "c.safetensors", changed | {"checksum": checksum(tensors, changed)})
    with pytest.raises(UserError, match="its metadata are not those of a run"):
        load_pretrained(str(tmp_path / "c.safetensors"))


@pytest.mark.parametrize("key", ["ema", "generator", None])
def test_the_authors_checkpoint(tmp_path: Path, reference: Vectors, key: str | None) -> None:
    content = training_checkpoint(reference)
    expected = load_generator(content[key or "generator"])
    if key == "generator":
        del content["ema"]
    file = write_checkpoint(tmp_path / "0150000.pt", content if key else content["generator"])
    found = load_pretrained(str(file))
    assert found.kind == "release"
    assert (found.facts["weights"], found.facts["step"]) == (key or "state dict", 150_000 if key else None)
    ours, theirs = images_of(found.generator, reference), images_of(expected.float(), reference)
    assert torch.equal(ours, theirs)
    if key != "ema":
        torch.testing.assert_close(ours.double(), reference["g.stages"], rtol=1e-4, atol=1e-5)


def test_the_conversion_to_diffusers(tmp_path: Path, reference: Vectors) -> None:
    found = load_pretrained(str(write_conversion(tmp_path / "GAT-XL-2-256", reference)))
    assert found.kind == "conversion"
    assert found.home == tmp_path / "GAT-XL-2-256"
    images = images_of(found.generator, reference)
    torch.testing.assert_close(images.double(), reference["g.stages"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_lone_safetensors_file(tmp_path: Path, reference: Vectors, prefix: str) -> None:
    state = {prefix + key: value.float() for key, value in section(reference, "generator.").items()}
    save_file(state, tmp_path / "gat.safetensors")
    found = load_pretrained(str(tmp_path / "gat.safetensors"))
    torch.testing.assert_close(
        images_of(found.generator, reference).double(), reference["g.stages"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("size", ["S", "B", "L", "XL"])
def test_sizes_of_the_paper_from_names_and_shapes(reference: Vectors, size: str, patch: int) -> None:
    """The reference's keys, repeated to the depth, with the size's shapes and no memory behind them."""
    body = FAMILIES["gat"].sizes[size]
    tokens, head = (32 // patch) ** 2, body.width // body.heads
    shapes = {
        "x_embedder.proj.weight": (body.width, 4, patch, patch),
        "y_embedder.embedding_table.weight": (1000, 64),
        "pos_embed": (1, tokens, body.width),
    }
    given = section(reference, "generator.")
    state = {key: torch.zeros(()).expand(shapes.get(key, value.shape)) for key, value in given.items()}
    for block in range(body.depth):
        for key in [k for k in given if k.startswith("blocks.0.")]:
            shape = (head,) if "_norm" in key else given[key].shape
            state[key.replace("blocks.0.", f"blocks.{block}.")] = torch.zeros(()).expand(shape)
    dims = generator_dims_of(state)
    assert (dims.depth, dims.width, dims.heads, dims.patch) == (body.depth, body.width, body.heads, patch)
    assert (dims.latent_side, dims.channels, dims.num_classes, dims.num_stages) == (32, 4, 1000, 4)


def test_key_names_of_the_whole_release(reference: Vectors) -> None:
    """What the test above repeats: every key of the release's generator is known."""
    own = load_generator(section(reference, "generator.")).state_dict()
    known = {release_key(key, GENERATOR_RENAMES) for key in own}
    extra = set(section(reference, "generator.")) - known
    assert extra == {
        "x_embedder.proj.weight",
        "x_embedder.proj.bias",
        "feat_rope.freqs_cos",
        "feat_rope.freqs_sin",
    }


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def test_no_code_of_a_pickle_is_run(tmp_path: Path, reference: Vectors) -> None:
    content = training_checkpoint(reference) | {"extra": Evil(tmp_path / "run")}
    file = write_checkpoint(tmp_path / "evil.pt", content)
    with pytest.raises(
        UserError, match=r"evil\.pt: refused, as it holds more than tensors and argparse\.Namespace \(.*GLOBAL"
    ) as told:
        load_pretrained(str(file))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def refused(where: Path | str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        load_pretrained(str(where))
    assert "\n" not in str(told.value)


def test_a_discriminator(tmp_path: Path, reference: Vectors) -> None:
    state = section(reference, "discriminator.")
    refused(write_checkpoint(tmp_path / "d.pt", state), r"d\.pt: holds a discriminator, which cannot generate")
    save_file({key: value.float() for key, value in state.items()}, tmp_path / "d.safetensors")
    refused(tmp_path / "d.safetensors", r"d\.safetensors: holds a discriminator, which cannot generate")
    content = {key: value for key, value in training_checkpoint(reference).items() if key in ("discriminator", "args")}
    refused(write_checkpoint(tmp_path / "only.pt", content), r"only\.pt: holds a discriminator, which cannot generate")


def test_other_things(tmp_path: Path, reference: Vectors, trained: Path) -> None:
    refused(tmp_path / "nothing.pt", r"nothing\.pt: no such file or folder: give a run's folder or checkpoint")
    refused(tmp_path, "holds neither model_index.json nor checkpoints/")
    (tmp_path / "text.txt").write_text("weights")
    refused(tmp_path / "text.txt", r"text\.txt: \.txt is unknown")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04")
    refused(tmp_path / "cut.pt", r"cut\.pt: not a whole PyTorch checkpoint")
    (tmp_path / "cut.safetensors").write_bytes(b"12345678")
    refused(tmp_path / "cut.safetensors", r"cut\.safetensors: not a whole safetensors file")
    refused(write_checkpoint(tmp_path / "list.pt", [1, 2]), r"list\.pt: holds a list, not a checkpoint")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"ema": 1}))
    refused(tmp_path / "plain.pt", r"plain\.pt: ")
    state = section(reference, "generator.")
    state["blocks.0.attn.qkv.weight"] = torch.zeros(3, 3)
    refused(
        write_checkpoint(tmp_path / "shape.pt", state),
        r"shape\.pt: no generator of GAT \(blocks\.0\.attn\.qkv\.weight: shape",
    )
    whole = (trained / "run" / "checkpoints" / "step-00000004.safetensors").read_bytes()
    (tmp_path / "step.safetensors").write_bytes(whole[:-8] + b"\x00" * 8)
    refused(tmp_path / "step.safetensors", r"step\.safetensors: its content does not match its checksum")


def test_a_pipeline_folder_that_is_not_whole(tmp_path: Path, reference: Vectors) -> None:
    folder = write_conversion(tmp_path / "conversion", reference)
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    own = load_generator(section(reference, "generator.")).float().state_dict()
    save_file(own, weights)
    refused(folder, r"generator/config\.json: not a generator's")
    (folder / "generator" / "config.json").write_text(json.dumps({"width": 3}))
    refused(folder, r"generator/config\.json: not a generator's")
    weights.unlink()
    refused(folder, "has no generator/diffusion_pytorch_model.safetensors")
    assert state


def test_position_codes_that_are_lost(tmp_path: Path, reference: Vectors) -> None:
    """Position codes are trained, so their initial values cannot replace them."""
    folder = write_conversion(tmp_path / "conversion", reference)
    generator = load_generator(section(reference, "generator.")).float()
    state = generator.state_dict()
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    (folder / "generator" / "config.json").write_text(json.dumps(asdict(generator.dims)))
    save_file(state, weights)
    load_pretrained(str(folder))
    save_file({key: value for key, value in state.items() if key != "pos_embed"}, weights)
    refused(folder, "has no position codes")


def sharded(folder: Path, state: Vectors, kind: str) -> None:
    """Write two shards and their index, or one file, under diffusers' names; ``kind`` stands before the suffix."""
    variant, _, suffix = kind.rpartition(".")
    stem, of = "diffusion_pytorch_model" + (f".{variant}" if variant else ""), f".{variant}" if variant else ""
    names = sorted(state)
    halves = {f"{stem}-0000{i + 1}-of-00002.{suffix}": names[i::2] for i in range(2)}
    for name, keys in halves.items():
        part = {key: state[key].contiguous() for key in keys}
        save_file(part, folder / name) if suffix == "safetensors" else torch.save(part, folder / name)
    index = {"metadata": {}, "weight_map": {key: name for name, keys in halves.items() for key in keys}}
    (folder / f"diffusion_pytorch_model.{suffix}.index{of}.json").write_text(json.dumps(index))


@pytest.mark.parametrize("kind", ["safetensors", "bin", "fp16.safetensors", "fp16.bin"])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("alone", [False, True])
def test_weights_as_diffusers_writes_them(
    tmp_path: Path, reference: Vectors, kind: str, shards: int, alone: bool
) -> None:
    folder = write_conversion(tmp_path / "GAT", reference)
    expected = load_pretrained(str(folder))
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    weights.unlink()
    if shards == 2:
        sharded(weights.parent, state, kind)
    else:
        file = weights.with_name(f"diffusion_pytorch_model.{kind}")
        save_file(state, file) if kind.endswith("safetensors") else torch.save(state, file)
    found = load_pretrained(str(weights.parent if alone else folder))
    assert (found.kind, found.home) == ("conversion", weights.parent if alone else folder)
    assert len(found.facts["sha256"]) == 64
    ours, theirs = found.generator.state_dict(), expected.generator.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    assert found.source.is_file()


def test_the_digest_of_shards_changes_with_each(tmp_path: Path, reference: Vectors) -> None:
    folder = write_conversion(tmp_path / "GAT", reference)
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    weights.unlink()
    digests = set()
    for key in ("w_avg", *sorted(state)[:2]):  # one of each shard
        sharded(weights.parent, state | {key: state[key] + 1}, "safetensors")
        digests.add(load_pretrained(str(folder)).facts["sha256"])
    assert len(digests) == 3


def test_parts_that_are_missing_or_left_to_choose(tmp_path: Path, reference: Vectors) -> None:
    folder = write_conversion(tmp_path / "GAT", reference)
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    for variant in ("bf16", "fp16"):
        save_file(state, weights.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    load_pretrained(str(folder))  # takes the file without a variant
    weights.unlink()
    refused(folder, "generator: holds the variants bf16, fp16: keep only one")
    for file in weights.parent.glob("*.safetensors"):
        file.unlink()
    sharded(weights.parent, state, "safetensors")
    (weights.parent / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused(folder, r"00002-of-00002\.safetensors: not a whole safetensors file \(No such file")
    (weights.parent / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    refused(folder, r"index\.json: not an index of shards")


def test_shards_lie_in_their_folder(tmp_path: Path, reference: Vectors) -> None:
    """No file outside the folder is opened, whatever the index names."""
    folder = write_conversion(tmp_path / "GAT", reference)
    weights = folder / "generator" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "w.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(tmp_path / "w.safetensors"), "../../w.safetensors")}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
    refused(folder, r"generator/w\.safetensors: not a whole safetensors file \(No such file")


def test_a_generator_of_ours_alone_names_what_it_lacks(tmp_path: Path, reference: Vectors) -> None:
    save_file(load_generator(section(reference, "generator.")).float().state_dict(), tmp_path / WEIGHTS)
    refused(tmp_path, r"is one part of a pipeline, without model_index\.json and the autoencoder: give the folder of")


def test_a_hub_name_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(monkeypatch, tmp_path)
    refused("BiliSakura/GAT-diffusers/GAT-XL-2-256", r"not to be had from the hub \(.*fetch it elsewhere")


@pytest.mark.parametrize("where", ["runs/misspelt", "./runs/misspelt", "../nothing", "/nothing/here"])
def test_a_misspelt_run_is_not_asked_of_the_hub(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(where, f"^checkpoint={where}: no such file or folder: give a run's folder")


def test_a_hub_name_takes_the_subfolders_generator_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Vectors
) -> None:
    write_conversion(tmp_path / "GAT-XL-2-256", reference)
    asked: list[Any] = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = load_pretrained("BiliSakura/GAT-diffusers/GAT-XL-2-256")
    assert (found.kind, found.place) == ("conversion", Path())  # not the hub's cache
    with pytest.raises(UserError, match="not to be had|holds neither"):
        load_pretrained("me/gat-v1.0")  # a dot is no suffix
    assert asked[:1] == [
        (
            "BiliSakura/GAT-diffusers",
            ["GAT-XL-2-256/model_index.json", "GAT-XL-2-256/generator/*", "GAT-XL-2-256/vae/*"],
        )
    ]
