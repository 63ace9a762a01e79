"""Kill a run with SIGKILL again and again: ``python -m tests.survival KILLS OVERRIDE...``.

Each attempt is a real process, forked after the imports. Every other one is killed at a random moment, the others as soon as
the first bytes of a checkpoint are being written. When KILLS are reached the run is left to its end. Prints what was done.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from gat.config import Config
from gat.training.run import run
from gat.training.run_folder import RunFolder
from tests.conftest import compose_config


def attempt(config: Config) -> int:
    """Start the run in a process of its own; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    run(config)
    os._exit(0)


def kill(pid: int, folder: Path, *, while_writing: bool, patience_s: float) -> bool:
    """Kill ``pid`` at a moment of its training; whether it had not ended before."""
    deadline = time.monotonic() + patience_s
    before = set(folder.glob("checkpoints/step-*"))
    training = False
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        training = training or set(folder.glob("checkpoints/step-*")) != before
        if training and while_writing and any(folder.glob("checkpoints/.step-*")):
            break
        if training and not while_writing:
            time.sleep(random.uniform(0, 0.3))
            break
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def main() -> None:
    """Kill, start again, and at last let it end."""
    kills, config = int(sys.argv[1]), compose_config(*sys.argv[2:])
    folder = RunFolder(config).path
    done, mid_write = 0, 0
    for number in range(3 * kills):
        if done == kills:
            break
        if kill(attempt(config), folder, while_writing=number % 2 == 0, patience_s=20):
            done += 1
            mid_write += any(folder.glob("checkpoints/.step-*"))
    _, status = os.waitpid(attempt(config), 0)
    print(
        json.dumps(
            {"kills": done, "in_the_middle_of_a_checkpoint": mid_write, "exit": os.waitstatus_to_exitcode(status)}
        )
    )


if __name__ == "__main__":
    main()
