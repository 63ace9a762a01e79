"""Train one GAT from its configuration, or with ``-m`` launch a sweep of them.

``python experiments/run.py [group=option] [field=value] ...``, ``python experiments/run.py -m sweep=NAME study=NAME ...``.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from experiments.exits import exits
from experiments.settings import CONF, register, run_config
from gat.errors import UserError

register()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(settings: DictConfig) -> None:
    """Run, then say where everything lies; a mistake of the user's is one line and exit code 2."""
    from gat.training.run import run  # seconds of imports, which a sweep can do without

    with exits():
        if settings.sweep.claim is not None or settings.sweep.arms:
            raise UserError(f"sweep={settings.sweep.name} is many runs: launch them with -m")
        record = run(run_config(settings))
        if record is not None:
            report(record)


def report(record: dict[str, Any]) -> None:
    """Print the final figures and where the run's files lie."""
    folder, final = record["run_folder"], record["final_metrics"]
    print(f"\n{record['status']} after {final['step']} steps ({final['images']} images)")
    if record["diverged"]:
        print(f"  it diverged at step {record['diverged']['step']}: {record['diverged']['reason']}")
    for numbers in final.get("evaluations", {}).values():
        for name, number in numbers.items():
            print(f"  {name:<28} {'not finite' if number['value'] is None else format(number['value'], '.4g')}")
    print(f"  configuration                {folder}/config.yaml")
    print(f"  metrics                      {folder}/metrics.jsonl")
    print(f"  record                       {folder}/record.json")
    if (Path(folder) / "samples.png").exists():
        print(f"  samples, a row per class     {folder}/samples.png")
    if record["checkpoint"]:
        print(f"  checkpoint                   {record['checkpoint']}")


if __name__ == "__main__":
    main()
