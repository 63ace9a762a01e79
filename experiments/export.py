"""A generator as a diffusers pipeline: ``python experiments/export.py run=FOLDER [out=FOLDER] [export.push_to=OWNER/NAME]``.

Also of released weights: ``checkpoint=0150000.pt evaluation.decoder=stabilityai/sd-vae-ft-ema``. Writes generator,
autoencoder, class names and a model card with the run's record; ``gat.pipeline.GATPipeline.from_pretrained`` reads them.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.exits import exits, not_many
from experiments.settings import CONF, register

register()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(settings: DictConfig) -> None:
    """Export, and say where it lies; a mistake of the user's is one line and exit code 2."""
    from experiments.exporting import export  # seconds of imports

    with exits():
        print(export(settings, list(HydraConfig.get().overrides.task)))


if __name__ == "__main__":
    not_many(sys.argv)
    main()
