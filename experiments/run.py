"""Train one GAT from its configuration: ``python experiments/run.py [group=option] [field=value] ...``."""

import sys
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from gat.config import Config
from gat.errors import UserError
from gat.training.trainer import run

EXIT_USER_ERROR = 2
CONF = Path(__file__).parent / "conf"

ConfigStore.instance().store(name="schema", node=Config)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(settings: DictConfig) -> None:
    """Run, then say where everything lies; a mistake of the user's is one line and exit code 2."""
    try:
        record = run(cast(Config, OmegaConf.to_object(settings)))
    except MissingMandatoryValue as error:
        sys.exit(fail(f"{error.full_key} is not set: give {error.full_key}=VALUE on the command line"))
    except UserError as error:
        sys.exit(fail(str(error)))
    report(record)


def fail(message: str) -> int:
    """Print one line to standard error; returns the exit code for a user's mistake."""
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR


def report(record: dict[str, Any]) -> None:
    """Print the final figures and where the run's files lie."""
    folder, final = record["run_folder"], record["final_metrics"]
    print(f"\nfinished after {final['step']} steps ({final['images']} images) in {record['training_seconds']:.0f} s")
    for name in final:
        if name.startswith(("FD-", "FID", "class_accuracy")):
            print(f"  {name:<28} {final[name]:.4g}")
    print(f"  configuration                {folder}/config.yaml")
    print(f"  metrics                      {folder}/metrics.jsonl")
    print(f"  record                       {folder}/record.json")
    print(f"  samples, a row per class     {folder}/samples.png")
    print(f"  checkpoint                   {record['checkpoint']}")


if __name__ == "__main__":
    main()
