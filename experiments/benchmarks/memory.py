"""Peaks of memory, and the largest batch that fits."""

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # proc(5): the peak of resident memory begins anew
GIB = 2**30
LARGEST_TRIED = 2**16


def start_peak(device: torch.device) -> None:
    """Begin to look for the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_gib(device: torch.device) -> float:
    """Since :func:`start_peak`: of PyTorch on a GPU; on a CPU of the whole process, where the system tells it (else NaN)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) * 1024 / GIB if found else float("nan")


def largest_batch(bench: Any, once: Callable[[int], None]) -> int:
    """The largest power of two for which ``once`` does not run out of the GPU's memory; 0 if not even 1 fits."""
    size = 1
    while size <= LARGEST_TRIED:
        try:
            start_peak(bench.device)
            once(size)
        except torch.OutOfMemoryError:
            break
        size *= 2
    return size // 2
