"""A run that is killed 20 times, also in the middle of writing checkpoints, ends as one that was never interrupted."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.settings import CONF
from gat.errors import Interrupted
from gat.training import run as run_module
from tests.conftest import compose_config
from tests.small_run import SMALL, metrics_of, write_images
from tests.small_sweep import until

KILLS = 20
STEPS = 120


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images")
    lengths = (f"training.total_steps={STEPS}", "training.eval_steps=50", "training.checkpoint_steps=3")
    return [*SMALL, *lengths, f"data.root={tmp_path / 'images'}", f"paths.prepared={tmp_path / 'prepared'}"]


def assert_same_end(whole: Path, cut: Path) -> None:
    """Bit-identical weights and optimizers, metrics and samples."""
    name = f"checkpoints/step-{STEPS:08d}.safetensors"
    expected, ours = load_file(whole / name), load_file(cut / name)
    assert expected.keys() == ours.keys()
    assert all(torch.equal(expected[key], ours[key]) for key in expected)
    assert metrics_of(cut) == metrics_of(whole)
    assert [line["step"] for line in metrics_of(cut)] == list(range(1, STEPS + 1))
    assert (cut / "samples.png").read_bytes() == (whole / "samples.png").read_bytes()


@pytest.mark.slow
def test_twenty_kills(overrides: list[str], tmp_path: Path) -> None:
    def survive(kills: int, folder: str) -> dict[str, int]:
        command = [sys.executable, "-m", "tests.survival", str(kills), *overrides, f"paths.run={tmp_path / folder}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        report: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return report

    assert survive(0, "whole") == {"kills": 0, "in_the_middle_of_a_checkpoint": 0, "exit": 0}
    report = survive(KILLS, "cut")
    assert (report["kills"], report["exit"]) == (KILLS, 0)
    assert report["in_the_middle_of_a_checkpoint"] > 0
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_signals_finish_the_step_and_save(overrides: list[str], tmp_path: Path, number: signal.Signals) -> None:
    config = compose_config(*overrides, "training.checkpoint_steps=1000", f"paths.run={tmp_path / 'run'}")
    handler_before = signal.getsignal(number)
    metrics = tmp_path / "run" / "metrics.jsonl"
    over = threading.Event()

    def send_in_training() -> None:
        while not over.wait(0.005):
            if metrics.exists() and metrics.read_text().count("\n") >= 3:
                os.kill(os.getpid(), number)
                return

    sender = threading.Thread(target=send_in_training)
    sender.start()
    try:
        with pytest.raises(Interrupted, match="interrupted after step") as stopped:
            run_module.run(config)
    finally:
        over.set()
        sender.join()
    step = int(str(stopped.value).split("step ")[1].split(":")[0])
    assert 3 <= step < STEPS
    assert [f.name for f in (tmp_path / "run/checkpoints").iterdir()] == [f"step-{step:08d}.safetensors"]
    assert len(metrics_of(tmp_path / "run")) == step
    assert signal.getsignal(number) == handler_before


def test_signal_to_all_processes_of_a_run_that_reads_from_disk(overrides: list[str], tmp_path: Path) -> None:
    """As SLURM sends it: the processes that read ahead leave it to the main one, which saves."""
    streaming = ("loader.memory_gb=0", "loader.workers=2", "training.checkpoint_steps=1000")
    command = [sys.executable, str(CONF.parent / "run.py"), *overrides, *streaming, f"paths.run={tmp_path / 'run'}"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3)
    os.killpg(run.pid, signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 75, errors
    assert "interrupted after step" in errors
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    assert not subprocess.run(["pgrep", "-g", str(run.pid)], capture_output=True, check=False).stdout
