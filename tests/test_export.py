"""experiments/export.py: a pipeline that draws what the run's generator draws, with a card that has the run's numbers."""

import json
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments import exporting
from gat.data.autoencoder import decode, save_autoencoder
from gat.data.images import to_uint8
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.evaluation.subject import open_subject
from gat.pipeline import GATPipeline
from gat.pretrained import load_pretrained
from gat.training.results import numbers_of
from tests.conftest import compose_config, composed
from tests.data_helpers import random_autoencoder, without_network
from tests.released import training_checkpoint, write_checkpoint


def export(*overrides: str) -> str:
    return exporting.export(composed(*overrides), list(overrides))


def of_run(trained: Path, *overrides: str) -> str:
    return export(f"run={trained}/run", f"paths.prepared={trained}/prepared", *overrides)


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "pipeline"
    told = of_run(trained, f"out={folder}")
    assert told.startswith(f"{folder}: README.md, generator/config.json")
    return folder


def test_the_pipeline_draws_what_the_run_draws(trained: Path, exported: Path) -> None:
    pipe = GATPipeline.from_pretrained(exported)
    (manifest,) = (trained / "prepared").glob("*/manifest.json")
    data, generator = PreparedSet(manifest.parent), load_pretrained(str(trained / "run")).generator
    z = torch.randn(2, 64, generator=torch.Generator().manual_seed(5))
    stages = generator(z, torch.tensor([1, 0]), truncation=0.25)  # the run's own truncation is the pipeline's default
    expected = to_uint8(decode(data.autoencoder(), stages[-1], data.manifest.scale))
    images = pipe(class_labels=["pears", 0], generator=torch.Generator().manual_seed(5)).images
    assert np.array_equal(np.stack(images), expected.permute(0, 2, 3, 1).numpy())


def test_the_card_has_the_runs_numbers_with_their_protocol(trained: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    record = json.loads((trained / "run" / "record.json").read_text())
    name = "FD-EfficientNetLite0-8"
    assert f"`{name}`" in card
    assert numbers_of(record["final_metrics"])[name]["protocol"] in card
    assert "truncation 0.25" in card
    assert record["git"]["commit"] in card


def test_no_file_of_an_export_names_a_local_path(trained: Path, exported: Path, tmp_path: Path) -> None:
    """A pipeline that is loaded and saved again names no local path either."""
    GATPipeline.from_pretrained(exported).save_pretrained(tmp_path / "again")
    for folder in (exported, tmp_path / "again"):
        for file in (file for file in folder.rglob("*") if file.is_file()):
            found = [
                place for place in (trained, exported.parent, tmp_path) if str(place).encode() in file.read_bytes()
            ]
            assert not found, file
    assert 'from_pretrained("pipeline")' in (exported / "README.md").read_text()


def test_whoever_may_read_the_configurations_may_read_the_weights(trained: Path, exported: Path) -> None:
    usual = (trained / "run" / "config.yaml").stat().st_mode
    files = [*trained.rglob("*.safetensors"), *exported.rglob("*.safetensors")]
    kinds = {file.parent.name for file in files}
    assert {"checkpoints", "autoencoder", "generator", "vae"} <= kinds
    assert {file.stat().st_mode for file in files} == {usual}


def test_a_full_disk_is_told(trained: Path, tmp_path: Path) -> None:
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, room[1]))
    try:
        with pytest.raises(UserError, match="pipeline in .* cannot be written .*File too large"):
            of_run(trained, f"out={tmp_path}/pipeline")
        with pytest.raises(OSError, match="File too large"):
            save_autoencoder(random_autoencoder(), tmp_path / "autoencoder")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)


def test_an_exported_pipeline_is_a_checkpoint_again(trained: Path, exported: Path) -> None:
    again = load_pretrained(str(exported))
    own = load_pretrained(str(trained / "run")).generator.state_dict()
    assert again.kind == "pipeline"
    assert all(torch.equal(value, own[key]) for key, value in again.generator.state_dict().items())
    with pytest.raises(UserError, match="is where the weights come from: set another out"):
        export(f"checkpoint={exported}", f"out={exported}")


def test_released_weights(tmp_path: Path, reference: dict[str, Tensor]) -> None:
    file = write_checkpoint(tmp_path / "0150000.pt", training_checkpoint(reference))
    random_autoencoder().save_pretrained(tmp_path / "vae")
    export(f"checkpoint={file}", f"evaluation.decoder={tmp_path}/vae", f"out={tmp_path}/pipeline")
    pipe = GATPipeline.from_pretrained(tmp_path / "pipeline")
    stages = load_pretrained(str(file)).generator(reference["z"].float(), reference["labels"])
    ours = pipe.generator(reference["z"].float(), reference["labels"])
    torch.testing.assert_close(ours, stages, rtol=1e-4, atol=1e-5)
    assert "the paper's authors" in (tmp_path / "pipeline" / "README.md").read_text()


def test_upload(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("huggingface_hub.create_repo", lambda name, exist_ok: calls.append((name, exist_ok)))
    monkeypatch.setattr(
        "huggingface_hub.upload_folder",
        lambda repo_id, folder_path, allow_patterns: calls.append(
            (repo_id, sorted(f.name for p in allow_patterns for f in Path(folder_path).glob(p)))
        ),
    )
    told = of_run(trained, f"out={tmp_path}/p", "export.push_to=me/gat", "export.license=mit")
    assert told == f"{tmp_path}/p, https://huggingface.co/me/gat"
    weights = "diffusion_pytorch_model.safetensors"
    files = ["README.md", "config.json", "config.json", weights, weights, "model_index.json"]
    assert calls == [("me/gat", True), ("me/gat", files)]
    card = (tmp_path / "p" / "README.md").read_text()
    assert 'from_pretrained("me/gat")' in card
    assert "license: mit" in card


def test_a_hub_that_refuses_leaves_the_pipeline(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_network(monkeypatch, tmp_path / "hub")
    with pytest.raises(
        UserError, match=r"export\.push_to=me/gat: the hub refuses \(.*; the pipeline is whole in"
    ) as told:
        of_run(trained, f"out={tmp_path}/p", "export.push_to=me/gat")
    assert "\n" not in str(told.value)
    assert (tmp_path / "p" / "README.md").is_file()


def test_a_folder_of_other_things_is_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="holds other things than a pipeline: name a new folder"):
        of_run(trained, f"out={tmp_path}")
    assert (tmp_path / "README.md").read_text() == "mine"


def test_another_decoder_is_known_in_the_exported_pipeline(tmp_path: Path, reference: dict[str, Tensor]) -> None:
    """Numbers of a pipeline with a decoder of its exporter's choice are not those of the one trained with."""
    file = write_checkpoint(tmp_path / "0150000.pt", training_checkpoint(reference))
    random_autoencoder().save_pretrained(tmp_path / "vae")
    export(f"checkpoint={file}", f"evaluation.decoder={tmp_path}/vae", f"out={tmp_path}/pipeline")
    again = load_pretrained(str(tmp_path / "pipeline"))
    subject = open_subject(again, compose_config(), None, torch.device("cpu"))
    assert re.fullmatch("vae@[0-9a-f]{12}", subject.decoder_name)
    same = compose_config(f"evaluation.decoder={tmp_path}/vae")
    assert open_subject(again, same, None, torch.device("cpu")).decoder_name == subject.decoder_name
