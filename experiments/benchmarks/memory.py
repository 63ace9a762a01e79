"""Peaks of memory, and the largest batch that fits."""

import gc
import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo

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
        CLEAR_REFS.write_text(RESET_PEAK, encoding="utf-8")


def peak_gib(device: torch.device) -> float:
    """Return the peak since :func:`start_peak`: PyTorch's on a GPU; on a CPU the process's, or NaN if not available."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8")) if STATUS.exists() else None
    return int(found[1]) * 1024 / GIB if found else float("nan")


def largest_batch(device: torch.device, once: Callable[[int], None], start: int) -> int:
    """``start`` times or by the power of two with which ``once`` just does not run out of the GPU's memory; 0: none."""

    def fits(size: int) -> bool:
        torch._dynamo.reset()  # it stops compiling after some shapes
        try:
            start_peak(device)
            once(size)
        except torch.OutOfMemoryError:
            return False
        return True

    size = start
    if fits(size):
        while 2 * size <= LARGEST_TRIED and fits(2 * size):
            size *= 2
        return size
    while size and not fits(size := size // 2):
        pass
    return size
