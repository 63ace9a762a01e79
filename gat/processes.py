"""Several processes on one run: PyTorch's process group, launched by torchrun or by submitit (never both).

The global batch is cut into equal, disjoint parts by rank, so that the same settings follow the same trajectory with any
number of processes, to floating-point tolerance. Only the main process (rank 0) writes.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from threading import Event, Lock, Thread, Timer
from typing import Any

import submitit
import torch
import torch.distributed as dist
from submitit.helpers import TorchDistributedEnvironment
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gat.config import Config
from gat.errors import EXIT_LOST_PROCESS, Interrupted, LostProcessError, UserError

STEP_TIMEOUT = timedelta(minutes=10)  # for processes that hang; one that dies is noticed at once
SETUP_TIMEOUT = timedelta(days=7)  # the others wait while the main process prepares data, measures or saves
LOSS_GRACE_S = 45.0  # for an orderly end after another process died; one that waits for NCCL does not notice the death
IN_ORDER, BY_ERROR = 1.0, 2.0  # how a process ends
LOST = "another process of this run ended ({}): see its message; the same command goes on from the last checkpoint"
OF_ITS_MACHINE = ("loader", "tracker", "paths.prepared")  # prefixes of the settings that may differ between processes


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

    def as_main(self, flag: bool) -> bool:
        """Return the main process's ``flag``, for facts (e.g. files on disk) that may change between the processes' reads."""
        return bool(self.from_main(torch.tensor(float(flag))))

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is true in any process (exchanged on the CPU: the device is not waited for)."""
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
        """Wait until every process is here, however long the main one works alone."""
        if self.count > 1:
            dist.barrier(group=self.setup_group)

    def require_same(self, config: Config) -> None:
        """Raise :class:`UserError` in every process unless all have the same settings, except those in ``OF_ITS_MACHINE``."""
        if self.count == 1:
            return
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, _flat(asdict(config)), group=self.setup_group)
        for rank, theirs in enumerate(found):
            for name, value in found[0].items():
                if theirs[name] != value and not name.startswith(OF_ITS_MACHINE):
                    raise UserError(
                        f"{name}={theirs[name]} in process {rank} of this run, but {value} in process 0: start all with "
                        "the same settings"
                    )

    def parallel(self, model: nn.Module) -> nn.Module:
        """``model``, or with several processes its DistributedDataParallel, which averages gradients over them."""
        if self.count == 1:
            return model
        torch._dynamo.config.optimize_ddp = (
            False  # it would cut each compiled block in three; gradients overlap by block
        )
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
def joined(config: Config) -> Iterator[Processes]:
    """Join the processes of this run for as long as the block lasts.

    Raises :class:`UserError` if there are fewer GPUs here than processes, or their settings differ, and
    :class:`LostProcessError` in place of gloo's or NCCL's error when another process of the run has died. A process that
    waits for NCCL gets no such error: it prints a line and exits after ``LOSS_GRACE_S``.
    """
    launcher = launched_by()
    if launcher is None:
        yield ALONE
        return
    if launcher == "submitit":
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    on_gpu = config.training.device != "cpu" and torch.cuda.is_available()
    local_rank = int(os.environ["LOCAL_RANK"])
    if on_gpu and local_rank >= torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        raise UserError(
            f"process {local_rank} of this node has no GPU, there are {gpus}: start as many processes as GPUs"
        )
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=STEP_TIMEOUT)
    over = Event()
    try:
        setup, watch = (dist.new_group(backend="gloo", timeout=SETUP_TIMEOUT) for _ in range(2))
        assert isinstance(setup, dist.ProcessGroup)
        assert isinstance(watch, dist.ProcessGroup)
        processes = Processes(dist.get_rank(), dist.get_world_size(), local_rank, setup)
        with watching(watch, over):
            processes.require_same(config)
            yield processes
    except RuntimeError as error:
        if is_loss(error):
            reason = str(error).splitlines()[0][:160]
            raise LostProcessError(f"rank {dist.get_rank()}: {LOST.format(reason)}") from error
        raise
    finally:
        dist.destroy_process_group()
        over.set()


@contextmanager
def watching(group: dist.ProcessGroup, over: Event) -> Iterator[None]:
    """End this process ``LOSS_GRACE_S`` after another one died or ended by an error, unless ``over`` is set by then.

    For each other process, a thread waits for the message how that one ends; gloo raises if it dies without a message. The
    process is ended, as raising in the block is unsafe: data on the device must not be used after NCCL is aborted.
    Each process sends each other exactly one message, when it ends or in reply (gloo's send waits for the recv), so that no
    thread stays blocked.
    """
    rank = dist.get_rank()
    unsaid, one_says = set(range(dist.get_world_size())) - {rank}, Lock()
    peers = sorted(unsaid)

    def say(how: float, peer: int) -> None:
        with one_says:
            if peer not in unsaid:
                return
            unsaid.remove(peer)
        with suppress(RuntimeError):  # it may have ended already
            dist.send(torch.tensor([how]), peer, group=group)

    def end(peer: int) -> None:
        if not over.is_set():
            print(f"error: rank {rank}: {LOST.format(f'rank {peer}')}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(EXIT_LOST_PROCESS)

    def watch(peer: int) -> None:
        how = torch.tensor([BY_ERROR])
        with suppress(RuntimeError):
            dist.recv(how, peer, group=group)
        say(IN_ORDER, peer)
        if how.item() != IN_ORDER:
            timer = Timer(LOSS_GRACE_S, end, [peer])
            timer.daemon = True
            timer.start()

    threads = [Thread(target=watch, args=(peer,), daemon=True) for peer in peers]
    for thread in threads:
        thread.start()
    how = BY_ERROR
    try:
        yield
        how = IN_ORDER
    except Interrupted:
        how = IN_ORDER
        raise
    finally:
        for peer in peers:
            say(how, peer)
        for thread in threads:
            thread.join(5)


def is_loss(error: RuntimeError) -> bool:
    """Whether ``error`` is what the communication of the processes raises when one of them has gone."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "connection closed", "connection reset", "nccl"))


def _flat(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= _flat(value, f"{group}{name}.") if isinstance(value, Mapping) else {f"{group}{name}": value}
    return found
