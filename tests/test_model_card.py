"""What goes to the hub: the model card, which says what its sources say and whose example runs; and the files."""

import json
import re
import shutil
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image

from gat.config import Config
from gat.errors import UserError
from gat.model_card import model_card, write_model_card
from gat.models import Generator
from gat.models.sizes import generator_dims
from gat.pipeline import GATPipeline, make_pipeline
from gat.rng import seeded_init
from gat.training.results import numbers_of
from tests.data_helpers import random_autoencoder, without_network
from tests.submissions import numbers_line

DEMO = Path(__file__).parents[1] / "results/demo/record.json"
PROTOCOL = {"name": "training", "id": "0123456789ab", "samples": 5000, "decoder": "own", "truncation": 0.0}
FACTS = {"checkpoint": "/home/me/step-8.safetensors", "kind": "run", "sha256": "ab" * 32, "weights": "ema", "step": 8}
RELEASED = {"checkpoint": "/home/me/ema.pt", "kind": "release", "sha256": "cd" * 32, "weights": "ema", "step": None}
FILES = {
    "model_index.json",
    "generator/config.json",
    "generator/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}


@pytest.fixture(scope="module")
def pipe() -> GATPipeline:
    with seeded_init(0):
        generator = Generator(generator_dims("mini", "S", patch=4, num_classes=3, latent_side=8))
    return make_pipeline(generator, random_autoencoder(), 0.05, ["crane", "crane", 'a "quoted" name, synonym'], 0.25)


@pytest.fixture
def record(default_config: Config) -> dict[str, Any]:
    """Of a run of eight steps."""
    config = asdict(default_config)
    config["data"]["root"] = config["autoencoder"]["path"] = "/home/me/images"
    return {
        "status": "finished",
        "diverged": None,
        "identity": "3d6de6f6d16f",
        "ended_at": "2026-01-02T03:04:05+00:00",
        "config": config,
        "git": {"commit": "43a55e7", "dirty": False},
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "gpus": ["H100", "H100"], "device": "cuda:0"},
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
        "final_metrics": {"step": 8, "d_loss": 0.5}
        | numbers_line({"FID-5K": 22.125, "precision-5K": None}, str(PROTOCOL["id"])),
        "protocols": {PROTOCOL["id"]: PROTOCOL},
    }


def rows(card: str) -> dict[str, list[str]]:
    """Rows of all tables by their first cells."""
    lines = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in card.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in lines}


# what it says


def test_metadata(pipe: GATPipeline) -> None:
    _, metadata, body = model_card(pipe, "me/gat", RELEASED, license="mit", title="My GAT").split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "license": "mit",
        "library_name": "diffusers",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gat", "gan", "image-generation", "class-conditional"],
    }
    assert body.startswith("\n# My GAT\n")


def test_no_licence_is_stated_where_none_is_known(pipe: GATPipeline) -> None:
    card = model_card(pipe, "me/gat", RELEASED)
    assert "license" not in yaml.safe_load(card.split("---\n")[1])
    assert "No licence is stated" in card
    assert "No licence is stated" not in model_card(pipe, "me/gat", RELEASED, license="mit")


def test_example_runs_as_written(pipe: GATPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipe.save_pretrained("a pipeline")
    (example,) = re.findall(r"```python\n(.*?)```", model_card(pipe, "a pipeline", FACTS), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert r'class_labels=["a \"quoted\" name"], truncation=0.25' in example  # the first name that one class alone has
    expected = pipe([2], truncation=0.25, generator=torch.Generator().manual_seed(0)).images[0]
    assert np.array_equal(np.asarray(Image.open("sample.png")), np.asarray(expected))


def test_what_it_is(pipe: GATPipeline, record: dict[str, Any]) -> None:
    card = model_card(pipe, "me/gat", FACTS, record)
    count = sum(p.numel() for p in pipe.generator.parameters())
    assert "# GAT mini-S/2 on digits" in card
    assert "Images of 32 x 32 pixels in 3 classes" in card
    assert f"{count:,} parameters: 8 blocks of width 64, 4 heads, patches of 4 x 4 on latents of 8 x 8 x 4" in card


def test_settings(pipe: GATPipeline, record: dict[str, Any]) -> None:
    table = rows(model_card(pipe, "me/gat", FACTS, record))
    assert table["`data.source`"] == ['"digits"']
    assert table["`model.patch`"] == ["2"]
    assert table["`training.batch_size`"] == ["64"]
    assert table["`objective.mng_nested`"] == ["true"]
    assert table["`objective.augment.translation`"] == ["1.0"]
    switches = {key for key in record["config"]["objective"] if key != "augment"}
    assert {f"`objective.{switch}`" for switch in switches} <= table.keys()


def test_provenance(pipe: GATPipeline, record: dict[str, Any]) -> None:
    table = rows(model_card(pipe, "me/gat", FACTS, record))
    assert table["weights"] == ["`ema` of `step-8.safetensors`"]
    assert table["SHA-256"] == [f"`{'ab' * 32}`"]
    assert table["code"] == ["commit `43a55e7`"]
    assert table["hardware: gpus"] == ["H100, H100"]
    assert table["version: torch"] == ["2.15.0"]
    record["git"] = {"commit": "43a55e7", "dirty": True}
    table = rows(model_card(pipe, "me/gat", FACTS, record))
    assert table["code"] == ["commit `43a55e7`, **with changes that were not committed**"]
    record["git"] = {"commit": None, "dirty": None}
    assert rows(model_card(pipe, "me/gat", FACTS, record))["code"] == ["commit unknown"]


def test_local_paths_stay_out(pipe: GATPipeline, record: dict[str, Any]) -> None:
    assert "/home/me" not in model_card(pipe, "me/gat", FACTS, record)


@pytest.mark.parametrize("given", ["../weights/vae", "~/vae", "./vae", "a/b/vae", "/home/me/vae"])
def test_of_a_local_autoencoder_the_name_alone_is_stated(pipe: GATPipeline, record: dict[str, Any], given: str) -> None:
    record["config"]["autoencoder"]["path"] = given
    assert rows(model_card(pipe, "me/gat", FACTS, record))["`autoencoder.path`"] == ['"vae"']
    record["config"]["autoencoder"]["path"] = "stabilityai/vae"
    assert rows(model_card(pipe, "me/gat", FACTS, record))["`autoencoder.path`"] == ['"stabilityai/vae"']


# numbers


def test_numbers_with_their_protocols(pipe: GATPipeline, record: dict[str, Any]) -> None:
    card = model_card(pipe, "me/gat", FACTS, record)
    assert rows(card)["`FID-5K`"] == ["22.125", "training (0123456789ab)"]
    assert rows(card)["`precision-5K`"] == ["not finite", "training (0123456789ab)"]
    assert "- **training (0123456789ab)**: samples 5000, decoder own, truncation 0.0\n" in card
    assert "not recorded" not in card
    assert "d_loss" not in card


def test_numbers_of_an_unknown_protocol(pipe: GATPipeline, record: dict[str, Any]) -> None:
    del record["protocols"]
    card = model_card(pipe, "me/gat", FACTS, record)
    assert rows(card)["`FID-5K`"] == ["22.125", "not recorded"]
    assert "- **not recorded**: compare these numbers with no others\n" in card


def test_numbers_of_other_weights_are_left_out(pipe: GATPipeline, record: dict[str, Any]) -> None:
    card = model_card(pipe, "me/gat", FACTS | {"step": 4}, record)
    assert "None of these weights: they are of step 4, the run's final numbers of step 8." in card
    assert "22.125" not in card
    assert "4 steps, 256 images seen." in card


def test_run_without_numbers(pipe: GATPipeline, record: dict[str, Any]) -> None:
    record["final_metrics"] = {"step": 8}
    assert "## Numbers\n\nNone were measured.\n" in model_card(pipe, "me/gat", FACTS, record)


def test_record_of_the_demo(pipe: GATPipeline) -> None:
    record = json.loads(DEMO.read_text())
    final = record["final_metrics"]
    table = rows(model_card(pipe, "me/gat", FACTS | {"step": final["step"]}, record))
    measured = numbers_of(final)
    assert measured
    assert [table[f"`{name}`"][0] for name in measured] == [f"{one['value']:.5g}" for one in measured.values()]


# limits


def test_divergence_is_told(pipe: GATPipeline, record: dict[str, Any]) -> None:
    record |= {"status": "diverged", "diverged": {"step": 6, "reason": "logit_gap beyond 50"}}
    card = model_card(pipe, "me/gat", FACTS | {"step": 4}, record)
    assert "**The run diverged at step 6 (logit_gap beyond 50); these weights are from before.**" in card


def test_small_scale_is_told(pipe: GATPipeline, record: dict[str, Any]) -> None:
    card = model_card(pipe, "me/gat", FACTS, record)
    assert "Trained on `digits`: 512 images seen. The paper's models see 51 to 77 million, of ImageNet's 1,000" in card
    assert "This is not that model" in card


def test_released_weights(pipe: GATPipeline) -> None:
    card = model_card(pipe, "me/gat", RELEASED)
    assert "# GAT generator\n" in card
    assert "the paper's authors (their release)" in card
    assert "There is no record of how these weights were trained." in card
    assert rows(card)["weights"] == ["`ema` of `ema.pt`"]
    assert rows(card)["step"] == ["unknown"]


# files


def test_card_is_written_over_an_older_one(tmp_path: Path) -> None:
    for text in ("# A rather long card\n", "# Größe\n"):
        write_model_card(tmp_path, text)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "# Größe\n"
    assert files_of(tmp_path) == {"README.md"}
    with pytest.raises(UserError, match=r"^model card in .*/nowhere: cannot be written \(No such file or directory\)"):
        write_model_card(tmp_path / "nowhere", "# Card\n")


class Hub:
    """Stands in for the hub's client: what has been uploaded can be downloaded."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repo, self.cache, self.made = place / "repo", place / "cache", list[str]()
        for name in ("create_repo", "upload_folder"):
            monkeypatch.setattr(f"diffusers.utils.hub_utils.{name}", getattr(self, name))
        monkeypatch.setattr("diffusers.utils.hub_utils.ModelCard.load", self.no_card)
        self.attempts = without_network(monkeypatch, place)
        for name in ("model_info", "hf_hub_download", "snapshot_download"):
            monkeypatch.setattr(f"diffusers.pipelines.pipeline_utils.{name}", getattr(self, name))

    def create_repo(self, repo_id: str, **_: Any) -> SimpleNamespace:
        self.made.append(repo_id)
        return SimpleNamespace(repo_id=repo_id)

    def no_card(self, *_: Any, **__: Any) -> None:
        raise EntryNotFoundError("no README.md yet")

    def upload_folder(self, *, folder_path: str, **_: Any) -> None:
        shutil.copytree(folder_path, self.repo)

    def model_info(self, *_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files_of(self.repo)])

    def hf_hub_download(self, _: str, filename: str, **__: Any) -> str:
        (self.cache / filename).parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(self.repo / filename, self.cache / filename))

    def snapshot_download(self, _: str, *, allow_patterns: list[str], ignore_patterns: list[str], **__: Any) -> str:
        for name in files_of(self.repo):
            allowed, ignored = (any(fnmatch(name, p) for p in given) for given in (allow_patterns, ignore_patterns))
            if allowed and not ignored:
                self.hf_hub_download("", name)
        return str(self.cache)


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("loader", [GATPipeline, diffusers.DiffusionPipeline])
def test_to_the_hub_and_back(pipe: GATPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Any) -> None:
    hub = Hub(tmp_path, monkeypatch)
    pipe.push_to_hub("me/gat")
    assert hub.made == ["me/gat"]
    assert files_of(hub.repo) == FILES | {"README.md"}  # no pickles
    loaded = loader.from_pretrained("me/gat")
    assert type(loaded) is GATPipeline
    assert files_of(hub.cache) == FILES
    images = [p([0, 2], generator=torch.Generator().manual_seed(0), output_type="pt").images for p in (loaded, pipe)]
    assert torch.equal(*images)
    assert hub.attempts == []
