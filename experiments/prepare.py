"""Turn images into what training reads, once: ``python experiments/prepare.py data=imagenet256 data.root=FOLDER ...``.

With ``-m`` SLURM jobs divide the work (``prepare.shards=N``). ``prepare.action=status|verify`` looks at what is there.
"""

import os
import sys
import time

from omegaconf import DictConfig

from experiments.exits import hydra_command
from experiments.settings import PrepareConfig, group, run_config
from gat.errors import UserError, require_choice


@hydra_command
def main(settings: DictConfig) -> None:
    """Prepare, or look; a mistake of the user's is one line and exit code 2."""
    from experiments.study.prepare_data import describe, prepare_data, progress, verify  # seconds of imports

    began = time.perf_counter()
    asked: PrepareConfig = group(settings, "prepare")
    require_choice("prepare.action", asked.action, ("make", "status", "verify"))
    config = run_config(settings)
    if asked.action == "make":
        if asked.shards != 1:
            raise UserError(f"prepare.shards={asked.shards} needs -m, which makes each shard a job: add -m")
        prepared = prepare_data(config, statistics=asked.statistics)
        if os.environ.get("RANK", "0") == "0":
            print(describe(prepared, began))
    else:
        print((progress if asked.action == "status" else verify)(config))


def command() -> None:
    """As typed, with the launcher of this command (beside another override: Hydra wants them in one row)."""
    first = next(
        (i for i, argument in enumerate(sys.argv) if i and "=" in argument and argument[0] != "-"), len(sys.argv)
    )
    sys.argv.insert(first, "hydra/launcher=prepare")
    main()


if __name__ == "__main__":
    command()
