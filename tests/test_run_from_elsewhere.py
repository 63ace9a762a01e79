"""A run's folder from someone else: its config.yaml can neither have files opened nor read this machine's environment."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from analysis.opening import opened, settings_of
from experiments.checkpoints import DECODERS, asked_for, prepared_of
from experiments.evaluating import evaluate
from experiments.study.jobs import read_config
from gat.config import Config
from gat.errors import UserError
from gat.pretrained import load_pretrained
from tests.conftest import composed
from tests.data_helpers import CPU
from tests.test_pretrained import Evil

Theirs = Callable[..., Path]


@pytest.fixture
def theirs(trained: Path, tmp_path: Path) -> Theirs:
    """Return a function that copies the trained run with other values in its config.yaml."""

    def make(**values: object) -> Path:
        folder = tmp_path / "theirs"
        shutil.copytree(trained / "run", folder)
        config = OmegaConf.load(folder / "config.yaml")
        for name, value in values.items():
            OmegaConf.update(config, name, value)
        OmegaConf.save(config, folder / "config.yaml")
        return folder

    return make


def asked(run: Path, *typed: str, opens: tuple[str, ...] | None = None) -> Config:
    overrides = [f"checkpoint={run}", *typed]
    given = () if opens is None else (opens,)
    return asked_for(composed(*overrides), overrides, *given)[1]


def test_weights_that_a_run_names_are_not_opened(theirs: Theirs, trained: Path, tmp_path: Path) -> None:
    torch.save({"weight": Evil(tmp_path / "run")}, tmp_path / "evil.pth")
    named = {"evaluation.extractor": "inception-v3-compat", "evaluation.extractor_weights": f"{tmp_path}/evil.pth"}
    run = theirs(**named)
    overrides = [f"run={run}", f"paths.prepared={trained}/prepared", f"out={tmp_path}/out"]
    with pytest.raises(UserError, match=r"config\.yaml: names evaluation\.extractor_weights='.*evil\.pth'") as refused:
        evaluate(composed(*overrides), overrides)
    assert "add evaluation.extractor_weights=... to the command to open it" in str(refused.value)
    assert not (tmp_path / "run").exists()


NAMED = [
    ("evaluation.reference", "/data/reference.npz"),
    ("evaluation.decoder", "somebody/vae"),
    ("evaluation.extractor", "dinov2-vit-l-14"),
    ("evaluation.also_extractors", ["classifier", "clip-vit-b-32"]),
    ("autoencoder.path", "/data/vae"),
    ("paths.prepared", "/data/prepared"),
]


@pytest.mark.parametrize(("field", "value"), NAMED)
def test_what_a_run_names_counts_only_if_it_is_typed(theirs: Theirs, field: str, value: str | list[str]) -> None:
    run = theirs(**{field: value})
    unknown = value if isinstance(value, str) else value[1]
    with pytest.raises(UserError, match=rf"config\.yaml: names {re.escape(field)}='{unknown}'"):
        asked(run)
    text = value if isinstance(value, str) else f"[{','.join(value)}]"
    assert OmegaConf.select(OmegaConf.structured(asked(run, f"{field}={text}")), field) == value


def test_what_our_own_settings_name_too_need_not_be_typed(theirs: Theirs) -> None:
    """Extractors of the protocols and the decoder of ``evaluation=paper`` are opened without being typed."""
    paper = {"evaluation.decoder": "stabilityai/sd-vae-ft-ema", "evaluation.extractor": "inception-v3-compat"}
    rules = asked(theirs(**paper, **{"evaluation.also_extractors": ["classifier"]})).evaluation
    assert (rules.decoder, rules.extractor) == tuple(paper.values())


def test_a_command_is_not_refused_for_what_it_does_not_open(theirs: Theirs) -> None:
    run = theirs(**{"evaluation.reference": "/data/reference.npz"})
    assert asked(run, opens=DECODERS).evaluation.reference == "/data/reference.npz"


def test_aliases_are_not_unfolded(theirs: Theirs) -> None:
    """Each of 30 levels holds the one before twice: a billion values."""
    run = theirs()
    levels = [f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]" for i in range(1, 30)]
    text = "\n".join(["l0: &l0 [x]", *levels, (run / "config.yaml").read_text(encoding="utf-8")])
    (run / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: holds a YAML alias"):
        asked(run)


@pytest.mark.parametrize("given", ["/data", "../../../data", "/tmp/../data"])
def test_prepared_data_far_from_the_run_must_be_typed(tmp_path: Path, given: str) -> None:
    with pytest.raises(UserError, match="names paths.prepared="):
        prepared_of(Path(given), tmp_path / "runs" / "one" / "config.yaml")


def test_prepared_data_near_the_run_are_found(tmp_path: Path) -> None:
    (tmp_path / "prepared").mkdir()
    file = tmp_path / "runs" / "one" / "config.yaml"
    file.parent.mkdir(parents=True)
    assert prepared_of(Path("../prepared"), file) == tmp_path / "runs" / "../prepared"
    assert prepared_of(tmp_path / "prepared", file) == tmp_path / "prepared"


def test_a_manifest_names_no_autoencoder_of_its_own(theirs: Theirs, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "prepared", tmp_path / "prepared")
    (folder,) = (file.parent for file in (tmp_path / "prepared").glob("*/manifest.json"))
    (folder / "autoencoder").rename(tmp_path / "vae")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"autoencoder": "tiny"', f'"autoencoder": "{tmp_path}/vae"'))
    with pytest.raises(UserError, match=r"manifest\.json: names the autoencoder '.*vae', but the settings name 'tiny'"):
        opened(str(theirs()), CPU, {"paths.prepared": f"{tmp_path}/prepared"})


@pytest.mark.parametrize("field", ["data.source", "evaluation.decoder", "paths.prepared", "tracker.project"])
def test_nothing_of_the_environment_is_read(theirs: Theirs, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setenv("HF_TOKEN", "the-secret")
    run = theirs(**{field: "${oc.env:HF_TOKEN}"})
    readers: list[Callable[[], object]] = [
        lambda: asked(run),
        lambda: settings_of(load_pretrained(str(run))),
        lambda: read_config(run / "config.yaml"),
    ]
    for read in readers:
        with pytest.raises(UserError, match=re.escape("'${oc.env:HF_TOKEN}'")) as refused:
            read()
        assert "the-secret" not in str(refused.value)
