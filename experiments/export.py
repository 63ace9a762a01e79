"""A generator as a diffusers pipeline: ``python experiments/export.py run=FOLDER [out=FOLDER] [export.push_to=OWNER/NAME]``.

Also of released weights: ``checkpoint=0150000.pt evaluation.decoder=stabilityai/sd-vae-ft-ema``. Writes generator,
autoencoder, class names and a model card with the run's record; ``gat.pipeline.GATPipeline.from_pretrained`` reads them.
"""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.exits import hydra_command, not_many


@hydra_command
def main(settings: DictConfig) -> None:
    """Export, and say where it lies; a mistake of the user's is one line and exit code 2."""
    from experiments.exporting import export  # seconds of imports

    print(export(settings, list(HydraConfig.get().overrides.task)))


if __name__ == "__main__":
    not_many(sys.argv)
    main()
