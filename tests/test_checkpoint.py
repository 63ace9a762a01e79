"""Checkpoints restore every tensor, read without our code, and are told apart when damaged or foreign."""

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file, save_file

from gat.checkpoint_file import DamagedCheckpointError
from gat.errors import UserError
from gat.objective.augment import AugmentRates
from gat.training.checkpoint import load_checkpoint, on_host, save_checkpoint, state_tensors
from gat.training.noise import draw_noise
from gat.training.step import Batch, Networks, training_step
from tests.test_step import SETTINGS, make_networks


def trained(steps: int) -> Networks:
    networks = make_networks()
    advance(networks, range(steps))
    return networks


def advance(networks: Networks, steps: range) -> None:
    for step in steps:
        noise = draw_noise(0, step, 6, networks.generator.dims, AugmentRates(), torch.device("cpu"))
        training_step(networks, Batch(noise.posterior, torch.arange(6) % 3, None), noise, SETTINGS)


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, first, second = trained(4), trained(2), make_networks()
    save_checkpoint(tmp_path / "c", on_host(first), 2, "me")
    assert load_checkpoint(tmp_path / "c", second, "me") == 2
    advance(second, range(2, 4))
    expected = state_tensors(whole)
    restored = state_tensors(second)
    assert expected.keys() == restored.keys()
    assert all(torch.equal(expected[key], restored[key]) for key in expected)


def test_readable_without_our_code(tmp_path: Path) -> None:
    networks = trained(1)
    save_checkpoint(tmp_path / "c", on_host(networks), 1, "me")
    tensors = load_file(tmp_path / "c")
    assert torch.equal(tensors["ema.blocks.0.attn.qkv.weight"], networks.ema.state_dict()["blocks.0.attn.qkv.weight"])
    assert torch.equal(tensors["generator.mean_w"], networks.generator.mean_w)
    assert any(key.startswith("discriminator_optimizer.0.") for key in tensors)


def test_a_good_one_of_another_configuration_is_refused(tmp_path: Path) -> None:
    networks = make_networks()
    save_checkpoint(tmp_path / "c", on_host(networks), 0, "me")
    with pytest.raises(UserError, match="checkpoint of another configuration") as refused:
        load_checkpoint(tmp_path / "c", networks, "you")
    assert not isinstance(refused.value, DamagedCheckpointError)


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "not ours", "no safetensors", "empty"])
def test_damaged_and_foreign_files_are_told_apart_and_change_nothing(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "c"
    save_checkpoint(file, on_host(trained(1)), 1, "me")
    data = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(data[:-100])
    elif damage == "flipped bit":
        data[-1000] ^= 1
        file.write_bytes(data)
    elif damage == "not ours":
        save_file({"weight": torch.zeros(3)}, file)
    else:
        file.write_bytes(b"" if damage == "empty" else b"x" * 5000)
    networks, expected = make_networks(), state_tensors(make_networks())
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(file, networks, "me")
    assert all(torch.equal(value, expected[key]) for key, value in state_tensors(networks).items())


def with_header(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a safetensors file, and leave its tensors' bytes as they are."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


WEIGHT = "generator.blocks.0.attn.qkv.weight"
HEADERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "dtype": lambda header: header[WEIGHT].update(dtype="I32"),
    "shape": lambda header: header[WEIGHT].update(shape=header[WEIGHT]["shape"][::-1]),
    "dimensions": lambda header: header["__metadata__"].update(generator='{"depth": 1}'),
    "further metadata": lambda header: header["__metadata__"].update(note="x"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_changed_header_is_found(tmp_path: Path, what: str) -> None:
    save_checkpoint(tmp_path / "c", on_host(trained(1)), 1, "me")
    with_header(tmp_path / "c", lambda header: header.update(header))
    assert load_checkpoint(tmp_path / "c", make_networks(), "me") == 1  # another header with the same content
    with_header(tmp_path / "c", HEADERS[what])
    with pytest.raises(DamagedCheckpointError, match="its content does not match its checksum"):
        load_checkpoint(tmp_path / "c", make_networks(), "me")


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Earlier checksums cover step, identity, and every key with its bytes."""
    save_checkpoint(tmp_path / "c", on_host(trained(1)), 1, "me")
    digest = hashlib.sha256(b"1 me")
    for key, value in sorted(load_file(tmp_path / "c").items()):
        digest.update(key.encode() + value.numpy().tobytes())
    with_header(tmp_path / "c", lambda header: header["__metadata__"].update(checksum=digest.hexdigest()))
    assert load_checkpoint(tmp_path / "c", make_networks(), "me") == 1


def test_a_file_that_is_not_given_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system in trouble: the run must not begin anew, or go on from an older one."""

    def troubled(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("gat.checkpoint_file.safe_open", troubled)
    with pytest.raises(UserError, match="c: cannot be read .*Stale file handle.*: start again when it can") as refused:
        load_checkpoint(tmp_path / "c", make_networks(), "me")
    assert not isinstance(refused.value, DamagedCheckpointError)


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", on_host(make_networks()), 0, "me")
    assert [file.name for file in tmp_path.iterdir()] == ["c"]
