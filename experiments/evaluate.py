"""Measure a generator: ``python experiments/evaluate.py checkpoint=PATH [evaluation=paper] [measure=all] ...``.

PATH: a run's folder or checkpoint, the authors' released .pt, a pipeline folder, or a hub name. The protocol is one of
``evaluation=training|paper|corrected``, or the run's own. Starts under torchrun too; an interrupted command goes on. Writes
one JSON record, with each number's protocol and interval, into the run's ``evaluations/``, or into ``out=FOLDER``.
"""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.exits import hydra_command, not_many


@hydra_command
def main(settings: DictConfig) -> None:
    """Evaluate and show; a mistake of the user's is one line and exit code 2."""
    from experiments.evaluating import evaluate, table  # seconds of imports

    record = evaluate(settings, list(HydraConfig.get().overrides.task))
    if record is not None:
        print(table(record))


if __name__ == "__main__":
    not_many(sys.argv)
    main()
