"""State dicts: every loader reads the layouts that training code writes, and none runs the code of a pickle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from gat.errors import UserError
from gat.evaluation.extractors import make_extractor
from gat.pretrained import load_pretrained
from gat.release import load_discriminator, load_generator
from gat.state_dicts import read_weights, state_in
from gat.teachers import timm_model
from tests.conftest import section
from tests.data_helpers import CPU
from tests.released import write_checkpoint
from tests.test_pretrained import Evil
from tests.test_teachers import VIT, random_model

Vectors = dict[str, Tensor]
ONE = {"weight": torch.ones(1)}


def prefixed(state: Vectors, prefix: str) -> Vectors:
    return {prefix + key: value for key, value in state.items()}


def averaged(state: Vectors) -> Vectors:
    """Return ``state`` as torch.optim.swa_utils.AveragedModel saves it."""
    return {"n_averaged": torch.tensor(7)} | prefixed(state, "module.")


WRAPPED: dict[str, Callable[[Vectors], dict[str, Any]]] = {
    "EMA": lambda state: {"EMA": state},
    "ema_model": lambda state: {"ema_model": averaged(state), "state_dict": ONE},
    "model_ema": lambda state: {"model_ema": prefixed(state, "_orig_mod.module."), "model": ONE},
    "state_dict": lambda state: {"state_dict": prefixed(state, "module._orig_mod."), "epoch": 3},
    "ema": lambda state: {"ema": {}, "generator": prefixed(state, "module.module.")},
    "ema.module": lambda state: {"ema": {"decay": 0.999, "module": state}},
    "averaged": averaged,
    "blocks": lambda state: {key.replace("blocks.0.", "blocks.0._orig_mod."): value for key, value in state.items()},
    "parameters": lambda state: {key: nn.Parameter(value) for key, value in state.items()},
}
UNDER = {"ema": "generator", "averaged": "state dict", "blocks": "state dict", "parameters": "state dict"}


@pytest.mark.parametrize("layout", WRAPPED)
def test_a_generator_in_every_layout(tmp_path: Path, reference: Vectors, layout: str) -> None:
    state = section(reference, "generator.")
    expected = load_generator(state).float().state_dict()
    found = load_pretrained(str(write_checkpoint(tmp_path / "g.pt", WRAPPED[layout](state))))
    assert found.facts["weights"] == UNDER.get(layout, layout)
    assert all(torch.equal(value, expected[key]) for key, value in found.generator.state_dict().items())


@pytest.mark.parametrize(("steps", "expected"), [(None, None), ("150000", 150_000), ("the last", None)])
def test_steps_that_are_no_number(tmp_path: Path, reference: Vectors, steps: Any, expected: int | None) -> None:
    content = {"ema": section(reference, "generator."), "steps": steps}
    assert load_pretrained(str(write_checkpoint(tmp_path / "g.pt", content))).facts["step"] == expected


@pytest.mark.parametrize("content", [{"ema": {}, "G_avg": ONE, "steps": 4}, {"G_avg.weight": torch.ones(1), "b": ONE}])
def test_keys_that_are_there_are_listed_in_one_line(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"g\.pt: .*whose keys are|its keys are 'ema', 'G_avg', 'steps'") as refused:
        load_pretrained(str(write_checkpoint(tmp_path / "g.pt", content)))
    assert "G_avg" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("layout", ["averaged", "parameters", "blocks", "state_dict"])
def test_a_discriminator_in_every_layout(reference: Vectors, layout: str) -> None:
    state = section(reference, "discriminator.")
    expected = load_discriminator(state).state_dict()
    for given in (WRAPPED[layout](state), {"discriminator": WRAPPED[layout](state), "ema": ONE}):
        assert all(torch.equal(value, expected[key]) for key, value in load_discriminator(given).state_dict().items())


@pytest.mark.parametrize("layout", ["averaged", "parameters", "EMA", "model_ema"])
def test_teacher_weights_in_every_layout(tmp_path: Path, layout: str) -> None:
    model = random_model(VIT, img_size=64)
    content = WRAPPED[layout](model.state_dict())
    content.pop("model", None)
    found = timm_model(VIT, str(write_checkpoint(tmp_path / "vit.pth", content)), 64)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in found.state_dict().items())


def test_teacher_weights_without_the_models_keys(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "vit.pth", {"teacher": ONE, "student": ONE})
    with pytest.raises(UserError, match="teacher.weights=.*not the weights of test_vit .*'teacher', 'student'"):
        timm_model(VIT, str(file), 64)
    with pytest.raises(UserError, match="teacher.weights=.*not the weights of test_vit .*its keys are 'weight'"):
        timm_model(VIT, str(write_checkpoint(tmp_path / "vit.pth", ONE)), 64)


def test_what_is_found_by_hand() -> None:
    keys = ("ema", "model")
    assert state_in({"ema": {}, "model": {"module": averaged(ONE)}}, keys) == ("model.module", ONE)
    assert state_in(ONE | {"ema": None}, keys) == ("state dict", ONE)
    with pytest.raises(ValueError, match="'weight' is in it twice"):
        state_in(ONE | prefixed(ONE, "module."), keys)
    itself: dict[str, Any] = {}
    itself["ema"] = itself
    with pytest.raises(ValueError, match="no tensors under ema, model: its keys are 'ema'"):
        state_in(itself, keys)


# feature extractors


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Vectors]:
    """Collect the state dicts given to torch-fidelity's Inception, which is replaced, as it has 24 million weights."""
    seen: list[Vectors] = []
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda _, state: seen.append(state))
    return seen


@pytest.mark.parametrize("layout", ["averaged", "parameters", "state_dict"])
def test_extractor_weights_in_every_layout(tmp_path: Path, taken: list[Vectors], layout: str) -> None:
    make_extractor("inception-v3-compat", str(write_checkpoint(tmp_path / "i.pth", WRAPPED[layout](ONE))), CPU)
    assert [list(state) for state in taken] == [["weight"]]
    assert torch.equal(taken[0]["weight"], ONE["weight"])


def test_extractor_weights_without_the_models_keys(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'inception-v3-compat' cannot be loaded \(.*; the keys of .*i\.pth are 'weight'\)"
    ) as refused:
        make_extractor("inception-v3-compat", str(write_checkpoint(tmp_path / "i.pth", ONE)), CPU)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["inception-v3-compat", "vgg16"])
def test_no_code_in_extractor_weights_is_run(tmp_path: Path, name: str) -> None:
    file = write_checkpoint(tmp_path / "evil.pth", ONE | {"extra": Evil(tmp_path / "run")})
    with pytest.raises(
        UserError, match=rf"'{name}' cannot be loaded \(.*evil\.pth: refused, as it holds more than tensors"
    ):
        make_extractor(name, str(file), CPU)
    assert not (tmp_path / "run").exists()


def test_no_code_in_a_file_in_torchs_cache_is_run(
    tmp_path: Path, taken: list[Vectors], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    write_checkpoint(file, ONE | {"extra": Evil(tmp_path / "run")})
    with pytest.raises(UserError, match="'inception-v3-compat' cannot be loaded"):
        make_extractor("inception-v3-compat", None, CPU)
    assert not (tmp_path / "run").exists()
    write_checkpoint(file, ONE)
    make_extractor("inception-v3-compat", None, CPU)
    assert len(taken) == 1


@pytest.mark.parametrize("cached", [False, True])
def test_torchscript_that_is_not_openais_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """Loading a TorchScript file runs its ``__setstate__``."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    digest = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    file = tmp_path / "hub" / "checkpoints" / f"clip-vit-b-32-{digest}.pt"
    file.parent.mkdir(parents=True)
    torch.jit.script(nn.Linear(1, 1)).save(file)
    with pytest.raises(
        UserError, match=r"'clip-vit-b-32' cannot be loaded \(.*refused, as its SHA-256 is not that of OpenAI"
    ):
        make_extractor("clip-vit-b-32", None if cached else str(file), CPU)


def test_a_pickle_under_another_suffix_is_read_as_tensors_alone(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "weights", {"extra": Evil(tmp_path / "run")})
    with pytest.raises(UserError, match="weights: refused, as it holds more than tensors"):
        read_weights(file)
    assert not (tmp_path / "run").exists()
