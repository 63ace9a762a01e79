"""The machine: which device to use, what to record of it, and how it is to compute."""

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gat.errors import UserError, require_choice

RECORDED_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "diffusers",
    "torch-fidelity",
    "numpy",
    "pillow",
    "pyarrow",
    "scikit-learn",
    "hydra-core",
)
M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD = -4, -2, -1  # glibc's malloc.h
KEEP_BYTES = 2**31 - 1
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
GROW_BYTES = 64 * 2**20


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """``auto`` takes a GPU if there is one, the ``local_rank``-th; :class:`UserError` for ``cuda`` without a GPU."""
    require_choice("training.device", name, ("auto", "cpu", "cuda"))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("training.device=cuda, but PyTorch sees no GPU: use training.device=cpu, or check the driver")
    if name == "cuda" and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this node has no GPU, there are {torch.cuda.device_count()}: start as many as GPUs"
        )
    return torch.device(name, local_rank) if name == "cuda" else torch.device(name)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of handing it back to the system after every large tensor.

    Page faults otherwise cost about a quarter of a CPU training step. Does nothing where there is no glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
        libc.mallopt(M_TOP_PAD, GROW_BYTES)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's work on the CPU in one thread: the order of its sums, and so their rounding, depends on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products in fp32 on a GPU without TF32: numbers must not depend on the hardware's habits."""
    with _tf32(False):
        yield


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    """Products in fp32 on a GPU by TF32: for what autocast leaves in fp32 while training in bf16, which is coarser."""
    with _tf32(True):
        yield


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def cores() -> int:
    """Cores that this process may use: by affinity, and by the quota of its control group (v2) if it has one."""
    allowed = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = CPU_MAX.read_text(encoding="utf-8").split()
        allowed = min(allowed, max(1, int(quota) // int(period)))
    return allowed


def hardware() -> dict[str, Any]:
    """Processor, cores usable, PyTorch's threads (rounding on the CPU depends on them), memory in GiB, and GPUs by name."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape results."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in RECORDED_PACKAGES
    }


def git_state() -> dict[str, Any]:
    """Commit of the code and whether the working tree differs from it; commit null outside a git checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
