"""Several processes on one run: PyTorch's process group, launched by torchrun or by submitit (never both).

The global batch is cut into equal, disjoint parts by rank, so that the same settings follow the same trajectory with any
number of processes, to floating-point tolerance. Only the main process (rank 0) writes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import submitit
import torch
import torch.distributed as dist
from submitit.helpers import TorchDistributedEnvironment
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gat.errors import LostProcessError, UserError

STEP_TIMEOUT = timedelta(minutes=10)  # for processes that hang; one that dies is noticed at once
SETUP_TIMEOUT = timedelta(days=7)  # the others wait while the main process prepares data


@dataclass(frozen=True)
class Processes:
    """One process among those of the run. The default is the only one."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    setup_group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """The rank's part of ``total`` rows; :class:`UserError` unless the processes divide them."""
        if total % self.count:
            raise UserError(f"training.batch_size={total} is not divisible by {self.count} processes: change either")
        part = total // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` over the processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def from_main(self, values: Tensor) -> Tensor:
        """The main process's ``values``, in place."""
        if self.count > 1:
            dist.broadcast(values, src=0)
        return values

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process (exchanged on the CPU: the device is not waited for)."""
        return bool(self.sum(torch.tensor(float(flag)))) if self.count > 1 else flag

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block first, the others after it has left, and all leave together."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()
        self.wait()

    def wait(self) -> None:
        """Until every process has come here, however long the setup takes."""
        if self.count > 1:
            dist.barrier(group=self.setup_group)

    def parallel(self, model: nn.Module) -> nn.Module:
        """``model``, or with several processes its DistributedDataParallel, which averages gradients over them."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


ALONE = Processes()


def launched_by() -> str | None:
    """``torchrun`` or ``submitit`` if it started several processes here, else None; :class:`UserError` for both at once."""
    torchrun = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    try:
        environment = submitit.JobEnvironment()
        tasks = environment.num_tasks
    except RuntimeError:  # not in a job of submitit's
        tasks = 1
    if torchrun and tasks > 1:
        raise UserError(
            "torchrun inside a submitit job of several tasks: let one of them start the processes, not both"
        )
    if torchrun:
        return "torchrun"
    return "submitit" if tasks > 1 else None


@contextmanager
def joined(device_name: str) -> Iterator[Processes]:
    """Join the processes of this run for as long as the block lasts.

    ``device_name`` is training.device. Raises :class:`UserError` if there are fewer GPUs here than processes, and
    :class:`LostProcessError` in place of the error that reaches the others when a process of the run dies.
    """
    launcher = launched_by()
    if launcher is None:
        yield ALONE
        return
    if launcher == "submitit":
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    on_gpu = device_name != "cpu" and torch.cuda.is_available()
    local_rank = int(os.environ["LOCAL_RANK"])
    if on_gpu and local_rank >= torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        raise UserError(
            f"process {local_rank} of this node has no GPU, there are {gpus}: start as many processes as GPUs"
        )
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=STEP_TIMEOUT)
    try:
        group = dist.new_group(backend="gloo", timeout=SETUP_TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)
        yield Processes(dist.get_rank(), dist.get_world_size(), local_rank, group)
    except RuntimeError as error:
        if is_loss(error):
            raise LostProcessError(
                f"rank {dist.get_rank()}: another process of this run ended ({str(error).splitlines()[0][:160]}): see its "
                "message; the same command goes on from the last checkpoint"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def is_loss(error: RuntimeError) -> bool:
    """Whether ``error`` is what the communication of the processes raises when one of them has gone."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "connection closed", "connection reset", "nccl"))
