"""Two real processes over gloo: the same trajectory as one, one record, and how they end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import submitit
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from experiments.exits import EXIT_INTERRUPTED, EXIT_USER_ERROR
from gat.errors import EXIT_LOST_PROCESS, UserError
from gat.processes import Processes, launched_by
from gat.training import run as run_module
from gat.training.results import numbers_of
from tests.conftest import compose_config
from tests.small_run import SMALL, metrics_of, write_images
from tests.small_sweep import until

SCRIPT = Path(__file__).parent.parent / "experiments" / "run.py"
STEPS = 12


def overrides_in(folder: Path, name: str) -> list[str]:
    """A run that accumulates, aligns, evaluates with a classifier-free protocol, and logs every step."""
    lengths = (f"training.total_steps={STEPS}", "training.eval_steps=6", "training.checkpoint_steps=1")
    paths = (f"data.root={folder / 'images'}", f"paths.prepared={folder / 'prepared'}", f"paths.run={folder / name}")
    return [*SMALL, *lengths, *paths]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and the run of one process, ``one``."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "images").mkdir()
    write_images(folder / "images")
    assert run_module.run(compose_config(*overrides_in(folder, "one"))) is not None
    return folder


def start(overrides: list[str], folder: Path, command: Sequence[str] = (str(SCRIPT),)) -> list["subprocess.Popen[str]"]:
    """Start two processes in torchrun's environment; ``RANK`` in ``overrides`` is replaced by each one's rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = os.environ | {key: str(value) for key, value in places.items()}
        environment |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent.parent)}
        line = [sys.executable, *command, *(override.replace("RANK", str(rank)) for override in overrides)]
        processes.append(
            subprocess.Popen(
                line, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    return processes


COMPARED = ("d_loss", "g_loss", "alignment", "sample_rms")


def assert_same_trajectory(
    expected: Path, ours: Path, *, tolerance: float, compared: tuple[str, ...] = COMPARED, atol: float = 2e-5
) -> None:
    """``atol``: of the class means of w."""
    lines, expected_lines = metrics_of(ours), metrics_of(expected)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line, wanted in zip(lines, expected_lines, strict=True):
        assert line.keys() == wanted.keys()
        for name in compared:
            assert line[name] == pytest.approx(wanted[name], rel=tolerance, abs=tolerance), (line["step"], name)
    name = f"checkpoints/step-{STEPS:08d}.safetensors"
    weights, wanted_weights = load_file(ours / name), load_file(expected / name)
    for network in ("generator", "discriminator", "ema"):
        keys = [key for key in weights if key.startswith(f"{network}.") and "mean_w" not in key]
        a, b = (torch.cat([w[key].flatten() for key in keys]) for w in (weights, wanted_weights))
        assert float((a - b).norm() / b.norm()) < tolerance
    means = "generator.mean_w"  # of all processes' samples, not of rank 0's
    assert torch.allclose(weights[means], wanted_weights[means], rtol=tolerance, atol=atol)


@pytest.mark.slow
def test_two_processes_follow_the_trajectory_of_one(one: Path) -> None:
    processes = start(overrides_in(one, "two"), one)
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "finished after 12 steps" in outputs[0][0]
    assert "finished" not in outputs[1][0]  # only the main process speaks
    assert_same_trajectory(one / "one", one / "two", tolerance=2e-3)
    distances = [numbers_of(metrics_of(one / name)[-1])["FD-EfficientNetLite0-8"]["value"] for name in ("one", "two")]
    assert distances[1] == pytest.approx(distances[0], rel=2e-2)


@pytest.mark.slow
def test_two_processes_with_the_terms_of_successors(one: Path) -> None:
    """Both take the penalties of the same rows as one process, and exchange gradients of G's projector."""
    terms = ("penalty_fraction=0.5", "generator_alignment_weight=0.5", "consistency_weight=0.1")
    objective = [f"objective.{term}" for term in terms]
    assert run_module.run(compose_config(*overrides_in(one, "one-more"), *objective)) is not None
    processes = start([*overrides_in(one, "two-more"), *objective], one)
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    compared = ("d_loss", "g_loss", "alignment", "consistency")  # sample_rms is a mean of roots: not the same in parts
    paths = one / "one-more", one / "two-more"
    assert_same_trajectory(*paths, tolerance=2e-3, compared=compared, atol=4e-5)  # 3.1e-5 was observed
    first, expected = (metrics_of(one / name)[0] for name in ("two-more", "one-more"))
    for name in ("ar1", "ar2", "generator_alignment"):
        assert first[name] == pytest.approx(expected[name], rel=1e-3), name


@pytest.mark.slow
def test_death_of_one_ends_the_other_and_one_process_goes_on(one: Path) -> None:
    processes = start(overrides_in(one, "mourned"), one)
    metrics = one / "mourned/metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert time.monotonic() < deadline
        assert processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.005)
    processes[1].kill()
    killed = time.monotonic()
    _, errors = processes[0].communicate(timeout=60)
    assert time.monotonic() - killed < 60
    processes[1].communicate()
    assert processes[0].returncode == EXIT_LOST_PROCESS
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "another process of this run ended" in told[0]
    assert "Traceback" not in errors
    assert run_module.run(compose_config(*overrides_in(one, "mourned"))) is not None  # now one process
    assert_same_trajectory(one / "one", one / "mourned", tolerance=2e-3)


HELD_SAVE = """
import time
from gat.training.run_folder import RunFolder
save = RunFolder.save
def held(self, *arguments, **named):
    (self.path / "saving").touch()
    while not (self.path / "go").exists():
        time.sleep(0.1)
    save(self, *arguments, **named)
RunFolder.save = held
from experiments.run import main
main()
"""


@pytest.mark.slow
def test_all_wait_until_an_interrupted_run_is_saved(one: Path) -> None:
    """If one exited earlier, torchrun would kill the main process, which is still saving."""
    run = one / "waiting"
    overrides = [*overrides_in(one, run.name), "training.total_steps=5000", "training.checkpoint_steps=5000"]
    processes = start([*overrides, "evaluation.samples=0"], one, ("-c", HELD_SAVE))
    until(lambda: (run / "metrics.jsonl").exists() and metrics_of(run) != [])
    processes[1].send_signal(signal.SIGTERM)
    until(lambda: (run / "saving").exists())
    with pytest.raises(subprocess.TimeoutExpired):
        processes[1].wait(10)
    (run / "go").touch()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [EXIT_INTERRUPTED] * 2, outputs
    assert [file.suffix for file in (run / "checkpoints").iterdir()] == [".safetensors"]


@pytest.mark.slow
def test_torchrun_passes_sigusr2_on_as_documented(one: Path) -> None:
    run = one / "elastic"
    overrides = [*overrides_in(one, run.name), "training.total_steps=5000", "training.checkpoint_steps=5000"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = ["--signals-to-handle=SIGTERM,SIGUSR2", "--shutdown-timeout=600"]
    command = [*torchrun, *options, str(SCRIPT), *overrides, "evaluation.samples=0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen(command, cwd=one, env=environment, text=True, stderr=subprocess.PIPE)
    until(lambda: (run / "metrics.jsonl").exists() and metrics_of(run) != [])
    launcher.send_signal(signal.SIGUSR2)
    _, errors = launcher.communicate(timeout=100)
    assert "stopped: interrupted after step" in errors
    assert [file.suffix for file in (run / "checkpoints").iterdir()] == [".safetensors"]


@pytest.mark.slow
def test_settings_that_differ_between_processes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    processes = start([*overrides_in(tmp_path, "torn"), "training.seed=RANK"], tmp_path)
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [EXIT_USER_ERROR] * 2, outputs
    for _, errors in outputs:
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert "training.seed=1 in process 1 of this run, but 0 in process 0" in lines[0]
    assert not (tmp_path / "torn").exists()


DEAF = """
import sys, time
from experiments.exits import exits
from gat import processes
from gat.errors import UserError
from tests.conftest import compose_config
processes.LOSS_GRACE_S = 1.0
with exits(), processes.joined(compose_config("training.device=cpu")) as joined:
    print("joined", flush=True)
    if joined.rank == 1 and sys.argv[1] == "error":
        raise UserError("a mistake of one")
    time.sleep(600)
"""


@pytest.mark.parametrize(("ends", "code"), [("killed", -signal.SIGKILL), ("error", EXIT_USER_ERROR)])
def test_a_process_that_no_error_reaches_ends_when_another_has(tmp_path: Path, ends: str, code: int) -> None:
    """A process that waits for NCCL gets no error when another one dies."""
    processes = start([ends], tmp_path, ("-c", DEAF))
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
    if ends == "killed":
        processes[1].kill()
    try:
        _, errors = processes[0].communicate(timeout=30)
    finally:
        processes[0].kill()
    processes[1].communicate(timeout=30)
    assert [process.returncode for process in processes] == [EXIT_LOST_PROCESS, code]
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        "error: rank 0: another process of this run ended (rank 1): see its message; the same command goes on from the "
        "last checkpoint"
    ]


@pytest.mark.slow
def test_submitit_starts_the_processes(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    executor = submitit.LocalExecutor(tmp_path)
    executor.update_parameters(tasks_per_node=2, timeout_min=4)
    config = compose_config(*overrides_in(one, "submitted"))
    main, other = executor.submit(run_module.run, config).results()
    assert main is not None
    assert other is None
    assert main["status"] == "finished"
    assert main["hardware"]["processes"] == 2
    assert_same_trajectory(one / "one", one / "submitted", tolerance=2e-3)


def test_rows_are_disjoint_and_cover_the_batch() -> None:
    parts = [Processes(rank=rank, count=4).rows(12) for rank in range(4)]
    assert [i for part in parts for i in range(12)[part]] == list(range(12))
    with pytest.raises(UserError, match="training.batch_size=10 is not divisible by 4 processes"):
        Processes(rank=0, count=4).rows(10)


def test_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert launched_by() is None
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert launched_by() == "torchrun"
    slurm = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_NUM_NODES": "1"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun inside a submitit job"):
        launched_by()
    monkeypatch.delenv("WORLD_SIZE")
    assert launched_by() == "submitit"


def test_compiled_blocks_stay_whole_under_ddp(tmp_path: Path) -> None:
    """PyTorch's own optimizer of DDP would compile each of these blocks in three graphs, one per bucket of gradients."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    blocks = [nn.Sequential(*(nn.Linear(3000, 3000, bias=False) for _ in range(3))) for _ in range(2)]
    for block in blocks:
        block.compile(backend=backend)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        Processes(count=2).parallel(nn.Sequential(*blocks))(torch.ones(1, 3000)).sum().backward()
    finally:
        dist.destroy_process_group()
    assert len(graphs) == 2
