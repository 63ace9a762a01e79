"""Train one GAT from its configuration: ``python experiments/run.py [group=option] [field=value] ...``."""

import sys
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf

from gat.config import Config
from gat.errors import Interrupted, LostProcessError, UserError
from gat.training.run import run

EXIT_USER_ERROR = 2
EXIT_LOST_PROCESS = 70
EXIT_INTERRUPTED = 75  # "temporary failure": the same command goes on
CONF = Path(__file__).parent / "conf"

ConfigStore.instance().store(name="schema", node=Config)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(settings: DictConfig) -> None:
    """Run, then say where everything lies; a mistake of the user's is one line and exit code 2."""
    try:
        record = run(cast(Config, OmegaConf.to_object(settings)))
    except MissingMandatoryValue as error:
        sys.exit(fail(f"{error.full_key} is not set: give {error.full_key}=VALUE on the command line", EXIT_USER_ERROR))
    except UserError as error:
        sys.exit(fail(str(error), EXIT_USER_ERROR))
    except LostProcessError as error:
        sys.exit(fail(str(error), EXIT_LOST_PROCESS))
    except Interrupted as interruption:
        sys.exit(fail(str(interruption), EXIT_INTERRUPTED, kind="stopped"))
    if record is not None:
        report(record)


def fail(message: str, code: int, kind: str = "error") -> int:
    """Print one line to standard error; returns the exit ``code``."""
    print(f"{kind}: {message}", file=sys.stderr, flush=True)
    return code


def report(record: dict[str, Any]) -> None:
    """Print the final figures and where the run's files lie."""
    folder, final = record["run_folder"], record["final_metrics"]
    print(f"\n{record['status']} after {final['step']} steps ({final['images']} images)")
    if record["diverged"]:
        print(f"  it diverged at step {record['diverged']['step']}: {record['diverged']['reason']}")
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
