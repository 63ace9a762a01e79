"""Draw samples: ``python experiments/sample.py checkpoint=PATH [sample.kind=grid|png|webdataset|npz|interpolation] ...``.

PATH: as for evaluate.py. ``sample.classes=[207,360] sample.count=500 sample.seed=0 evaluation.truncation=0.3``.
An interpolation moves in w through ``sample.seeds`` and ``sample.classes``. Under torchrun processes share the samples; an
interrupted command goes on. Writes into the run's ``samples/``, or ``out=PATH``.
"""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.exits import hydra_command, not_many


@hydra_command
def main(settings: DictConfig) -> None:
    """Draw, and say what was written; a mistake of the user's is one line and exit code 2."""
    from experiments.drawing import draw  # seconds of imports

    for line in draw(settings, list(HydraConfig.get().overrides.task)):
        print(line)


if __name__ == "__main__":
    not_many(sys.argv)
    main()
