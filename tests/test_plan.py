"""The plan of a set: one list of images and one autoencoder for all processes, found again by each."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
import torch
from diffusers import AutoencoderKL

from gat.config import AutoencoderConfig, DataConfig
from gat.data import plan as module
from gat.data.autoencoder import train_tiny_autoencoder, weights_digest
from gat.data.folder import FolderSource
from gat.data.identity import identity, prepared_folder
from gat.data.plan import Plan, factor_of, plan, read_plan, set_lock
from gat.errors import UserError
from tests.data_helpers import CPU, autoencoder_config, random_autoencoder
from tests.preparing import CLASSES, COUNT, IMAGES, Case, assert_nothing_left, make_case, names_in

TINY = autoencoder_config()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


def planned(case: Case, autoencoder: AutoencoderConfig | None = None, **changes: Any) -> Plan:
    return plan(replace(case.data, **changes), autoencoder or case.autoencoder, case.cache, CPU)


def digits(case: Case) -> DataConfig:
    return replace(case.data, source="digits", root=None, resolution_px=8)


def forbid(patch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(*_: object) -> NoReturn:
        pytest.fail(f"{name} was called")

    patch.setattr(module, name, refuse)


# what is written


def test_plan_of_a_folder(case: Case) -> None:
    (case.root / "cat" / "notes.txt").write_text("no image")
    made = planned(case)
    assert made.folder == case.folder
    assert names_in(case.folder) == {"plan.json", "files.feather"}
    assert json.loads((case.folder / "plan.json").read_text()) == {
        "source": f"image_folder:{case.root.resolve()}",
        "count": 12,
        "class_names": list(CLASSES),
        "autoencoder_sha256": weights_digest(random_autoencoder()),
        "settings": identity(case.data, case.autoencoder),
    }
    table = pa.feather.read_table(case.folder / "files.feather")
    assert table.column("file").to_pylist() == [f"{name}/{i}.png" for name in CLASSES for i in range(4)]
    assert table.column("label").to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    assert made.source.ignored == 1
    assert made.moments_shape == (8, 8, 8)
    assert weights_digest(made.model) == weights_digest(random_autoencoder())


def test_plan_of_an_array_has_no_files(case: Case) -> None:
    made = plan(digits(case), case.autoencoder, case.cache, CPU)
    assert names_in(made.folder) == {"plan.json"}
    assert read_plan(made.folder) == {
        "source": "digits",
        "count": 1797,
        "class_names": list("0123456789"),
        "autoencoder_sha256": weights_digest(random_autoencoder()),
    }
    assert made.moments_shape == (8, 2, 2)


@pytest.mark.parametrize(("levels", "factor"), [(1, 1), (3, 4), (4, 8)])
def test_factor_of_an_autoencoder(levels: int, factor: int) -> None:
    model = random_autoencoder(levels)
    assert factor_of(model) == factor
    assert model.encode(torch.zeros(1, 3, 16, 16)).latent_dist.mean.shape[-1] == 16 // factor


# found again


def test_list_is_found_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was, whatever has become of the folder."""
    first = planned(case)
    forbid(monkeypatch, "open_source")
    (case.root / "ant" / "more.png").write_bytes(b"not there when the list was made")
    (case.root / "bee" / "0.png").unlink()
    second = planned(case)
    assert isinstance(second.source, FolderSource)
    assert isinstance(first.source, FolderSource)
    assert list(second.source.files) == list(first.source.files)
    assert second.source.labels.tolist() == first.source.labels.tolist()
    assert len(second.source) == COUNT
    assert np.array_equal(np.asarray(second.source.image(11)), IMAGES[11])


def test_list_of_another_size_than_planned(case: Case) -> None:
    """Files of a source that has no frozen list have changed."""
    data = digits(case)
    folder = plan(data, case.autoencoder, case.cache, CPU).folder
    values = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(values | {"count": 1796, "class_names": ["0", "1"]}))
    message = r"planned from 1796 images in 2 classes of digits, but there are 1797 in 10 now: delete .* to prepare it"
    with pytest.raises(UserError, match=message):
        plan(data, case.autoencoder, case.cache, CPU)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"source": "digits"}'])
def test_damaged_plan(case: Case, content: str) -> None:
    file = planned(case).folder / "plan.json"
    file.write_text(content)
    with pytest.raises(UserError, match=rf"plan\.json: not a plan \(.*\): delete {case.folder} to prepare it again"):
        planned(case)


def test_damaged_list(case: Case) -> None:
    file = planned(case).folder / "files.feather"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=rf"files\.feather: no list of images \(.*\): delete {case.folder} to prepare"):
        planned(case)


def test_interrupted_listing_leaves_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            planned(case)
    assert_nothing_left(case.cache)
    assert len(planned(case).source) == COUNT


# the tiny autoencoder


def test_tiny_autoencoder_learns_from_the_crops(case: Case) -> None:
    made = planned(case, TINY)
    expected = train_tiny_autoencoder(IMAGES, TINY, module.AUTOENCODER_SEED, CPU)
    assert weights_digest(made.model) == weights_digest(expected)
    assert made.model.config["scaling_factor"] == pytest.approx(expected.config["scaling_factor"], rel=1e-12)
    assert names_in(made.folder) == {"plan.json", "files.feather", "autoencoder"}
    assert made.moments_shape == (8, 8, 8)


def test_tiny_autoencoder_is_trained_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned(case, TINY)
    forbid(monkeypatch, "train_tiny_autoencoder")
    second = planned(case, TINY)
    assert weights_digest(second.model) == weights_digest(first.model)
    assert second.model.config["scaling_factor"] == first.model.config["scaling_factor"]


def test_next_image_stands_in_for_a_corrupt_one(case: Case) -> None:
    """In the training of the autoencoder, where corrupt images are skipped."""
    case.corrupt("bee/1.png")
    with pytest.raises(
        UserError, match=r"^1 of 12 images are corrupt, first: .*bee/1\.png.* set data\.on_corrupt=skip$"
    ):
        planned(case, TINY)
    stand_in = IMAGES.copy()
    stand_in[5] = IMAGES[6]
    expected = train_tiny_autoencoder(stand_in, TINY, module.AUTOENCODER_SEED, CPU)
    assert weights_digest(planned(case, TINY, on_corrupt="skip").model) == weights_digest(expected)


def test_interrupted_training_begins_anew(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while it is written, and killed: what is left is no autoencoder, and the next call is not held up."""

    def interrupt(model: AutoencoderKL, folder: Path) -> NoReturn:
        folder.mkdir()
        (folder / "half.safetensors").write_text("not all of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_autoencoder", interrupt)
        with pytest.raises(KeyboardInterrupt):
            planned(case, TINY)
    folder = prepared_folder(case.data, TINY, case.cache)
    assert names_in(folder) == {"plan.json", "files.feather", ".autoencoder"}
    made = planned(case, TINY)
    assert names_in(folder) == {"plan.json", "files.feather", "autoencoder"}
    assert names_in(folder / "autoencoder") == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert not any(p.requires_grad for p in made.model.parameters())


def test_autoencoder_that_cannot_be_read_costs_no_part(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is damaged, or cannot be read once, the finished parts stay, and the message gives the remedy."""
    folder = planned(case, TINY).folder
    (folder / "part-00000.arrow").write_bytes(b"days of work")
    names, weights = names_in(folder), folder / "autoencoder" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    message = rf"{folder}/autoencoder' cannot be loaded .* restore the file, or delete {folder} to prepare it again$"
    with pytest.raises(UserError, match=message):
        planned(case, TINY)
    assert names_in(folder) == names
    weights.write_bytes(whole)

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderKL, "from_pretrained", fail)
        with pytest.raises(UserError, match=r"Input/output error\): start the same command again"):
            planned(case, TINY)
    assert names_in(folder) == names
    assert planned(case, TINY).folder == folder


def test_training_that_fails_removes_only_a_plan_of_this_call(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan left by an interrupted call stays, as it may be another process's."""
    case.corrupt("bee/1.png")
    with pytest.raises(UserError, match="1 of 12 images are corrupt"):
        planned(case, TINY)
    assert_nothing_left(case.cache)
    case.mend()
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_autoencoder", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            planned(case, TINY)
    case.corrupt("bee/1.png")
    folder = prepared_folder(case.data, TINY, case.cache)
    with pytest.raises(UserError, match=rf"corrupt.* \(if you then add or remove files, also delete {folder}\)$"):
        planned(case, TINY)
    assert names_in(folder) == {"plan.json", "files.feather"}
    case.mend()
    assert planned(case, TINY).folder == folder


def test_one_plans_the_others_wait(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    together = threading.Barrier(3)

    def counted(*arguments: Any) -> AutoencoderKL:
        trained.append(threading.get_ident())
        return train_tiny_autoencoder(*arguments)

    def ask() -> Plan:
        together.wait(30)
        return planned(case, TINY)

    monkeypatch.setattr(module, "train_tiny_autoencoder", counted)
    with ThreadPoolExecutor(3) as pool:
        plans = [future.result(30) for future in [pool.submit(ask) for _ in range(3)]]
    assert len(trained) == 1
    assert len({weights_digest(made.model) for made in plans}) == 1
    folder = plans[0].folder
    assert names_in(case.cache) == {folder.name, set_lock(folder).name}


# mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "vq"}, r"autoencoder\.kind='vq' is unknown: choose one of tiny, pretrained"),
        ({"encode_precision": "fp16"}, r"autoencoder\.encode_precision='fp16' is unknown: choose one of fp32, bf16"),
        ({"path": None}, r"autoencoder\.path is not set: give a hub name such as"),
        ({"path": "/nowhere/at/all"}, r"/nowhere/at/all' cannot be loaded"),
        ({"kind": "tiny", "train_images": 0}, r"autoencoder\.train_images=0 and autoencoder\.lr=.* cannot train the"),
        ({"kind": "tiny", "lr": 0.0}, r"autoencoder\.lr=0\.0 cannot train the tiny autoencoder: set both above 0"),
        ({"kind": "tiny", "channels": [8, 12, 8]}, r"autoencoder\.channels=.* must be multiples of 8"),
    ],
)
def test_mistakes_in_the_autoencoder(case: Case, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned(case, replace(case.autoencoder, **changes))


@pytest.mark.parametrize("changes", [{"kind": "vq"}, {"path": None}, {"path": "/nowhere/at/all"}])
def test_autoencoder_is_missed_before_the_images_are_listed(
    case: Case, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    forbid(monkeypatch, "open_source")
    with pytest.raises(UserError):
        planned(case, replace(case.autoencoder, **changes))
    assert_nothing_left(case.cache)


@pytest.mark.parametrize("kind", ["tiny", "pretrained"])
@pytest.mark.parametrize("side_px", [30, 33])
def test_resolution_must_fit_the_autoencoder(case: Case, kind: str, side_px: int) -> None:
    message = rf"data\.resolution_px={side_px} is not divisible by 4, the autoencoder's factor: choose a multiple"
    with pytest.raises(UserError, match=message):
        planned(case, replace(case.autoencoder, kind=kind), resolution_px=side_px)
    assert_nothing_left(case.cache)


@pytest.mark.parametrize("found", ["folder", "file"])
def test_something_else_in_the_way(case: Case, found: str) -> None:
    case.cache.mkdir()
    case.folder.mkdir() if found == "folder" else case.folder.write_text("mine")
    with pytest.raises(UserError, match=rf"{case.folder} is in the way and is no prepared set: remove it"):
        planned(case)
    assert case.folder.is_dir() == (found == "folder")


def test_what_a_killed_planning_left_is_removed(case: Case) -> None:
    case.cache.mkdir(exist_ok=True)
    left = case.cache / f".{case.folder.name}.planning"
    left.mkdir()
    (left / "files.feather").write_bytes(b"half a list")
    planned(case)
    assert names_in(case.cache) == {case.folder.name, set_lock(case.folder).name}


def test_what_a_user_keeps_beside_the_set_is_left_alone(case: Case) -> None:
    """A user's backup of the set does not disturb planning, and stays."""
    backup, notes = (case.cache / f".{case.folder.name}.{end}" for end in ("20250101", "markdown"))
    backup.mkdir(parents=True)
    (backup / "manifest.json").write_text("all of it")
    notes.write_text("mine")
    planned(case)
    assert (names_in(backup), notes.read_text()) == ({"manifest.json"}, "mine")


def test_autoencoder_with_other_weights_than_before(case: Case) -> None:
    """Parts made by two autoencoders would be one set."""
    planned(case)
    other = random_autoencoder()
    with torch.no_grad():
        other.encoder.conv_in.weight.mul_(2)
    other.save_pretrained(case.place / "vae")
    with pytest.raises(
        UserError, match=r"plan\.json: the autoencoder has other weights now than when this preparation began"
    ):
        planned(case)
